"""Fine-tune the behavior model: demonstrations, pretrained behavior model -> behavior model."""

from functools import partial
from pathlib import Path

from whale.config import load_seed, stage_args
from whale.data.segments import SegmentConfig
from whale.models.behavior import BehaviorModel
from whale.runtime.execution import load_execution
from whale.runtime.guard.stage import stage
from whale.runtime.training_stage import GRACE_SECONDS, run_training
from whale.training.behavior_task import FinetuneBehaviorConfig, finetune_behavior_task
from whale.training.communicator import Communicator
from whale.training.inputs import PixelInputs
from whale.training.loop import Task


def build(communicator: Communicator, config: FinetuneBehaviorConfig, inputs: PixelInputs, initial: Path) -> Task:
    """The task of one worker."""
    loader = inputs.loader(communicator, config.optimization.batch_size, stream="finetune_behavior")
    return finetune_behavior_task(BehaviorModel.restore(initial), config, loader)


def main() -> None:
    args = stage_args("shards", "initial", "out", doc=__doc__)
    config, segments = FinetuneBehaviorConfig.load("finetune_behavior"), SegmentConfig.load("segments")
    values = {"finetune_behavior": config, "segments": segments, "seed": load_seed()}
    with stage("finetune_behavior", args, values, grace_seconds=GRACE_SECONDS) as run:
        resolution = BehaviorModel.restore(args.initial).config.resolution
        inputs = PixelInputs(args.shards, None, segments, resolution, load_seed(), load_execution().decoded_bytes)
        run_training(
            run,
            "finetune_behavior",
            partial(build, config=config, inputs=inputs, initial=args.initial),
            config.optimization.training_steps,
            statistics=inputs.statistics(),
            contracts=inputs.contracts(),
        )


if __name__ == "__main__":
    main()
