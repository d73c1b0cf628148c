"""Train the behavior model: shards, sampling plan -> posterior, prior, policy."""

from functools import partial
from pathlib import Path

from whale.common.run import Run
from whale.data.segments.grid import SegmentConfig
from whale.runtime.train.training_stage import TrainingArgs, run_training
from whale.runtime.workers.process.execution import load_execution
from whale.training.loop.communicator import Communicator
from whale.training.loop.inputs import PixelInputs
from whale.training.loop.task import Task
from whale.training.tasks.behavior import (
    TrainBehaviorConfig,
    new_behavior_model,
    steps_before,
    train_behavior_task,
)


class Args(TrainingArgs):
    """Frame shards of the pretraining datasets, and the plan of what to draw."""

    shards: Path
    mix: Path
    train_behavior: TrainBehaviorConfig
    segments: SegmentConfig
    seed: int


def build(communicator: Communicator, config: TrainBehaviorConfig, inputs: PixelInputs) -> Task:
    """The task of one worker."""
    loader = inputs.loader(communicator, config.optimization.batch_size, stream="behavior")
    held_out = inputs.held_out("val", config.validation.num_segments, config.optimization.batch_size)
    return train_behavior_task(new_behavior_model(config.model, inputs.seed), config, loader, held_out)


def run(args: Args, run: Run) -> None:
    """The posterior sees a whole segment, the prior only what lies before a step."""
    config, execution = args.train_behavior, load_execution()
    inputs = PixelInputs(
        args.shards, args.mix, args.segments, config.model.resolution, args.seed, execution.decoded_bytes,
        config.model.num_categories, steps_before(config.model, args.segments.window), execution.decode_threads,
    )  # fmt: skip
    run_training(
        run,
        partial(build, config=config, inputs=inputs),
        config.optimization,
        statistics=inputs.statistics(),
        contracts=inputs.contracts(),
    )
