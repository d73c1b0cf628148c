"""What was measured of a checkpoint since it was published: the numbers of evaluations that the ledger signed.

A metrics file holds numbers of several models. Which ones speak of this checkpoint is read off the field `model=` of
their protocol: 16 digits of the sha256 over the weights of tokenizer, behavior model and dynamics.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from whale.audit.facts import is_evaluation, is_training, weights_of
from whale.audit.questions.why import protocol_of
from whale.audit.run_graph import RunGraph, StageRun, Target
from whale.common.files import MANIFEST_NAME, sha256_of_file
from whale.common.json_files import flatten, read_json
from whale.evaluation.numbers.protocol import PARTS, model_name


@dataclass(frozen=True)
class Number:
    """One measured number; `key` is its dotted name in the metrics file of `stage`."""

    stage: str
    key: str
    value: float
    protocol: str

    def setting(self, name: str) -> str | None:
        """A field of the protocol, such as data or model."""
        fields = dict(part.split("=", 1) for part in self.protocol.split("|") if "=" in part)
        return fields.get(name)


def evaluations_of(target: Target, graph: RunGraph) -> list[StageRun]:
    """Evaluations that read `target`, directly or not, oldest first."""
    return [each for each in graph.descendants(target.run) if is_evaluation(each)]


def metrics_of(evaluations: Iterable[StageRun]) -> dict[str, Any]:
    """Stage -> its metrics; of each evaluation the newest run whose file lies there as it was signed."""
    found = {}
    for run in evaluations:
        for name in run.outputs:
            path = Path(name)
            if path.suffix == ".json" and path.name != MANIFEST_NAME and is_as_signed(path, run.subjects[name]):
                found[run.name] = read_json(path)
    return found


def numbers_of(target: Target, graph: RunGraph) -> list[Number]:
    """Every number with a protocol that speaks of this checkpoint's weights, or of no model at all."""
    evaluations = evaluations_of(target, graph)
    own = {name for run in evaluations for name in model_names(target.run, graph.parents(run))}
    found = []
    for stage, metrics in metrics_of(evaluations).items():
        for number in _numbers(stage, metrics):
            models = number.setting("model")
            if models is None or own & set(models.split("-")):
                found.append(number)
    return found


def model_names(run: StageRun, trainings: Iterable[StageRun]) -> set[str]:
    """Names, in protocols, of all models that the weights of `run` are part of, with the other parts of `trainings`."""
    weights: dict[str, list[str]] = {part: [] for part in PARTS}
    for each in trainings:
        part = each.stage.rpartition("_")[2]
        if is_training(each) and part in weights and (digest := weights_of(each)):
            weights[part].append(digest)
    own = weights_of(run)
    if own and run.stage == "train_rssm":  # one network alone: its name is that of its weights
        return {own[:16]}
    groups = [each for each in weights.values() if each]
    alone = {model_name([own])} if own else set()  # as evaluate_behavior names the behavior model
    return {model_name(parts) for parts in product(*groups) if own in parts} | alone


def is_as_signed(path: Path, digest: str) -> bool:
    return path.is_file() and sha256_of_file(path) == digest


def _numbers(stage: str, metrics: dict[str, Any]) -> Iterator[Number]:
    values = flatten(metrics)
    for key, value in values.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and (protocol := protocol_of(key, values)) is not None:
            yield Number(stage, key, value, protocol)
