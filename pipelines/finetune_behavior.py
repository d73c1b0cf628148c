"""Fine-tune the behavior model: demonstrations, pretrained behavior model -> behavior model."""

from functools import partial
from pathlib import Path
from typing import Annotated

from whale.common.run import Run
from whale.common.stage_args import OF_ITEM
from whale.data.segments.grid import SegmentConfig
from whale.models.behavior.behavior import BehaviorModel
from whale.runtime.train.training_stage import TrainingArgs, run_training
from whale.runtime.workers.process.execution import load_execution
from whale.training.loop.communicator import Communicator
from whale.training.loop.inputs import PixelInputs
from whale.training.loop.task import Task
from whale.training.tasks.behavior import FinetuneBehaviorConfig, finetune_behavior_task, steps_before


class Args(TrainingArgs):
    """Frame shards of the demonstrations, and the pretrained model."""

    shards: Path
    initial: Path
    finetune_behavior: Annotated[FinetuneBehaviorConfig, OF_ITEM]
    segments: SegmentConfig
    seed: int


def build(communicator: Communicator, config: FinetuneBehaviorConfig, inputs: PixelInputs, initial: Path) -> Task:
    """The task of one worker."""
    loader = inputs.loader(communicator, config.optimization.batch_size, stream="finetune_behavior")
    return finetune_behavior_task(BehaviorModel.restore(initial), config, loader)


def run(args: Args, run: Run) -> None:
    """All three networks learn."""
    config = args.finetune_behavior
    model, execution = BehaviorModel.restore(args.initial).config, load_execution()
    inputs = PixelInputs(
        args.shards, None, args.segments, model.resolution, args.seed, execution.decoded_bytes, model.num_categories,
        steps_before(model, args.segments.window), execution.decode_threads,
    )  # fmt: skip
    run_training(
        run,
        partial(build, config=config, inputs=inputs, initial=args.initial),
        config.optimization,
        statistics=inputs.statistics(),
        contracts=inputs.contracts(),
    )
