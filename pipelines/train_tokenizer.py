"""Train the video tokenizer: shards, sampling plan -> tokenizer."""

from functools import partial

from whale.config import load_seed, stage_args
from whale.data.segments import SegmentConfig
from whale.runtime.execution import load_execution
from whale.runtime.guard.stage import stage
from whale.runtime.training_stage import GRACE_SECONDS, run_training
from whale.training.communicator import Communicator
from whale.training.inputs import PixelInputs
from whale.training.loop import Task
from whale.training.tokenizer_task import TrainTokenizerConfig, new_tokenizer, train_tokenizer_task


def build(communicator: Communicator, config: TrainTokenizerConfig, inputs: PixelInputs) -> Task:
    """The task of one worker."""
    loader = inputs.loader(communicator, config.optimization.batch_size, stream="tokenizer")
    model = new_tokenizer(config.model, inputs.seed)
    if config.model.mean_residual:
        model.start_from_mean(inputs.mean_image())
    return train_tokenizer_task(model, config, loader, inputs.seed)


def main() -> None:
    args = stage_args("shards", "mix", "out", doc=__doc__)
    config, segments, seed = TrainTokenizerConfig.load("train_tokenizer"), SegmentConfig.load("segments"), load_seed()
    with stage(
        "train_tokenizer",
        args,
        {"train_tokenizer": config, "segments": segments, "seed": seed},
        grace_seconds=GRACE_SECONDS,
    ) as run:
        inputs = PixelInputs(
            args.shards, args.mix, segments, config.model.resolution, seed, load_execution().decoded_bytes
        )
        run_training(
            run,
            "train_tokenizer",
            partial(build, config=config, inputs=inputs),
            config.optimization.training_steps,
            statistics=inputs.statistics(),
            contracts=inputs.contracts(),
        )


if __name__ == "__main__":
    main()
