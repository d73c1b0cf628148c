"""Two sampling plans side by side: which fields differ. A run never goes on under another plan than it began with."""

from collections.abc import Mapping
from typing import Any

from whale.common.errors import RefusedError
from whale.data.loading.sampler import Plan


def plan_difference(saved: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """One line per differing field, datasets by name: `datasets.fleet_a.per_block: 50 -> 40`."""
    first, second = _flat(saved), _flat(current)
    names = [name for name in sorted(first | second) if first.get(name) != second.get(name)]
    return [f"{name}: {first.get(name, 'absent')} -> {second.get(name, 'absent')}" for name in names]


def require_same_plan(saved: Mapping[str, Any], current: Plan) -> None:
    """Raises RefusedError that lists what differs, saved -> current."""
    lines = plan_difference(saved, current.model_dump(mode="json"))
    if lines:
        raise RefusedError(
            "resuming under another sampling plan would skip or repeat samples", place="saved -> current",
            found="\n            ".join(lines), expected=f"plan {saved.get('plan_digest')}",
            remedy="start again with the new mixture, or restore the old params.yaml and shards",
        )  # fmt: skip


def _flat(plan: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in plan.items() if name not in ("datasets", "plan_digest")}
    for dataset in plan["datasets"]:
        fields |= {f"datasets.{dataset['name']}.{key}": value for key, value in dataset.items() if key != "name"}
    return fields
