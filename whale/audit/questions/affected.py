"""Forward: every checkpoint and number that a dataset or an episode reached, over the whole ledger (Q10).

Works on the ledger and the runs' records alone, so also after the data are deleted.
"""

import re
from collections.abc import Iterable
from typing import Any

import pyarrow.compute as pc

from whale.audit.facts import Dataset, as_row, is_evaluation, is_training, receipt_of
from whale.audit.questions.seen import Training
from whale.audit.run_graph import RunGraph, StageRun
from whale.common.errors import ConfigError, MissingInputError, WhaleError
from whale.lineage.taint import Taint

NAME = re.compile(r"dataset:(?P<name>[a-z0-9_]+)(@(sha256:)?(?P<digest>[0-9a-f]{8,64}))?(#(?P<episode>.+))?")


def find_datasets(text: str, graph: RunGraph) -> tuple[list[Dataset], str | None]:
    """(ingests of `dataset:NAME[@DIGEST][#EPISODE]`, key of the episode). ConfigError for another form."""
    match = NAME.fullmatch(text)
    if match is None:
        raise ConfigError("not the name of a dataset", found=text, expected="dataset:NAME[@DIGEST][#EPISODE]")
    found = [Dataset(run, summary) for run in graph.runs if (summary := run.dataset()) is not None]
    chosen = [each for each in found if each.name == match["name"] and each.digest.startswith(match["digest"] or "")]
    if not chosen:
        raise MissingInputError("the ledger knows no such dataset", found=text, expected=sorted({e.id for e in found}))
    if match["episode"] is None:
        return chosen, None
    keys = [each.key_of(match["episode"], ("payload_sha256",)) for each in chosen]
    holding = [(each, key) for each, key in zip(chosen, keys, strict=True) if key is not None]
    if not holding:
        raise MissingInputError("the dataset has no such episode", found=match["episode"], place=chosen[0].id)
    return [each for each, _ in holding], holding[0][1]


def affected(text: str, graph: RunGraph) -> dict[str, Any]:
    """Every run below the dataset, with the share of its frames (or the times of the episode) in each training."""
    datasets, episode = find_datasets(text, graph)
    runs: dict[str, StageRun] = {}
    for dataset in datasets:
        runs |= {run.id: run for run in graph.descendants(dataset.run)}
    ordered = sorted(runs.values(), key=lambda run: run.entry.line)
    kept = [_is_kept(each, episode) for each in datasets] if episode else [True]
    return {
        "of": sorted({each.id for each in datasets}),
        "episode": episode,
        "kept": any(kept),
        "checkpoints": [
            as_row(run) | _exposure(run, datasets[0].name, episode, graph) for run in ordered if is_training(run)
        ],
        "evaluations": [as_row(run) for run in ordered if is_evaluation(run)],
        "others": [as_row(run) for run in ordered if not is_training(run) and not is_evaluation(run)],
    }


def make_taint(text: str, reason: str, graph: RunGraph) -> Taint:
    """What to sign for `text`: a dataset, an episode, or a published folder or file."""
    if not text.startswith("dataset:"):
        target = graph.find(text)
        return Taint("artefact", target.name, target.sha256, reason, reached=_outputs_below([target.run], graph))
    datasets, episode = find_datasets(text, graph)
    digests = sorted({each.digest for each in datasets})
    if len(digests) > 1:
        raise ConfigError("several versions have this name", found=digests, expected="dataset:NAME@DIGEST")
    reached = _outputs_below([each.run for each in datasets], graph)
    if episode is None:
        return Taint("dataset", datasets[0].id, digests[0], reason, reached=reached)
    table = datasets[0].episodes()
    row = table.filter(pc.equal(table["key"], episode)).to_pylist()[0]
    return Taint("episode", f"{datasets[0].id}#{episode}", row["payload_sha256"], reason, digests[0], reached)


def _outputs_below(runs: Iterable[StageRun], graph: RunGraph) -> tuple[str, ...]:
    """Digests of what was made from the outputs of `runs`, for the stages' guard, which has no graph."""
    below = {run.id: run for each in runs for run in graph.descendants(each)}
    return tuple(sorted({run.subjects[name] for run in below.values() for name in run.outputs}))


def _exposure(run: StageRun, dataset: str, episode: str | None, graph: RunGraph) -> dict[str, Any]:
    """Direct exposure; a checkpoint that only inherits it has null."""
    drawn = (receipt_of(run) or {"datasets": {}})["datasets"].get(dataset)
    if drawn is None:
        return {"frame_share": None, "times": None}
    if episode is None:
        return {"frame_share": drawn["valid_frame_share"], "times": None}
    try:
        return {"frame_share": None, "times": Training.of(run, graph).exposure(dataset, episode).times}
    except WhaleError:
        return {"frame_share": drawn["valid_frame_share"], "times": None}


def _is_kept(dataset: Dataset, episode: str) -> bool:
    table = dataset.episodes()
    return bool(table.filter(pc.equal(table["key"], episode))["kept"][0].as_py())
