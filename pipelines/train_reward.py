"""Train a reward head: frames, rewards, tokenizer, sampling plan -> reward head, and how well it reads rewards."""

from functools import partial
from pathlib import Path
from typing import Annotated

from whale.common.run import Run
from whale.common.stage_args import OF_ITEM
from whale.data.segments.grid import SegmentConfig, open_each
from whale.data.storage.shards import ShardSet
from whale.evaluation.reward.head_quality import head_r2
from whale.models.tokenizer.tokenizer import VideoTokenizer
from whale.models.trunk.folder import save_model
from whale.reward.reward import RewardHead
from whale.runtime.train.training_stage import TrainingArgs, run_training
from whale.runtime.workers.process.execution import load_execution
from whale.training.loop.communicator import Communicator
from whale.training.loop.inputs import PixelInputs
from whale.training.loop.task import Task
from whale.training.tasks.reward.task import TrainRewardConfig, train_reward_task


class Args(TrainingArgs):
    """Frame shards of the datasets of one role, the plan of what to draw from those of pretraining, the tokenizer."""

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
        args.shards, args.mix if config.role == "pretrain" else None, args.segments, resolution, args.seed,
        execution.decoded_bytes, decode_threads=execution.decode_threads,
    )  # fmt: skip
    run_training(
        run,
        partial(build, config=config, inputs=inputs, tokenizer=args.tokenizer),
        config.optimization,
        statistics=inputs.statistics(),
        contracts=inputs.contracts(),
    )
    _measure(args, run, execution.chosen_device())


def _measure(args: Args, run: Run, device: str) -> None:
    """The head, published once more: now it says how much of held-out rewards it explains."""
    config = args.train_reward
    head, tokenizer = RewardHead.restore(run.out, device), VideoTokenizer.restore(args.tokenizer, device)
    r2 = {
        name: head_r2(head, tokenizer, shards, config.test_split, config.test_episodes, args.segments.window)
        for name, shards in open_each(args.shards, ShardSet.open).items()
    }
    save_model(run.out, head.measured(r2))
    flat = {f"r2.{name}.{shown}": value for name, found in r2.items() for shown, value in found.items()}
    run.log_metrics({name: value for name, value in flat.items() if value is not None})
