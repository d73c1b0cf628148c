"""Evaluate uncertainty: checkpoints + held-out episodes -> scores beside true errors, and calibration.json."""

from dataclasses import dataclass
from pathlib import Path

from whale.common.errors import RefusedError
from whale.common.json_files import write_json
from whale.common.run import Run
from whale.common.stage_args import StageArgs
from whale.evaluation.measuring.roles import roles
from whale.evaluation.measuring.rollouts.heldout import Dataset, open_datasets, read_windows
from whale.evaluation.measuring.rollouts.stack import Stack, load_stack
from whale.evaluation.numbers.metrics import folded, save_arrays, under, written
from whale.evaluation.uncertainty.estimation.calibration_file import FORMAT_VERSION
from whale.evaluation.uncertainty.estimation.retracing import require_retraceable
from whale.evaluation.uncertainty.measurement import (
    Arrays,
    EvaluateUncertaintyConfig,
    Measured,
    measure,
    require_depths_fit,
)
from whale.evaluation.uncertainty.report import calibration_entry, curves, uncertainty_metrics, uncertainty_protocol
from whale.models.trunk.torch_process import set_up_torch
from whale.runtime.workers.process.execution import load_execution


class Args(StageArgs):
    """The models, and the folder that holds a folder of shards, tokens and z for each role."""

    models: Path
    data: Path
    evaluate_uncertainty: EvaluateUncertaintyConfig


@dataclass(frozen=True)
class Split:
    """What was measured of one dataset's split; `name`: as metrics and files begin."""

    dataset: Dataset
    split: str
    measured: Measured

    @property
    def name(self) -> str:
        return f"{self.dataset.name}.{self.split}"


def run(args: Args, run: Run) -> None:
    """Pretrained models on the pretraining datasets; fine-tuned ones, if any, on the demonstrations' dataset."""
    config, execution = args.evaluate_uncertainty, load_execution()
    device = execution.chosen_device()
    set_up_torch(execution.threads)
    run.note(engine={"device": device})
    with run.compute():
        metrics: dict[str, object] = {}
        pretrained: list[Split] = []
        calibrated = []
        for role, models, directory in roles(args.models, args.data):
            stack = load_stack(models, device)
            found, refused = _measured(run, stack, directory, config.splits(role), role, config)
            pretrained = found if role == "pretrain" else pretrained
            for each in found:
                others = [one.measured for one in pretrained if one.dataset.name != each.dataset.name]
                metrics |= under(f"{role}.{each.name}", _evaluated(run, stack, role, each, others, config))
            metrics |= under(role, refused)
            calibrated.append(calibration_entry(stack, role, [each.measured for each in found], config))
        write_json(run.out / "calibration.json", {"version": FORMAT_VERSION, "checkpoints": calibrated})
    run.write_metrics(folded(written(metrics)))


def _measured(
    run: Run, stack: Stack, directory: Path, splits: list[str], role: str, config: EvaluateUncertaintyConfig
) -> tuple[list[Split], dict[str, object]]:
    """Every split that can be measured, and the status of those where adding up actions does not give a pose."""
    found, refused = list[Split](), dict[str, object]()
    datasets = open_datasets(directory)
    with run.progress(len(datasets) * len(splits), f"{role} splits") as progress:
        for dataset in datasets:
            for split in splits:
                try:
                    require_retraceable(dataset.shards.contract, dataset.name)
                    found.append(Split(dataset, split, _measure(stack, dataset, split, config)))
                except RefusedError as refusal:
                    refused[f"{dataset.name}.{split}.status"] = f"refused: {refusal.what}"
                progress.update()
    return found, refused


def _measure(stack: Stack, dataset: Dataset, split: str, config: EvaluateUncertaintyConfig) -> Measured:
    require_depths_fit(config, dataset.window)
    length = config.context + config.horizon
    windows = read_windows(
        dataset, split, length, config.max_episodes, config.windows_per_episode, config.starts, config.seed
    )
    return measure(stack, dataset, windows, config)


def _evaluated(
    run: Run, stack: Stack, role: str, each: Split, others: list[Measured], config: EvaluateUncertaintyConfig
) -> dict[str, object]:
    """The numbers of a split; its arrays and pictures are written beside."""
    measured = each.measured
    main, *rest = measured.scored
    arrays = measured.main | measured.pictures | {"episode": measured.episode}
    arrays["imagined"] = measured.pictures[f"imagined.{main}"]
    further: dict[str, Arrays] = {"teacher_forced": measured.one_step}
    further |= {mode: measured.scored[mode] for mode in rest}
    arrays |= {f"{kind}.{name}": values for kind, found in further.items() for name, values in found.items()}
    arrays |= curves(measured.main, measured.episode)
    save_arrays(run.out / f"{role}.{each.name}.npz", arrays)
    metrics = uncertainty_metrics(measured, config, others)
    metrics["protocol"] = uncertainty_protocol(stack, each.dataset, each.split, config, main)
    for mode in rest:
        metrics[f"{mode}.protocol"] = uncertainty_protocol(stack, each.dataset, each.split, config, mode)
    metrics["teacher_forced.protocol"] = uncertainty_protocol(stack, each.dataset, each.split, config, main, "recorded")
    return metrics | {"status": "measured"}
