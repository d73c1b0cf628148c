"""Losses of dynamics of several sizes on the same held-out episodes, beside what their training cost (P 6.3, Fig. 7).

Shapes: S segments, T window, N tokens per frame, M models, R resamples (row 0: all episodes).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from whale.common.config import Config
from whale.common.errors import ConfigError
from whale.evaluation.measuring.rollouts.heldout import Dataset, Segments, read_segments
from whale.evaluation.numbers.bootstrap import Interval
from whale.evaluation.numbers.metrics import under
from whale.evaluation.numbers.protocol import protocol
from whale.evaluation.scaling.fit import FEWEST_SIZES, fit_metrics
from whale.evaluation.scaling.trained import LAST_SHARE, Trained, digest_of
from whale.evaluation.uncertainty.correlation import Resampling
from whale.evaluation.video.likelihood import token_likelihood
from whale.models.dynamics.dynamics import Dynamics

Name = Annotated[str, Field(pattern="^[a-z0-9_]+$")]  # of a folder
TOGETHER = "mean"  # of all datasets of a role, in the place of one's name
TRAINING = "training"  # in the place of a split
EVERY = "all"  # data fractions together


class EvaluateScalingConfig(Config):
    """One entry of evaluate_scaling. `models`: entries of train_dynamics, of at least three sizes.

    finetuned: those of them that an entry of finetune_dynamics of the same name goes on from. Each model is loaded by
    itself; every one is scored on the same segments of at most `max_episodes` episodes of a split.
    """

    seed: int
    models: list[Name] = Field(min_length=FEWEST_SIZES)
    finetuned: list[Name]
    pretrain_splits: list[str] = Field(min_length=1)
    finetune_splits: list[str]
    max_episodes: int = Field(gt=0)
    resamples: int = Field(ge=100)
    batch_size: int = Field(gt=0)

    @model_validator(mode="after")
    def _lists_agree(self) -> Self:
        if len(set(self.models)) < len(self.models):
            raise ValueError("models names an entry twice")
        if unknown := sorted(set(self.finetuned) - set(self.models)):
            raise ValueError(f"finetuned names what is not in models: {', '.join(unknown)}")
        if bool(self.finetuned) != bool(self.finetune_splits):
            raise ValueError("finetuned and finetune_splits: both, or neither")
        return self


@dataclass
class HeldOut:
    """One split of the datasets of a role, read once: `segments` and `resampling` of each, the same for all models."""

    split: str
    datasets: Mapping[str, Dataset]
    segments: Mapping[str, Segments]
    resampling: Mapping[str, Resampling]
    losses: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)  # model -> dataset -> [1 + R]

    @classmethod
    def read(cls, datasets: Sequence[Dataset], split: str, config: EvaluateScalingConfig) -> Self:
        """Raises BadDataError for a split without an episode."""
        named = {each.name: each for each in datasets}
        found = {name: read_segments(each, split, config.max_episodes, with_frames=False)
                 for name, each in named.items()}  # fmt: skip
        resampling = {name: Resampling.of(each.episode, _rng(config, name, split), config.resamples)
                      for name, each in found.items()}  # fmt: skip
        return cls(split, named, found, resampling)

    @property
    def num_tokens(self) -> int:
        """N."""
        return next(iter(self.segments.values())).tokens.shape[-1]

    def score(self, name: str, dynamics: Dynamics, batch_size: int) -> None:
        """Token nll of a model under teacher forcing, mean over valid transitions, of all episodes and of resamples."""
        self.losses[name] = {}
        for dataset, part in self.segments.items():
            scored = token_likelihood(dynamics, part.tokens, part.actions, part.z_log_probs, batch_size)
            sums_S = np.where(part.valid, scored.nll, 0.0).sum(axis=1)
            weights_RS = self.resampling[dataset].weights_RE
            self.losses[name][dataset] = (weights_RS @ sums_S) / (weights_RS @ part.valid.sum(axis=1))

    def together(self, names: Sequence[str]) -> np.ndarray:
        """[1 + R, M]: the mean over datasets of each model's losses."""
        return np.stack([np.mean([*self.losses[name].values()], axis=0) for name in names], axis=1)

    def metrics(self, models: Sequence[Trained], config: EvaluateScalingConfig) -> dict[str, object]:
        """`<dataset>.<split>.models.<name>.nll` of each, and under `mean` of all together, with the line through it."""
        found: dict[str, object] = {}
        names = [each.name for each in models]
        for name in names:
            for dataset, losses_R in self.losses[name].items():
                value = Interval.around(float(losses_R[0]), losses_R[1:]).as_metrics(f"models.{name}.nll")
                found |= under(f"{dataset}.{self.split}", value)
        losses_RM = self.together(names)
        mean = fits(models, losses_RM) | {"protocol": self._protocol(models, config)}
        for name, losses_R in zip(names, losses_RM.T, strict=True):
            mean |= Interval.around(float(losses_R[0]), losses_R[1:]).as_metrics(f"models.{name}.nll")
        return found | under(f"{TOGETHER}.{self.split}", mean)

    def _protocol(self, models: Sequence[Trained], config: EvaluateScalingConfig) -> str:
        shards = hashlib.sha256("".join(each.shards.digest for each in self.datasets.values()).encode())
        return protocol(
            "scaling", model=digest_of(models), data=f"{','.join(self.datasets)}/{self.split}",
            shards=shards.hexdigest()[:16], loss="token nll, teacher forcing, mean over datasets", z="mode",
            flops="3 x forward FLOP per token x tokens of pretraining", fit="a + b log10(FLOP), least squares",
            interval="episodes resampled", episodes=config.max_episodes, resamples=config.resamples, seed=config.seed,
            window=next(iter(self.datasets.values())).window,
        )  # fmt: skip


def fits(models: Sequence[Trained], losses_RM: np.ndarray) -> dict[str, object]:
    """`fit.<data>.<metric>` of the models of each data fraction, `data100` of all episodes, and of `all` of them.

    A fraction with fewer than three sizes has no line.
    """
    fractions = sorted({each.data_fraction for each in models})
    groups = {data_name(fraction): [each.data_fraction == fraction for each in models] for fraction in fractions}
    if len(groups) > 1:
        groups[EVERY] = [True] * len(models)
    found: dict[str, object] = {}
    for group, is_in in groups.items():
        chosen = [each for each, kept in zip(models, is_in, strict=True) if kept]
        sizes = [each.flops_per_token for each in chosen]
        if len(set(sizes)) >= FEWEST_SIZES and np.isfinite(losses_RM[0, is_in]).all():
            flops = [each.flops for each in chosen]
            found |= under(f"fit.{group}", fit_metrics(flops, sizes, losses_RM[:, is_in]))
    return found


def training_metrics(models: Sequence[Trained]) -> dict[str, object]:
    """`mean.training`: the training loss of each at equal tokens, and the line through it, without an interval.

    Sizes were trained with one learning rate and one schedule; equal tokens are those of the shortest training.
    """
    tokens = min(each.tokens for each in models)
    losses = np.array([[each.loss_at(tokens) for each in models]])
    found = fits(models, losses) | {"equal_tokens": tokens}
    found |= {f"models.{each.name}.loss": float(loss) for each, loss in zip(models, losses[0], strict=True)}
    found["protocol"] = protocol(
        "scaling", model=digest_of(models), data="train", loss="training nll",
        over=f"last {LAST_SHARE:.0%} of the tokens that all have seen", fit="a + b log10(FLOP), least squares",
        flops="3 x forward FLOP per token x tokens of pretraining",
    )  # fmt: skip
    return under(f"{TOGETHER}.{TRAINING}", found)


def facts(models: Sequence[Trained]) -> dict[str, object]:
    """What each model is, and what it cost."""
    found: dict[str, object] = {}
    for each in models:
        values = {"parameters": each.parameters, "tokens": each.tokens, "flops": each.flops,
                  "data_fraction": each.data_fraction}  # fmt: skip
        found |= under(each.name, values)
    return found


def curves(models: Sequence[Trained]) -> dict[str, np.ndarray]:
    """`<name>.tokens`, `<name>.loss`: the training curves, for the figure."""
    return {f"{each.name}.{what}": values for each in models
            for what, values in zip(("tokens", "loss"), each.curve, strict=True)}  # fmt: skip


def require_sizes(models: Sequence[Trained], models_dir: Path) -> None:
    """Raises ConfigError where the checkpoints are of fewer than three sizes."""
    sizes = sorted({each.flops_per_token for each in models})
    if len(sizes) < FEWEST_SIZES:
        raise ConfigError("too few sizes for a line", file=models_dir, place="evaluate_scaling.models", found=sizes,
                          expected=f"at least {FEWEST_SIZES} numbers of FLOP per token")  # fmt: skip


def data_name(fraction: float) -> str:
    """`data100` for all episodes, `data12_5` for an eighth."""
    return f"data{100 * fraction:g}".replace(".", "_")


def _rng(config: EvaluateScalingConfig, *stream: str) -> np.random.Generator:
    return np.random.default_rng([config.seed, *b"scaling.", *".".join(stream).encode()])
