"""Train the behavior model: shards, sampling plan -> posterior, prior, policy."""

from functools import partial

from whale.config import load_seed, stage_args
from whale.data.segments import SegmentConfig
from whale.runtime.execution import load_execution
from whale.runtime.guard.stage import stage
from whale.runtime.training_stage import GRACE_SECONDS, run_training
from whale.training.behavior_task import TrainBehaviorConfig, new_behavior_model, train_behavior_task
from whale.training.communicator import Communicator
from whale.training.inputs import PixelInputs
from whale.training.loop import Task


def build(communicator: Communicator, config: TrainBehaviorConfig, inputs: PixelInputs) -> Task:
    """The task of one worker."""
    loader = inputs.loader(communicator, config.optimization.batch_size, stream="behavior")
    held_out = inputs.held_out("val", config.validation.num_segments, config.optimization.batch_size)
    return train_behavior_task(new_behavior_model(config.model, inputs.seed), config, loader, held_out)


def main() -> None:
    args = stage_args("shards", "mix", "out", doc=__doc__)
    config, segments, seed = TrainBehaviorConfig.load("train_behavior"), SegmentConfig.load("segments"), load_seed()
    with stage(
        "train_behavior",
        args,
        {"train_behavior": config, "segments": segments, "seed": seed},
        grace_seconds=GRACE_SECONDS,
    ) as run:
        inputs = PixelInputs(
            args.shards, args.mix, segments, config.model.resolution, seed, load_execution().decoded_bytes
        )
        run_training(
            run,
            "train_behavior",
            partial(build, config=config, inputs=inputs),
            config.optimization.training_steps,
            statistics=inputs.statistics(),
            contracts=inputs.contracts(),
        )


if __name__ == "__main__":
    main()
