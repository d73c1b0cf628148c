"""Train a reward head: frames, rewards, tokenizer, sampling plan -> reward head."""

from functools import partial
from pathlib import Path
from typing import Annotated

from whale.common.run import Run
from whale.common.stage_args import OF_ITEM
from whale.data.segments.grid import SegmentConfig
from whale.models.tokenizer.tokenizer import VideoTokenizer
from whale.runtime.train.training_stage import TrainingArgs, run_training
from whale.runtime.workers.execution import load_execution
from whale.training.loop.communicator import Communicator
from whale.training.loop.inputs import PixelInputs
from whale.training.loop.task import Task
from whale.training.tasks.reward.task import TrainRewardConfig, train_reward_task


class Args(TrainingArgs):
    """Frame shards of the pretraining datasets, the plan of what to draw, and the tokenizer."""

    shards: Path
    mix: Path
    tokenizer: Path
    train_reward: Annotated[TrainRewardConfig, OF_ITEM]
    segments: SegmentConfig
    seed: int


def build(communicator: Communicator, config: TrainRewardConfig, inputs: PixelInputs, tokenizer: Path) -> Task:
    """The task of one worker."""
    return train_reward_task(communicator, config, inputs, VideoTokenizer.restore(tokenizer, communicator.device))


def run(args: Args, run: Run) -> None:
    """What an action earned, from the frames before and after it."""
    config, execution = args.train_reward, load_execution()
    resolution = VideoTokenizer.restore(args.tokenizer).config.resolution
    inputs = PixelInputs(
        args.shards, args.mix, args.segments, resolution, args.seed, execution.decoded_bytes,
        decode_threads=execution.decode_threads,
    )  # fmt: skip
    run_training(
        run,
        partial(build, config=config, inputs=inputs, tokenizer=args.tokenizer),
        config.optimization,
        statistics=inputs.statistics(),
        contracts=inputs.contracts(),
    )
