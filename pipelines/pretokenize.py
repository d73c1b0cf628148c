"""Pretokenize: frames of one dataset, trained tokenizer -> token shards with the same episode keys."""

from functools import partial

from whale.config import stage_args
from whale.data.segment_maps import tokenize_shard
from whale.data.segments import SegmentConfig
from whale.runtime.guard.stage import stage
from whale.runtime.model_map import MapConfig, map_dataset
from whale.runtime.token_encoder import encoder_digest, load_encode


def main() -> None:
    args = stage_args("shards", "tokenizer", "out", doc=__doc__)
    config, segments = MapConfig.load("pretokenize"), SegmentConfig.load("segments")
    with stage("pretokenize", args, {"pretokenize": config, "segments": segments}) as run:
        map_dataset(
            run,
            "tokens",
            tokenize_shard,
            partial(load_encode, args.tokenizer.absolute(), config.batch_segments),
            made_by=encoder_digest(args.tokenizer),
            shards_dir=args.shards,
            out_dir=run.out,
            segments=segments,
        )


if __name__ == "__main__":
    main()
