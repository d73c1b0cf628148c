"""Embed demonstrations: every dataset of a folder, fine-tuned prior -> z tables on the tokens' segment grid."""

from functools import partial
from pathlib import Path
from typing import Annotated

from whale.common.run import Run
from whale.common.stage_args import OF_ITEM, StageArgs
from whale.data.segments.grid import SegmentConfig, open_each
from whale.data.storage.shards import ShardSet
from whale.runtime.embedding.behavior_embedder import load_embedder, prior_digest, trained_statistics
from whale.runtime.maps.model_map import MapConfig, map_dataset
from whale.runtime.maps.segment_maps import embed_shard


class Args(StageArgs):
    """Frame shards of the demonstrations, and the behavior model."""

    shards: Path
    behavior: Path
    finetune_embed: Annotated[MapConfig, OF_ITEM]
    segments: SegmentConfig


def run(args: Args, run: Run) -> None:
    """One z table for each dataset."""
    for name, shards in open_each(args.shards, ShardSet.open).items():
        statistics = trained_statistics(args.behavior, shards)
        map_dataset(
            run,
            "z",
            embed_shard,
            partial(load_embedder, args.behavior.absolute(), statistics, args.finetune_embed.batch_segments),
            made_by=prior_digest(args.behavior),
            shards_dir=args.shards / name,
            out_dir=run.out / name,
            segments=args.segments,
        )
