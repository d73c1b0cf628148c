"""Table 11 side by side: as printed, normalised, the derivation w N, and what the active mixture asks and gets.

w: the weights of OpenVLA's oxe_magic_soup_plus; N: steps after filter and transform. 100 w N / sum(w N) times one
factor (0.9535) gives the printed digit in 22 of 27 rows; the two rows that the paper prints "<0.1" take that value.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from whale.data.mixture import MixConfig, largest_remainder, normalized
from whale.planning.datasets import Facts

FIT = 0.9535


@dataclass(frozen=True)
class MixtureRow:
    """Percent, except `draws`: of a block. None: not of Table 11, or not of the active mixture."""

    name: str
    printed: str
    printed_normalized: float | None
    w_times_n: float | None
    w_times_n_fitted: float | None
    asked: float | None
    share: float | None
    draws: int | None
    source: str


def mixture_rows(facts: Facts, mix: MixConfig) -> list[MixtureRow]:
    """Every dataset of Table 11 and of the active mixture, in the table's order, then by name."""
    derived = _w_times_n(facts)
    printed = {name: fact.table11 if fact.table11 is not None else FIT * derived[name]
               for name, fact in facts.datasets.items()}  # fmt: skip
    total = sum(printed.values())
    shares = normalized({name: weight.weight for name, weight in mix.weights.items()})
    draws = largest_remainder(shares, mix.block)
    names = [*facts.datasets, *sorted(set(mix.weights) - set(facts.datasets))]
    return [
        MixtureRow(
            name=name,
            printed=_printed(facts, name),
            printed_normalized=100 * printed[name] / total if name in printed else None,
            w_times_n=derived.get(name),
            w_times_n_fitted=FIT * derived[name] if name in derived else None,
            asked=mix.weights[name].weight if name in mix.weights else None,
            share=100 * float(shares[name]) if name in shares else None,
            draws=draws.get(name),
            source=mix.weights[name].source if name in mix.weights else "",
        )
        for name in names
    ]


def totals(rows: list[MixtureRow]) -> Mapping[str, float]:
    """Sums of the columns: the printed numbers sum to 94.8."""
    columns = ("printed_normalized", "w_times_n", "w_times_n_fitted", "asked", "share", "draws")
    sums = {column: sum(getattr(row, column) or 0 for row in rows) for column in columns}
    return {"printed": sum(float(row.printed) for row in rows if row.printed not in ("", "<0.1")), **sums}


def _w_times_n(facts: Facts) -> dict[str, float]:
    products = {name: fact.openvla_weight * fact.steps for name, fact in facts.datasets.items()}
    total = sum(products.values())
    return {name: 100 * product / total for name, product in products.items()}


def _printed(facts: Facts, name: str) -> str:
    if name not in facts.datasets:
        return ""
    value = facts.datasets[name].table11
    return "<0.1" if value is None else f"{value:.1f}"
