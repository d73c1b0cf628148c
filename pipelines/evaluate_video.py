"""Evaluate video: checkpoints + held-out episodes -> fidelity, likelihood, rollout metrics, and frames."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from whale.common.run import Run
from whale.common.stage_args import StageArgs
from whale.evaluation.measuring.roles import roles
from whale.evaluation.measuring.rollouts.heldout import Dataset, open_datasets
from whale.evaluation.measuring.rollouts.stack import Stack, load_stack
from whale.evaluation.numbers.metrics import save_arrays, under, written
from whale.evaluation.video.perceptual import load_feature_networks
from whale.evaluation.video.recurrent import Recurrent, load_recurrent
from whale.evaluation.video.video import EvaluateVideoConfig, codebook_metrics, fit_baselines
from whale.evaluation.video.video_report import evaluate_split
from whale.models.trunk.torch_process import set_up_torch
from whale.runtime.workers.process.execution import load_execution
from whale.training.loop.counting import training_flops


class Args(StageArgs):
    """The models, and the folder that holds a folder of shards, tokens and z for each role."""

    models: Path
    data: Path
    evaluate_video: EvaluateVideoConfig


def run(args: Args, run: Run) -> None:
    """Pretrained models on the pretraining datasets; fine-tuned ones, if any, on the demonstrations' dataset."""
    config, execution = args.evaluate_video, load_execution()
    device = execution.chosen_device()
    set_up_torch(execution.threads)
    run.note(engine={"device": device})
    with run.compute():
        metrics: dict[str, object] = {}
        for role, models, directory in roles(args.models, args.data):
            stack = load_stack(models, device).only(config.models)
            datasets = open_datasets(directory)
            others = load_recurrent(models, stack, datasets[0].window, training_flops)
            metrics |= under(role, _evaluate(run, stack, others, datasets, config.splits(role), role, config))
    run.write_metrics(written(metrics))


def _evaluate(
    run: Run, stack: Stack, others: Mapping[str, Recurrent], datasets: list[Dataset], splits: list[str], role: str,
    config: EvaluateVideoConfig,
) -> dict[str, object]:  # fmt: skip
    metrics: dict[str, object] = {}
    code_counts = np.zeros(stack.tokenizer.config.num_codes, np.int64)
    networks = load_feature_networks(config.lpips, config.i3d, config.percep_efflite0, stack.tokenizer.device)
    with run.progress(len(datasets) * len(splits), f"{role} splits") as progress:
        for dataset in datasets:
            baselines = fit_baselines(dataset, stack.tokenizer.config.num_codes, config)
            for split in splits:
                result = evaluate_split(stack, dataset, split, baselines, networks, config, others)
                metrics |= under(f"{dataset.name}.{split}", result.metrics)
                save_arrays(run.out / f"{role}.{dataset.name}.{split}.npz", result.arrays)
                code_counts += result.code_counts
                progress.update()
    return metrics | under("codebook", codebook_metrics(code_counts))
