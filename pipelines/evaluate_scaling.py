"""Evaluate scaling: dynamics of several sizes, unseen episodes -> losses by training FLOP, the line through them."""

from pathlib import Path
from typing import Annotated

from whale.common.run import Run
from whale.common.stage_args import OF_ITEM, StageArgs
from whale.evaluation.measuring.rollouts.heldout import open_datasets
from whale.evaluation.numbers.metrics import save_arrays, under, written
from whale.evaluation.scaling.measurement import (
    EvaluateScalingConfig,
    HeldOut,
    curves,
    facts,
    require_sizes,
    training_metrics,
)
from whale.evaluation.scaling.trained import Trained, drawn_by_all
from whale.models.dynamics.dynamics import Dynamics
from whale.models.trunk.torch_process import set_up_torch
from whale.runtime.workers.process.execution import load_execution


class Args(StageArgs):
    """The models, and the folder that holds a folder of shards, tokens and z for each role."""

    models: Path
    data: Path
    evaluate_scaling: Annotated[EvaluateScalingConfig, OF_ITEM]


def run(args: Args, run: Run) -> None:
    """Pretrained models on the datasets that all of them drew from; then the fine-tuned ones, on the demonstrations."""
    config, execution = args.evaluate_scaling, load_execution()
    device = execution.chosen_device()
    set_up_torch(execution.threads)
    run.note(engine={"device": device})
    with run.compute(), run.progress(len(config.models) + len(config.finetuned), "models") as progress:
        names = drawn_by_all([args.models / "dynamics" / name for name in config.models])
        splits = _read(args.data / "pretrain", config.pretrain_splits, config, names)
        window, num_tokens = next(iter(splits[0].datasets.values())).window, splits[0].num_tokens
        trained = []
        for name in config.models:
            folder = args.models / "dynamics" / name
            dynamics = Dynamics.restore(folder, device)
            trained.append(Trained.read(folder, dynamics, window, num_tokens))
            _score(splits, name, dynamics, config)
            progress.update()
        require_sizes(trained, args.models)
        metrics = under("models", facts(trained)) | under("pretrain", training_metrics(trained))
        for split in splits:
            metrics |= under("pretrain", split.metrics(trained, config))
        tuned = [each for each in trained if each.name in config.finetuned]
        for split in _tuned(args, config, device, progress) if tuned else []:
            metrics |= under("finetune", split.metrics(tuned, config))
        save_arrays(run.out / "curves.npz", curves(trained))
    run.write_metrics(written(metrics))


def _tuned(args: Args, config: EvaluateScalingConfig, device: str, progress) -> list[HeldOut]:
    splits = _read(args.data / "finetune", config.finetune_splits, config)
    for name in config.finetuned:
        _score(splits, name, Dynamics.restore(args.models / "finetuned/dynamics" / name, device), config)
        progress.update()
    return splits


def _read(
    directory: Path, splits: list[str], config: EvaluateScalingConfig, names: set[str] | None = None
) -> list[HeldOut]:
    """Of the datasets of these names, or all."""
    datasets = [each for each in open_datasets(directory) if names is None or each.name in names]
    return [HeldOut.read(datasets, split, config) for split in splits]


def _score(splits: list[HeldOut], name: str, dynamics: Dynamics, config: EvaluateScalingConfig) -> None:
    for split in splits:
        split.score(name, dynamics, config.batch_size)
