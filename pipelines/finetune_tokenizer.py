"""Fine-tune the tokenizer's decoder: demonstrations, pretrained tokenizer -> tokenizer with the same tokens."""

from functools import partial
from pathlib import Path
from typing import Annotated

from whale.common.run import Run
from whale.common.stage_args import OF_ITEM
from whale.data.segments.grid import SegmentConfig
from whale.models.tokenizer.tokenizer import VideoTokenizer
from whale.runtime.train.training_stage import TrainingArgs, run_training
from whale.runtime.workers.process.execution import load_execution
from whale.training.loop.communicator import Communicator
from whale.training.loop.inputs import PixelInputs
from whale.training.loop.task import Task
from whale.training.tasks.tokenizer.task import FinetuneTokenizerConfig, finetune_tokenizer_task


class Args(TrainingArgs):
    """Frame shards of the demonstrations, and the pretrained model."""

    shards: Path
    initial: Path
    finetune_tokenizer: Annotated[FinetuneTokenizerConfig, OF_ITEM]
    segments: SegmentConfig
    seed: int


def build(communicator: Communicator, config: FinetuneTokenizerConfig, inputs: PixelInputs, initial: Path) -> Task:
    """The task of one worker."""
    loader = inputs.loader(communicator, config.optimization.batch_size, stream="finetune_tokenizer")
    return finetune_tokenizer_task(VideoTokenizer.restore(initial), config, loader)


def run(args: Args, run: Run) -> None:
    """The decoder learns; encoder and codebook stay, so tokens stay valid."""
    config, execution = args.finetune_tokenizer, load_execution()
    resolution = VideoTokenizer.restore(args.initial).config.resolution
    inputs = PixelInputs(
        args.shards, None, args.segments, resolution, args.seed, execution.decoded_bytes,
        decode_threads=execution.decode_threads,
    )  # fmt: skip
    run_training(
        run,
        partial(build, config=config, inputs=inputs, initial=args.initial),
        config.optimization,
        statistics=inputs.statistics(),
        contracts=inputs.contracts(),
    )
