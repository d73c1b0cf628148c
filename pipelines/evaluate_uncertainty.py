"""Evaluate uncertainty: checkpoints + held-out episodes -> how well retracing and entropy foretell the true error."""

from pathlib import Path

import numpy as np
import torch

from whale.config import stage_args
from whale.evaluation.heldout import Dataset, open_datasets, read_windows
from whale.evaluation.metrics import under, written
from whale.evaluation.stack import Stack, load_stack
from whale.evaluation.uncertainty_report import (
    EvaluateUncertaintyConfig,
    require_depths_fit,
    uncertainty_arrays,
    uncertainty_metrics,
    uncertainty_protocol,
)
from whale.evaluation.video_report import save_arrays
from whale.runtime.execution import load_execution
from whale.runtime.guard.stage import Run, stage


def main() -> None:
    args = stage_args("models", "pretrain", "finetune", "out", "metrics", doc=__doc__)
    config = EvaluateUncertaintyConfig.load("evaluate_uncertainty", args.item)
    with stage("evaluate_uncertainty", args, config) as run:
        torch.set_num_threads(load_execution().threads)
        with run.compute():
            roles = {
                "pretrain": (load_stack(args.models), args.pretrain, config.pretrain_splits),
                "finetune": (load_stack(args.models / "finetuned"), args.finetune, config.finetune_splits),
            }
            metrics: dict[str, object] = {}
            for role, (stack, directory, splits) in roles.items():
                metrics |= under(role, _evaluate(run, stack, directory, splits, role, config))
        run.write_metrics(written(metrics))


def _evaluate(
    run: Run, stack: Stack, directory: Path, splits: list[str], role: str, config: EvaluateUncertaintyConfig
) -> dict[str, object]:
    metrics: dict[str, object] = {}
    datasets = open_datasets(directory)
    with run.progress(len(datasets) * len(splits), f"{role} splits") as progress:
        for dataset in datasets:
            for split in splits:
                metrics |= under(f"{dataset.name}.{split}", _split(run, stack, dataset, split, role, config))
                progress.update()
    return metrics


def _split(
    run: Run, stack: Stack, dataset: Dataset, split: str, role: str, config: EvaluateUncertaintyConfig
) -> dict[str, object]:
    """Refused, and said so, where adding up the first six dimensions does not give a pose (model.md 7.1)."""
    if not dataset.shards.contract["retraceable"]:
        return {"status": "refused: the dataset's contract says retraceable: false"}
    require_depths_fit(config, dataset.window)
    windows = read_windows(dataset, split, config.context + config.horizon, config.max_episodes, per_episode=1)
    arrays = uncertainty_arrays(stack, dataset, windows, config)
    shown = np.unique(np.linspace(0, len(windows) - 1, config.filmstrips).round().astype(int))
    pictures = {"recorded": windows.frames[shown], "imagined": arrays.pop("imagined")[shown], "shown": shown}
    pictures["keys"] = np.array([windows.keys[index] for index in shown])
    save_arrays(run.out / f"{role}.{dataset.name}.{split}.npz", arrays | pictures)
    return {
        **uncertainty_metrics(arrays, config),
        "protocol": uncertainty_protocol(stack, dataset, split, config),
        "status": "measured",
    }


if __name__ == "__main__":
    main()
