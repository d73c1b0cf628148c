"""Embed behavior: frames and actions of one dataset, trained prior -> z table on the tokens' segment grid."""

from functools import partial

from whale.config import stage_args
from whale.data.segment_maps import embed_shard
from whale.data.segments import SegmentConfig
from whale.data.storage.shards import ShardSet
from whale.runtime.behavior_embedder import load_embedder, prior_digest, trained_statistics
from whale.runtime.guard.stage import stage
from whale.runtime.model_map import MapConfig, map_dataset


def main() -> None:
    args = stage_args("shards", "behavior", "out", doc=__doc__)
    config, segments = MapConfig.load("embed_behavior"), SegmentConfig.load("segments")
    with stage("embed_behavior", args, {"embed_behavior": config, "segments": segments}) as run:
        statistics = trained_statistics(args.behavior, ShardSet.open(args.shards))
        map_dataset(
            run,
            "z",
            embed_shard,
            partial(load_embedder, args.behavior.absolute(), statistics, config.batch_segments),
            made_by=prior_digest(args.behavior),
            shards_dir=args.shards,
            out_dir=run.out,
            segments=segments,
        )


if __name__ == "__main__":
    main()
