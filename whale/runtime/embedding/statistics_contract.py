"""The statistics that normalised a model's actions belong to the model: with others its actions mean something else."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whale.common.errors import RefusedError
from whale.common.json_files import canonical_json

SHOWN = ("count", "mean", "q01", "q99", "mask")


def statistics_digest(statistics: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON of one dataset's statistics: equal numbers, equal digest."""
    return hashlib.sha256(canonical_json(statistics).encode()).hexdigest()


def require_same_statistics(trained: Mapping[str, Any], name: str, found: Mapping[str, Any], file: Path) -> None:
    """Dataset `name` must carry the statistics that the model was trained with.

    trained: dataset_statistics.json of the checkpoint, which lies at `file`. Raises RefusedError that prints both.
    """
    if name not in trained:
        raise RefusedError(
            "the model was not trained on this dataset", file=file, place=name, found=name,
            expected=f"one of {', '.join(sorted(trained))}",
            remedy="use the statistics inside the checkpoint, or fine-tune on this dataset",
        )  # fmt: skip
    if statistics_digest(trained[name]) != statistics_digest(found):
        raise RefusedError(
            "other statistics than the model was trained with", file=file, place=name, found=_shown(found),
            expected=_shown(trained[name]),
            remedy="use the statistics inside the checkpoint; after new data, train again",
        )  # fmt: skip


def _shown(statistics: Mapping[str, Any]) -> str:
    action = statistics.get("action", {})
    lines = [f"{name} {action[name]}" for name in SHOWN if name in action]
    return f"sha256 {statistics_digest(statistics)[:16]}\n            " + "\n            ".join(lines)
