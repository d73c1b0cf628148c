"""Train the video tokenizer: shards, sampling plan -> tokenizer."""

from functools import partial
from pathlib import Path

from whale.common.run import Run
from whale.data.segments.grid import SegmentConfig
from whale.runtime.train.training_stage import TrainingArgs, run_training
from whale.runtime.workers.process.execution import load_execution
from whale.training.loop.communicator import Communicator
from whale.training.loop.inputs import PixelInputs
from whale.training.loop.task import Task
from whale.training.tasks.tokenizer.task import TrainTokenizerConfig, new_tokenizer, train_tokenizer_task


class Args(TrainingArgs):
    """Frame shards of the pretraining datasets, and the plan of what to draw."""

    shards: Path
    mix: Path
    train_tokenizer: TrainTokenizerConfig
    segments: SegmentConfig
    seed: int


def build(communicator: Communicator, config: TrainTokenizerConfig, inputs: PixelInputs) -> Task:
    """The task of one worker."""
    loader = inputs.loader(communicator, config.optimization.batch_size, stream="tokenizer")
    model = new_tokenizer(config.model, inputs.seed)
    if config.model.mean_residual:
        model.start_from_mean(inputs.mean_image())
    return train_tokenizer_task(model, config, loader, inputs.seed)


def run(args: Args, run: Run) -> None:
    """Frames in, frames out, through a codebook."""
    config, execution = args.train_tokenizer, load_execution()
    inputs = PixelInputs(
        args.shards, args.mix, args.segments, config.model.resolution, args.seed, execution.decoded_bytes,
        decode_threads=execution.decode_threads,
    )  # fmt: skip
    run_training(
        run,
        partial(build, config=config, inputs=inputs),
        config.optimization,
        statistics=inputs.statistics(),
        contracts=inputs.contracts(),
    )
