"""What is known of a trained dynamics without running it: size, tokens seen, training FLOP, share of the data, curve.

FLOP = 3 x forward FLOP per token x tokens seen (flops.py); tokens seen = draws x T x N: padding is computed like all
else, so it counts.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from whale.common.errors import BadDataError, ConfigError, MissingInputError
from whale.common.files import WEIGHTS, sha256_of_file
from whale.common.json_files import read_json
from whale.evaluation.scaling import flops
from whale.models.dynamics.dynamics import Dynamics

LAST_SHARE = 0.1  # of the tokens that all have seen: over these the training loss is averaged, one batch is noise


@dataclass(frozen=True)
class Trained:
    """`parameters` of the network; `tokens` seen in training and their `flops`; `data_fraction` of the episodes.

    flops_per_token: of a forward pass, which tells sizes apart.

    curve: tokens seen [P] and training losses [P], in nats. digest: of the weights.
    """

    name: str
    parameters: int
    tokens: int
    flops_per_token: float
    flops: float
    data_fraction: float
    curve: tuple[np.ndarray, np.ndarray]
    digest: str

    @classmethod
    def read(cls, folder: Path, dynamics: Dynamics, window: int, num_tokens: int) -> Self:
        """Facts of the checkpoint in `folder`; `dynamics` is the network in it, N = `num_tokens` per frame.

        Raises MissingInputError without a record of the training, ConfigError for initial weights.
        """
        records = [folder / name for name in ("training.json", "receipt.json", "curves.json")]
        if absent := [path.name for path in records if not path.is_file()]:
            remedy = "publish it by the stage train_dynamics"
            raise MissingInputError("no record of the training", file=folder, found=f"no {absent[0]}", remedy=remedy)
        training, receipt, curve = (read_json(path) for path in records)
        if not training["steps"]:
            expected, remedy = "an entry with training_steps > 0", "take it out of `models`"
            raise ConfigError("initial weights: nothing was trained", file=folder, place="training.json",
                              found="0 steps", expected=expected, remedy=remedy)  # fmt: skip
        tokens = receipt["num_draws"] * window * num_tokens
        per_token = flops.dynamics(dynamics.config.trunk, dynamics.config.num_codes, num_tokens, window)
        points = [(each["step"], each["loss"]) for each in curve if "loss" in each]
        steps, losses = (np.array(column, np.float64) for column in (zip(*points, strict=True) if points else ((), ())))
        return cls(
            name=folder.name,
            parameters=sum(each.numel() for each in dynamics.parameters()),
            tokens=tokens,
            flops_per_token=per_token,
            flops=flops.TRAINING * per_token * tokens,
            data_fraction=_fraction(receipt, folder),
            curve=(steps * (tokens / training["steps"]), losses),
            digest=sha256_of_file(folder / WEIGHTS),
        )

    def loss_at(self, tokens: int) -> float:
        """Mean training loss over the last tenth of the first `tokens` tokens; NaN where the curve has no point."""
        seen, losses = self.curve
        last = losses[(seen > (1 - LAST_SHARE) * tokens) & (seen <= tokens * (1 + 1e-9))]
        return float(last.mean()) if len(last) else float("nan")


def drawn_by_all(folders: Sequence[Path]) -> set[str]:
    """Datasets that the training of every checkpoint drew from.

    Raises MissingInputError without a receipt, ConfigError where there is no such dataset.
    """
    found = []
    for folder in folders:
        receipt = folder / "receipt.json"
        if not receipt.is_file():
            raise MissingInputError("no record of the training", file=folder, found="no receipt.json",
                                    remedy="publish it by the stage train_dynamics")  # fmt: skip
        found.append(set(read_json(receipt)["datasets"]))
    if not (common := set.intersection(*found)):
        raise ConfigError("no dataset that all models learned from", file=folders[0].parent, place="models",
                          found=[sorted(each) for each in found], expected="one or more in common")  # fmt: skip
    return common


def digest_of(models: Sequence[Trained]) -> str:
    """One name for all of them, for protocols."""
    return hashlib.sha256("".join(each.digest for each in models).encode()).hexdigest()[:16]


def _fraction(receipt: dict, folder: Path) -> float:
    """A receipt that says nothing is that of a training on all episodes."""
    found = {row.get("data_fraction", 1.0) for row in receipt["datasets"].values()}
    if len(found) != 1:
        raise BadDataError("datasets of unlike fractions", file=folder / "receipt.json", found=sorted(found))
    return float(found.pop())
