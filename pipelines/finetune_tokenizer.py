"""Fine-tune the tokenizer's decoder: demonstrations, pretrained tokenizer -> tokenizer with the same tokens."""

from functools import partial
from pathlib import Path

from whale.config import load_seed, stage_args
from whale.data.segments import SegmentConfig
from whale.models.tokenizer import VideoTokenizer
from whale.runtime.execution import load_execution
from whale.runtime.guard.stage import stage
from whale.runtime.training_stage import GRACE_SECONDS, run_training
from whale.training.communicator import Communicator
from whale.training.inputs import PixelInputs
from whale.training.loop import Task
from whale.training.tokenizer_task import FinetuneTokenizerConfig, finetune_tokenizer_task


def build(communicator: Communicator, config: FinetuneTokenizerConfig, inputs: PixelInputs, initial: Path) -> Task:
    """The task of one worker."""
    loader = inputs.loader(communicator, config.optimization.batch_size, stream="finetune_tokenizer")
    return finetune_tokenizer_task(VideoTokenizer.restore(initial), config, loader)


def main() -> None:
    args = stage_args("shards", "initial", "out", doc=__doc__)
    config, segments = FinetuneTokenizerConfig.load("finetune_tokenizer"), SegmentConfig.load("segments")
    values = {"finetune_tokenizer": config, "segments": segments, "seed": load_seed()}
    with stage("finetune_tokenizer", args, values, grace_seconds=GRACE_SECONDS) as run:
        resolution = VideoTokenizer.restore(args.initial).config.resolution
        inputs = PixelInputs(args.shards, None, segments, resolution, load_seed(), load_execution().decoded_bytes)
        run_training(
            run,
            "finetune_tokenizer",
            partial(build, config=config, inputs=inputs, initial=args.initial),
            config.optimization.training_steps,
            statistics=inputs.statistics(),
            contracts=inputs.contracts(),
        )


if __name__ == "__main__":
    main()
