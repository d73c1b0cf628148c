"""Values of action sequences by a reward head on recorded, reconstructed, imagined and frozen frames (P Table 1).

Shapes: B sequences, H horizon, R resolution.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
from pydantic import Field

from whale.common.config import Config
from whale.evaluation.measuring.rollouts.fidelity import copy_last
from whale.evaluation.measuring.rollouts.heldout import Dataset
from whale.evaluation.measuring.rollouts.imagination import predictor
from whale.evaluation.measuring.rollouts.reconstruction import reconstruct_long
from whale.evaluation.measuring.rollouts.stack import Stack
from whale.evaluation.numbers.bootstrap import Interval
from whale.evaluation.numbers.protocol import protocol
from whale.evaluation.uncertainty.correlation import explained
from whale.evaluation.values import scores
from whale.evaluation.values.sequences import Sequences
from whale.reward.reading import read_rewards
from whale.reward.reward import RewardHead

RECORDED, RECONSTRUCTED, FROZEN, GUESS = "recorded", "reconstructed", "first_frame", "guess"
TOO_WEAK = "model too weak: rewards of its frames are explained no better than by their mean"
MEASURED = "measured"


class EvaluateValuesConfig(Config):
    """One entry of evaluate_values. `models`: entries of train_dynamics; `best_of`: k of regret@k (P: 5)."""

    seed: int
    pretrain_splits: list[str] = Field(min_length=1)
    models: list[str] = Field(min_length=1)
    horizons: list[Annotated[int, Field(gt=0)]] = Field(min_length=1)
    sequences: int = Field(gt=1)  # of a task
    best_of: int = Field(gt=0)
    resamples: int = Field(ge=100)
    batch_size: int = Field(gt=0)


def all_frames(
    stack: Stack, dataset: Dataset, sequences: Sequences, config: EvaluateValuesConfig
) -> dict[str, np.ndarray]:
    """{variant: frames [B, H + 1, R, R, 3]}; every variant starts with the recorded frame."""
    horizon = sequences.actions.shape[1]
    first, window = sequences.frames[:, :1], dataset.window
    found = {
        RECORDED: sequences.frames,
        RECONSTRUCTED: reconstruct_long(stack.tokenizer, sequences.frames, window, config.batch_size),
        FROZEN: np.concatenate([first, copy_last(first, horizon)], axis=1),
    }
    for name in config.models:
        imagined = predictor(stack.world(name, dataset), config.batch_size)(first, sequences.actions, horizon)
        found[name] = np.concatenate([first, imagined], axis=1)
    return found


def predicted_rewards(
    stack: Stack, head: RewardHead, dataset: Dataset, frames: np.ndarray, sequences: Sequences, batch_size: int
) -> np.ndarray:
    """float64 [B, H]: what the head says that each action of the sequences earned, by these frames of them.

    Whichever the frames are, the sequences begin at their recorded first frames.
    """
    action, first = dataset.normalized(sequences.actions), sequences.frames[:, 0]
    return read_rewards(head, stack.tokenizer, frames, action, sequences.instructions, first, batch_size)


@dataclass(frozen=True)
class TaskScores:
    """Of one task. `replicates`: {`<variant>.h<horizon>.<metric>`: its value and those of the resamples [1 + R]};
    `numbers`: what has no interval, under such names."""

    replicates: dict[str, np.ndarray]
    numbers: dict[str, float | int]

    @classmethod
    def of(cls, sequences: Sequences, found: Mapping[str, np.ndarray], config: EvaluateValuesConfig) -> Self:
        """`found`: {variant: predicted rewards [B, H]}."""
        replicates: dict[str, np.ndarray] = {}
        numbers: dict[str, float | int] = {"num_sequences": len(sequences)}
        for horizon in config.horizons:
            true_B = sequences.rewards[:, :horizon].sum(axis=1, dtype=np.float64)
            at, k = f"h{horizon}", min(config.best_of, len(true_B))
            numbers |= {f"{GUESS}.{at}.{name}": value for name, value in scores.guesses(true_B, k).items()}
            numbers |= {f"true.{at}.mean": float(true_B.mean()), f"true.{at}.deviation": float(true_B.std())}
            for name, rewards in found.items():
                found_B, place = rewards[:, :horizon].sum(axis=1), f"{name}.{at}"
                rng = np.random.default_rng([config.seed, *f"values.{sequences.task}.{place}".encode()])
                resampled = scores.replicates(true_B, found_B, k, rng, config.resamples)
                replicates |= {f"{place}.{metric}": values for metric, values in resampled.items()}
                within = scores.within_policies(true_B, found_B, sequences.policy)
                numbers[f"{place}.spearman_within_policies"] = within
                numbers[f"{place}.r2"] = explained(sequences.rewards[:, :horizon], rewards[:, :horizon])
        return cls(replicates, numbers)

    @classmethod
    def mean(cls, tasks: Sequence["TaskScores"]) -> "TaskScores":
        """The paper's last step: the plain mean over tasks of every number, and of every resample."""
        names = [name for name in tasks[0].replicates if all(name in task.replicates for task in tasks)]
        kept = [name for name in tasks[0].numbers if all(name in task.numbers for task in tasks)]
        return cls(
            {name: np.mean([task.replicates[name] for task in tasks], axis=0) for name in names},
            {name: float(np.mean([task.numbers[name] for task in tasks])) for name in kept if name != "num_sequences"},
        )

    def metrics(self, config: EvaluateValuesConfig) -> dict[str, object]:
        """Every number with its interval, and of every model whether its numbers are a result."""
        metrics: dict[str, object] = dict(self.numbers)
        for name, values in self.replicates.items():
            metrics |= Interval.around(float(values[0]), values[1:]).as_metrics(name)
        for name in config.models:
            r2 = self.numbers.get(f"{name}.h{max(config.horizons)}.r2", np.nan)
            metrics[f"{name}.status"] = MEASURED if r2 > 0 else TOO_WEAK
        return metrics


def values_protocol(
    stack: Stack, dataset: Dataset, split: str, variant: str, reward: str, config: EvaluateValuesConfig
) -> str:
    """How these numbers were measured; `reward`: digest of the head. The paper names neither unit nor horizon."""
    return protocol(
        "values",
        model=stack.digests.get(variant, variant),
        data=f"{dataset.name}/{split}",
        shards=dataset.shards.digest[:16],
        resolution=stack.tokenizer.config.resolution,
        window=dataset.window,
        context=1,
        horizons=",".join(map(str, config.horizons)),
        sequences=config.sequences,
        start="first frame",
        decoding="argmax",
        discount=1,
        reward_unit="as recorded, summed over recorded steps",
        reward_head=reward,
        seed=config.seed,
    )
