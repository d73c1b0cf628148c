"""The flat metrics of the evaluation stages: `role.dataset.split.metric` -> value, and what may be averaged."""

from collections.abc import Mapping

from whale.evaluation.protocol import require_comparable

Numbers = Mapping[str, object]


def group_mean(numbers: Numbers, role: str, metric: str) -> float | None:
    """Mean of a metric over the datasets and splits of a role; None if none has it.

    Only numbers whose protocols differ in data and model alone may be averaged (ConfigError otherwise).
    """
    groups = [name for name in groups_of(numbers, role) if isinstance(numbers.get(f"{name}.{metric}"), (int, float))]
    protocols = [_protocol_of(numbers, name, metric) for name in groups]
    for other in protocols[1:]:
        require_comparable(_without_data(protocols[0]), _without_data(other))
    values = [float(numbers[f"{name}.{metric}"]) for name in groups]  # type: ignore[arg-type]
    return sum(values) / len(values) if values else None


def groups_of(numbers: Numbers, role: str) -> list[str]:
    """`role.dataset.split` of every group, sorted; `role.codebook` is of all of them together."""
    parts = [key.split(".") for key in numbers if key.startswith(f"{role}.")]
    return sorted({".".join(part[:3]) for part in parts if len(part) > 3})


def horizons_of(numbers: Numbers) -> list[str]:
    """`h1`, `h4`, ... in numeric order."""
    found = {part for key in numbers for part in key.split(".") if part[:1] == "h" and part[1:].isdigit()}
    return sorted(found, key=lambda name: int(name[1:]))


def _protocol_of(numbers: Numbers, group: str, metric: str) -> str:
    """The protocol of the innermost group that has one."""
    parts = metric.split(".")
    for length in range(len(parts) - 1, -1, -1):
        key = ".".join([group, *parts[:length], "protocol"])
        if isinstance(numbers.get(key), str):
            return str(numbers[key])
    return ""


def _without_data(protocol: str) -> str:
    """Without what belongs to the data: their name, their bytes, and how many windows they have."""
    return "|".join(part for part in protocol.split("|") if part.split("=")[0] not in ("data", "shards", "windows"))
