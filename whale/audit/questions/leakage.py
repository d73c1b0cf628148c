"""Is an evaluation episode in the training set, by content and not by name (Q15)?

`content_sha256` covers the first frame and the actions, so a renamed, re-split or re-keyed copy is found; the upstream
record's own `payload_sha256` finds byte copies whose ingest differed. With `near`, frames are looked at, too.
"""

from typing import Any

import pyarrow.compute as pc

from whale.audit.facts import Dataset, datasets_of, receipt_of, trainings_of
from whale.audit.questions.affected import find_datasets
from whale.audit.questions.film_hash import NEAR
from whale.audit.questions.near_copies import Films, near_copies
from whale.audit.run_graph import RunGraph, StageRun
from whale.common.errors import ConfigError, IncompleteError, MissingInputError
from whale.common.files import MANIFEST_NAME

ROLES = ("train", "val")
COLUMNS = ("content_sha256", "payload_sha256")


def leakage(run: StageRun, evaluation: str, graph: RunGraph, near: bool = False) -> dict[str, Any]:
    """`evaluation`: NAME[:SPLIT] or dataset:NAME[@DIGEST][:SPLIT], of a dataset in the ledger; default split test.

    `near`: also episodes that only look alike; MissingInputError where the shards with their frames are gone.
    Raises ConfigError if nothing at or above `run` was trained, IncompleteError if a training's receipt is gone.
    """
    trained = _trained_on(run, graph)
    name, _, split = evaluation.removeprefix("dataset:").partition(":")
    chosen, _ = find_datasets(f"dataset:{name}", graph)
    held_out = _rows(chosen[-1], split or "test")
    if not held_out:
        known = ", ".join(sorted(chosen[-1].summary["kept"]))
        raise MissingInputError("no kept episode in this split", found=evaluation, expected=known)
    used = [each for each in datasets_of(run, graph) if each.name in trained]
    found = [row for dataset in used for role in ROLES for row in _matches(held_out, dataset, role)]
    alike = _alike(chosen[-1], split or "test", used, {row["episode"] for row in found}) if near else []
    return {
        "evaluation": f"{chosen[-1].name}:{split or 'test'}",
        "episodes": len(held_out),
        "compared_with": sorted(trained),
        "leaked": [row for row in found if row["role"] == "train"],
        "in_validation": [row for row in found if row["role"] == "val"],
        "near": [row for row in alike if row["role"] == "train"],
        "near_in_validation": [row for row in alike if row["role"] == "val"],
        "near_limit": NEAR if near else None,
    }


def _trained_on(run: StageRun, graph: RunGraph) -> set[str]:
    """Names of the datasets that any training at or above `run` drew from."""
    trainings = trainings_of(run, graph)
    if not trainings:
        given = ", ".join(name.removesuffix(f"/{MANIFEST_NAME}") for name in run.outputs)
        raise ConfigError(
            "not a checkpoint: no training stands above it, so there is no training data to compare with",
            found=f"{given}, made by {run.name}",
            expected="a checkpoint, or what was made with one",
            remedy="whale lineage leakage CHECKPOINT --eval NAME:SPLIT",
        )  # fmt: skip
    names: set[str] = set()
    for each in trainings:
        receipt = receipt_of(each)
        if receipt is None:
            raise IncompleteError("no receipt of what it drew", place=each.name)
        names |= set(receipt["datasets"])
    return names


def _alike(held_out: Dataset, split: str, used: list[Dataset], known: set[str]) -> list[dict[str, Any]]:
    """Rows for episodes that look like one of `used` and are not `known` to be equal to one."""
    films = Films.of(held_out, split)
    rows = [row for dataset in used for role in ROLES for row in near_copies(films, Films.of(dataset, role), role)]
    return [row for row in rows if row["episode"] not in known]


def _rows(dataset: Dataset, split: str) -> list[dict[str, Any]]:
    table = dataset.episodes()
    kept = table.filter(pc.and_(table["kept"], pc.equal(table["split"], split)))
    return kept.select(["key", *COLUMNS]).to_pylist()


def _matches(held_out: list[dict[str, Any]], dataset: Dataset, role: str) -> list[dict[str, Any]]:
    own = {row["key"] for row in held_out}
    by_digest = {(column, row[column]): row["key"] for row in _rows(dataset, role) for column in COLUMNS}
    found = []
    for row in held_out:
        hits = {column: by_digest[column, row[column]] for column in COLUMNS if (column, row[column]) in by_digest}
        if hits and not set(hits.values()) <= own:
            same = "content" if "content_sha256" in hits else "payload"
            found.append({"episode": row["key"], "is": next(iter(hits.values())), "role": role, "by": same})
    return found
