"""Pretokenize: frames of one dataset, trained tokenizer -> token shards with the same episode keys."""

from functools import partial
from pathlib import Path

from whale.common.run import Run
from whale.common.stage_args import StageArgs
from whale.data.segments.grid import SegmentConfig
from whale.runtime.maps.model_map import MapConfig, map_dataset
from whale.runtime.maps.segment_maps import tokenize_shard
from whale.runtime.token_encoder import encoder_digest, load_encode


class Args(StageArgs):
    """Frame shards of one dataset, and the tokenizer."""

    shards: Path
    tokenizer: Path
    pretokenize: MapConfig
    segments: SegmentConfig


def run(args: Args, run: Run) -> None:
    """One token shard for each frame shard."""
    map_dataset(
        run,
        "tokens",
        tokenize_shard,
        partial(load_encode, args.tokenizer.absolute(), args.pretokenize.batch_segments),
        made_by=encoder_digest(args.tokenizer),
        shards_dir=args.shards,
        out_dir=run.out,
        segments=args.segments,
    )
