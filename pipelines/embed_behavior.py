"""Embed behavior: frames and actions of one dataset, trained prior -> z table on the tokens' segment grid."""

from functools import partial
from pathlib import Path

from whale.common.run import Run
from whale.common.stage_args import StageArgs
from whale.data.segments.grid import SegmentConfig
from whale.data.storage.shards import ShardSet
from whale.runtime.embedding.behavior_embedder import load_embedder, prior_digest, trained_statistics
from whale.runtime.maps.model_map import MapConfig, map_dataset
from whale.runtime.maps.segment_maps import embed_shard


class Args(StageArgs):
    """Frame shards of one dataset, and the behavior model."""

    shards: Path
    behavior: Path
    embed_behavior: MapConfig
    segments: SegmentConfig


def run(args: Args, run: Run) -> None:
    """One z shard for each frame shard."""
    statistics = trained_statistics(args.behavior, ShardSet.open(args.shards))
    map_dataset(
        run,
        "z",
        embed_shard,
        partial(load_embedder, args.behavior.absolute(), statistics, args.embed_behavior.batch_segments),
        made_by=prior_digest(args.behavior),
        shards_dir=args.shards,
        out_dir=run.out,
        segments=args.segments,
    )
