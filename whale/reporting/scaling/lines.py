"""What the lines over log FLOP say, in words, bad news first."""

from dataclasses import dataclass

from whale.reporting.measured import Numbers
from whale.reporting.page import number

FITS = ".fit."
HOLDS = "holds"
TITLES = {"pretrain.mean.training": "training loss at equal tokens"}


@dataclass(frozen=True)
class Line:
    """One fit: `place` as role.mean.split, `data` as data100, data10, ... or all."""

    place: str
    data: str
    numbers: Numbers

    @property
    def holds(self) -> bool:
        return self.numbers["status"] == HOLDS

    @property
    def title(self) -> str:
        return f"{title_of(self.place)}, {words_of(self.data)}"

    def row(self) -> list[str]:
        """Title, status, a, b, R^2, error of the held-out largest size, that of no change."""
        b, r2 = interval(self.numbers, "b"), number(self.numbers["r2"])
        error = interval(self.numbers, "held_out_largest.error")
        other = number(self.numbers["held_out_largest.error_no_change"], 3)
        return [self.title, str(self.numbers["status"]), number(self.numbers["a"], 3), b, r2, error, other]


def lines_of(numbers: Numbers) -> list[Line]:
    """Those that do not hold stand first."""
    groups: dict[tuple[str, str], dict[str, object]] = {}
    for key, value in numbers.items():
        place, is_fit, rest = key.partition(FITS)
        if is_fit:
            data, _, metric = rest.partition(".")
            groups.setdefault((place, data), {})[metric] = value
    return sorted((Line(*key, of_one) for key, of_one in groups.items()), key=lambda line: (line.holds, line.title))


def verdict(lines: list[Line]) -> list[str]:
    """Bad news first."""
    fails = [line for line in lines if not line.holds]
    said = [f"{line.title}: {line.numbers['status']}." for line in fails]
    if held := [line.title for line in lines if line.holds]:
        said.append(f"A line over log FLOP holds for: {'; '.join(held)}.")
    return [f"{len(fails)} of {len(lines)} lines do not hold.", *said] if lines else ["No line: too few sizes."]


def title_of(place: str) -> str:
    """`pretrain.mean.test` in words."""
    role, _, split = place.split(".")
    tuned = ", after fine-tuning" if role == "finetune" else ""
    return TITLES.get(place, f"loss on {split} episodes{tuned}")


def words_of(data: str) -> str:
    """`data12_5` in words."""
    return "all data fractions" if data == "all" else f"{data.removeprefix('data').replace('_', '.')} % of the episodes"


def interval(numbers: Numbers, key: str) -> str:
    """A number of `numbers` with its interval, for people."""
    value, low, high = (numbers.get(key + end) for end in ("", ".low", ".high"))
    shown = number(value, 3)
    return shown if low is None or high is None else f"{shown} [{number(low, 3)}, {number(high, 3)}]"
