"""The flat metrics of the evaluation stages: `role.dataset.split.metric` -> value, and what may be averaged."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from whale.evaluation.numbers.protocol import require_comparable

Numbers = Mapping[str, object]


def group_mean(numbers: Numbers, role: str, metric: str) -> float | None:
    """Mean of a metric over the datasets and splits of a role; None if none has it."""
    names = [f"{group}.{metric}" for group in groups_of(numbers, role)]
    names = [name for name in names if isinstance(numbers.get(name), (int, float))]
    return mean(numbers, names) if names else None


def mean(numbers: Numbers, names: Sequence[str]) -> float:
    """Only numbers whose protocols differ in data and model alone may be averaged (ConfigError otherwise)."""
    first, *others = [_without_data(_protocol_of(numbers, name)) for name in names]
    for other in others:
        require_comparable(first, other)
    return fmean(float(numbers[name]) for name in names)  # type: ignore[arg-type]


def groups_of(numbers: Numbers, role: str) -> list[str]:
    """`role.dataset.split` of every group, sorted; `role.codebook` is of all of them together."""
    parts = [key.split(".") for key in numbers if key.startswith(f"{role}.")]
    return sorted({".".join(part[:3]) for part in parts if len(part) > 3})


def horizons_of(numbers: Numbers) -> list[str]:
    """`h1`, `h4`, ... in numeric order."""
    found = {part for key in numbers for part in key.split(".") if part[:1] == "h" and part[1:].isdigit()}
    return sorted(found, key=lambda name: int(name[1:]))


def _protocol_of(numbers: Numbers, name: str) -> str:
    """The protocol of the innermost group that has one."""
    while group := name.rpartition(".")[0]:
        if isinstance(found := numbers.get(f"{group}.protocol"), str):
            return found
        name = group
    return ""


def _without_data(protocol: str) -> str:
    """Without what belongs to the data: their name, their bytes, and how many windows they have."""
    return "|".join(part for part in protocol.split("|") if part.split("=")[0] not in ("data", "shards", "windows"))
