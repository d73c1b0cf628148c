"""Embed demonstrations: every dataset of a folder, fine-tuned prior -> z tables on the tokens' segment grid."""

from functools import partial

from whale.config import stage_args
from whale.data.segment_maps import embed_shard
from whale.data.segments import SegmentConfig, dataset_folders
from whale.data.storage.shards import ShardSet
from whale.runtime.behavior_embedder import load_embedder, prior_digest, trained_statistics
from whale.runtime.guard.stage import stage
from whale.runtime.model_map import MapConfig, map_dataset


def main() -> None:
    args = stage_args("shards", "behavior", "out", doc=__doc__)
    config, segments = MapConfig.load("finetune_embed"), SegmentConfig.load("segments")
    with stage("finetune_embed", args, {"finetune_embed": config, "segments": segments}) as run:
        for folder in dataset_folders(args.shards):
            statistics = trained_statistics(args.behavior, ShardSet.open(folder))
            map_dataset(
                run,
                "z",
                embed_shard,
                partial(load_embedder, args.behavior.absolute(), statistics, config.batch_segments),
                made_by=prior_digest(args.behavior),
                shards_dir=folder,
                out_dir=run.out / folder.name,
                segments=segments,
            )


if __name__ == "__main__":
    main()
