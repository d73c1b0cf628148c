"""Mix: manifests of the pretraining datasets, weights -> sampling plans, expected receipt, statistics, contracts."""

from pathlib import Path
from typing import ClassVar

from whale.common.json_files import write_json
from whale.common.run import Run
from whale.common.stage_args import StageArgs
from whale.data.mixture import DatasetSegments, MixConfig, dynamics_plan, pretrain_plan, receipt
from whale.data.segments.grid import SegmentConfig, open_each
from whale.data.storage.shards import ShardSet


class Args(StageArgs):
    """Shards of the pretraining datasets, and how much of each to draw."""

    unread: ClassVar = {"shards": ".tar"}  # 1.3 TB at the paper's scale
    shards: Path
    mix: MixConfig
    segments: SegmentConfig
    seed: int


def run(args: Args, run: Run) -> None:
    """Only counts are read: plans name segments by number."""
    with run.compute():
        datasets = open_each(args.shards, ShardSet.open)
        found = {name: DatasetSegments.count(shards, "train", args.segments) for name, shards in datasets.items()}
        plans = {
            "pretrain": pretrain_plan(args.mix, args.segments, found, seed=args.seed),
            "dynamics": dynamics_plan(args.mix, args.segments, found, seed=args.seed),
        }
        write_json(run.out / "plan.json", {name: plan.model_dump(mode="json") for name, plan in plans.items()})
        run.keep("plan.json", (run.out / "plan.json").read_bytes())
        receipts = {name: receipt(plan, found, args.mix.draws) for name, plan in plans.items()}
        write_json(run.out / "receipt.json", receipts)
        write_json(run.out / "statistics.json", {name: shards.statistics for name, shards in datasets.items()})
        write_json(run.out / "contracts.json", {name: shards.contract for name, shards in datasets.items()})
        for name, row in receipts["pretrain"]["datasets"].items():
            run.log_metrics({f"{name}/planned_share": row["planned_share"], f"{name}/segments": row["num_segments"]})
