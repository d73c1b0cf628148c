"""Train a recurrent state-space model: shards, sampling plan -> a world model of another family, to compare with."""

from functools import partial
from pathlib import Path
from typing import Annotated

from whale.baselines.rssm.rssm import noise_size
from whale.common.run import Run
from whale.common.stage_args import OF_ITEM
from whale.data.segments.grid import SegmentConfig
from whale.runtime.train.training_stage import TrainingArgs, run_training
from whale.runtime.workers.process.execution import load_execution
from whale.training.loop.communicator import Communicator
from whale.training.loop.inputs import PixelInputs
from whale.training.loop.task import Task
from whale.training.tasks.rssm import TrainRSSMConfig, new_rssm, train_rssm_task


class Args(TrainingArgs):
    """Frame shards of the pretraining datasets, and the plan of what to draw."""

    shards: Path
    mix: Path
    train_rssm: Annotated[TrainRSSMConfig, OF_ITEM]
    segments: SegmentConfig
    seed: int


def build(communicator: Communicator, config: TrainRSSMConfig, inputs: PixelInputs) -> Task:
    """The task of one worker."""
    loader = inputs.loader(communicator, config.optimization.batch_size, stream="rssm")
    model = new_rssm(config.model, inputs.seed)
    if config.model.mean_residual:
        model.start_from_mean(inputs.mean_image())
    return train_rssm_task(model, config, loader)


def run(args: Args, run: Run) -> None:
    """Pixels and actions in, pixels out, through a recurrent state."""
    config, execution = args.train_rssm, load_execution()
    inputs = PixelInputs(
        args.shards, args.mix, args.segments, config.model.resolution, args.seed, execution.decoded_bytes,
        noise_size(config.model, args.segments.window), decode_threads=execution.decode_threads,
    )  # fmt: skip
    run_training(
        run,
        partial(build, config=config, inputs=inputs),
        config.optimization,
        statistics=inputs.statistics(),
        contracts=inputs.contracts(),
    )
