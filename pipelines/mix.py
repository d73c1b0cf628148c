"""Mix: manifests of the pretraining datasets, weights -> sampling plans, expected receipt, statistics, contracts."""

from whale.config import load_seed, stage_args
from whale.data.mixture import DatasetSegments, MixConfig, dynamics_plan, open_datasets, pretrain_plan, receipt
from whale.data.segments import SegmentConfig
from whale.data.storage.files import write_json
from whale.runtime.guard.stage import stage


def main() -> None:
    args = stage_args("shards", "out", doc=__doc__)
    config, segments, seed = MixConfig.load("mix"), SegmentConfig.load("segments"), load_seed()
    with stage("mix", args, {"mix": config, "segments": segments, "seed": seed}) as run, run.compute():
        datasets = open_datasets(args.shards)
        found = {name: DatasetSegments.count(shards, "train", segments) for name, shards in datasets.items()}
        plans = {
            "pretrain": pretrain_plan(config, segments, found, seed=seed),
            "dynamics": dynamics_plan(config, segments, found, seed=seed),
        }
        write_json(run.out / "plan.json", {name: plan.model_dump(mode="json") for name, plan in plans.items()})
        run.keep("plan.json", (run.out / "plan.json").read_bytes())
        receipts = {name: receipt(plan, found, config.draws) for name, plan in plans.items()}
        write_json(run.out / "receipt.json", receipts)
        write_json(run.out / "statistics.json", {name: shards.statistics for name, shards in datasets.items()})
        write_json(run.out / "contracts.json", {name: shards.contract for name, shards in datasets.items()})
        for name, row in receipts["pretrain"]["datasets"].items():
            run.log_metrics({f"{name}/planned_share": row["planned_share"], f"{name}/segments": row["num_segments"]})


if __name__ == "__main__":
    main()
