"""Evaluate values: world models, reward head, unseen policies -> predicted beside true values of action sequences."""

from pathlib import Path
from typing import Annotated

import numpy as np

from whale.common.files import WEIGHTS, sha256_of_file
from whale.common.run import Run
from whale.common.stage_args import OF_ITEM, StageArgs
from whale.evaluation.measuring.rollouts.heldout import Dataset, open_datasets
from whale.evaluation.measuring.rollouts.stack import Stack, load_stack
from whale.evaluation.numbers.metrics import save_arrays, under, written
from whale.evaluation.values.measurement import (
    EvaluateValuesConfig,
    TaskScores,
    all_frames,
    predicted_rewards,
    values_protocol,
)
from whale.evaluation.values.sequences import read_sequences
from whale.models.trunk.torch_process import set_up_torch
from whale.reward.reading import encoder_digest
from whale.reward.reward import RewardHead
from whale.runtime.workers.process.execution import load_execution


class Args(StageArgs):
    """The models, the reward head, and the folder of all data."""

    models: Path
    reward: Path
    data: Path
    evaluate_values: Annotated[EvaluateValuesConfig, OF_ITEM]


def run(args: Args, run: Run) -> None:
    """Pretrained models on the pretraining datasets: one reward head for all of them."""
    config, execution = args.evaluate_values, load_execution()
    device = execution.chosen_device()
    set_up_torch(execution.threads)
    run.note(engine={"device": device})
    metrics: dict[str, object] = {}
    with run.compute():
        stack = load_stack(args.models, device)
        head = RewardHead.of_encoder(args.reward, encoder_digest(stack.tokenizer), device)
        digest = sha256_of_file(args.reward / WEIGHTS)[:16]
        datasets = open_datasets(args.data / "pretrain")
        with run.progress(len(datasets) * len(config.pretrain_splits), "splits") as progress:
            for dataset in datasets:
                for split in config.pretrain_splits:
                    found = _split(run, stack, head, dataset, split, config)
                    for name in sorted({key.split(".")[1] for key in found if key.endswith(".r2")}):
                        found[f"mean.{name}.protocol"] = values_protocol(stack, dataset, split, name, digest, config)
                    metrics |= under(f"pretrain.{dataset.name}.{split}", found)
                    progress.update()
    run.write_metrics(written(metrics))


def _split(
    run: Run, stack: Stack, head: RewardHead, dataset: Dataset, split: str, config: EvaluateValuesConfig
) -> dict[str, object]:
    """`<task>.<variant>.<metric>` of every task, and `mean.`..., their mean."""
    tasks: dict[str, TaskScores] = {}
    for sequences in read_sequences(dataset, split, max(config.horizons), config.sequences):
        frames = all_frames(stack, dataset, sequences, config)
        found = {
            name: predicted_rewards(stack, head, dataset, shown, sequences, config.batch_size)
            for name, shown in frames.items()
        }
        tasks[sequences.task] = TaskScores.of(sequences, found, config)
        arrays = {f"predicted.{name}": rewards for name, rewards in found.items()}
        about = {"policy": np.array(sequences.policy), "success": np.array(sequences.success)}
        arrays |= about | {"true": sequences.rewards, "keys": np.array(sequences.keys)}
        save_arrays(run.out / f"pretrain.{dataset.name}.{split}.{sequences.task}.npz", arrays)
    metrics = under("mean", TaskScores.mean(list(tasks.values())).metrics(config))
    for task, found_of_one in tasks.items():
        metrics |= under(task, found_of_one.metrics(config))
    return metrics
