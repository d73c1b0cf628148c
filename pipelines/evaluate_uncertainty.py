"""Evaluate uncertainty: checkpoints + held-out episodes -> scores beside true errors, and calibration.json."""

from pathlib import Path

import numpy as np

from whale.common.errors import RefusedError
from whale.common.json_files import write_json
from whale.common.run import Run
from whale.common.stage_args import StageArgs
from whale.evaluation.measuring.heldout import Dataset, open_datasets, read_windows
from whale.evaluation.measuring.metrics import save_arrays, under, written
from whale.evaluation.measuring.roles import roles
from whale.evaluation.measuring.stack import Stack, load_stack
from whale.evaluation.uncertainty.measurement import EvaluateUncertaintyConfig, require_depths_fit, uncertainty_arrays
from whale.evaluation.uncertainty.report import calibration_entry, curves, uncertainty_metrics, uncertainty_protocol
from whale.evaluation.uncertainty.retracing import require_retraceable
from whale.runtime.workers.execution import load_execution
from whale.runtime.workers.torch_process import set_up_torch


class Args(StageArgs):
    """The models, and the folder that holds a folder of shards, tokens and z for each role."""

    models: Path
    data: Path
    evaluate_uncertainty: EvaluateUncertaintyConfig


def run(args: Args, run: Run) -> None:
    """Pretrained models on the pretraining datasets; fine-tuned ones, if any, on the demonstrations' dataset."""
    config, execution = args.evaluate_uncertainty, load_execution()
    device = execution.chosen_device()
    set_up_torch(execution.threads)
    run.note(engine={"device": device})
    with run.compute():
        metrics: dict[str, object] = {}
        calibrated = []
        for role, models, directory in roles(args.models, args.data):
            stack = load_stack(models, device)
            found, arrays = _evaluate(run, stack, directory, config.splits(role), role, config)
            metrics |= under(role, found)
            calibrated.append(calibration_entry(stack, role, arrays, config))
        write_json(run.out / "calibration.json", {"version": 1, "checkpoints": calibrated})
    run.write_metrics(written(metrics))


Found = tuple[dict[str, object], list[dict[str, np.ndarray]]]


def _evaluate(
    run: Run, stack: Stack, directory: Path, splits: list[str], role: str, config: EvaluateUncertaintyConfig
) -> Found:
    """Metrics, and the arrays of every set that was measured."""
    metrics: dict[str, object] = {}
    measured = []
    datasets = open_datasets(directory)
    with run.progress(len(datasets) * len(splits), f"{role} splits") as progress:
        for dataset in datasets:
            for split in splits:
                found, arrays = _split(run, stack, dataset, split, role, config)
                metrics |= under(f"{dataset.name}.{split}", found)
                measured += arrays
                progress.update()
    return metrics, measured


def _split(run: Run, stack: Stack, dataset: Dataset, split: str, role: str, config: EvaluateUncertaintyConfig) -> Found:
    """Refused, and said so, where adding up actions does not give a pose."""
    try:
        require_retraceable(dataset.shards.contract, dataset.name)
    except RefusedError as refusal:
        return {"status": f"refused: {refusal.what}"}, []
    require_depths_fit(config, dataset.window)
    windows = read_windows(dataset, split, config.context + config.horizon, config.max_episodes, per_episode=1)
    arrays = uncertainty_arrays(stack, dataset, windows, config)
    shown = np.unique(np.linspace(0, len(windows) - 1, config.filmstrips).round().astype(int))
    pictures = {"recorded": windows.frames[shown], "imagined": arrays.pop("imagined")[shown], "shown": shown}
    pictures["keys"] = np.array([windows.keys[index] for index in shown])
    save_arrays(run.out / f"{role}.{dataset.name}.{split}.npz", arrays | pictures | curves(arrays))
    metrics = {
        **uncertainty_metrics(arrays, config),
        "protocol": uncertainty_protocol(stack, dataset, split, config),
        "status": "measured",
    }
    return metrics, [arrays]
