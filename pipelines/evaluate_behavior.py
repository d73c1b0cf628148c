"""Evaluate behavior: frames and z of one dataset, behavior model -> what z says of who acted; t-SNE of it."""

from pathlib import Path
from typing import Annotated

import numpy as np

from whale.common.files import WEIGHTS, sha256_of_file
from whale.common.run import Run
from whale.common.stage_args import OF_ITEM, StageArgs
from whale.data.segments.token_shards import ZSet
from whale.data.storage.shards import ShardSet
from whale.evaluation.behavior.measurement import EvaluateBehaviorConfig, behavior_protocol, measured
from whale.evaluation.behavior.picture import tsne
from whale.evaluation.behavior.segments import POSTERIOR, PRIOR, Behaviors, Source, read_behaviors
from whale.evaluation.numbers.metrics import save_arrays, under, written
from whale.evaluation.numbers.protocol import model_name
from whale.models.behavior.behavior import BehaviorModel
from whale.models.trunk.torch_process import set_up_torch
from whale.runtime.workers.process.execution import load_execution


class Args(StageArgs):
    """Frame shards and z table of one dataset, and the behavior model that made the table."""

    shards: Path
    z: Path
    behavior: Path
    evaluate_behavior: Annotated[EvaluateBehaviorConfig, OF_ITEM]


def run(args: Args, run: Run) -> None:
    """Each split by itself: probes fitted and tried on episodes of the split, and its picture."""
    config, execution = args.evaluate_behavior, load_execution()
    device = execution.chosen_device()
    set_up_torch(execution.threads)
    run.note(engine={"device": device})
    metrics: dict[str, object] = {}
    with run.compute(), run.progress(len(config.splits), "splits") as progress:
        behavior = BehaviorModel.restore(args.behavior, device)
        source = Source(ShardSet.open(args.shards), ZSet.open(args.z), behavior)
        model = model_name([sha256_of_file(args.behavior / WEIGHTS)])
        for split in config.splits:
            found = read_behaviors(source, split, config.segments, config.per_episode, config.seed)
            places = tsne(found.features[PRIOR], config.perplexity, config.seed)  # first: it refuses too few segments
            numbers = measured(found, split, source, config)
            numbers["protocol"] = behavior_protocol(source, split, model, config)
            metrics |= under(f"pretrain.{source.shards.name}.{split}.z", numbers)
            save_arrays(run.out / f"{split}.npz", _arrays(found, places))
            progress.update()
    run.write_metrics(written(metrics))


def _arrays(found: Behaviors, places: np.ndarray) -> dict[str, np.ndarray]:
    """What the figure is drawn from, and what else one may draw of it."""
    arrays = {name: found.features[name].astype(np.float16) for name in (PRIOR, POSTERIOR)}
    return arrays | {"tsne": places, "task": found.task, "policy": found.policy, "keys": np.array(found.keys)}
