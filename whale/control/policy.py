"""A policy that acts on pictures: the frozen tokenizer describes frames, a small network says what to do.

Each frame is described by itself, recorded, imagined or drawn by a simulator, and its description is projected onto the
directions in which the recorded frames differ most. Shapes: M frames, F features of a frame, P components, S frames
that are seen, B rows, A actions.
"""

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from whale.common.config import Config
from whale.data.segments.actions import ActionNormalizer
from whale.models.trunk.folder import PublishedModel
from whale.policies.protocol import Beginning, Contender, Observation

SMALLEST_VARIANCE = 1.0e-6  # of a component, relative to the first: what varies less is noise


class PolicyConfig(Config):
    """`frames`: the present one and those before; `components`: numbers a frame becomes; `hidden`: of two layers."""

    frames: int = Field(gt=0)
    components: int = Field(gt=0)
    hidden: int = Field(gt=0)


class PixelPolicyConfig(PolicyConfig):
    """As published. `live`: dimensions of the action that the robot uses; the last one is the gripper."""

    feature_size: int = Field(gt=0)
    live: list[bool] = Field(min_length=2)


class PixelPolicy(PublishedModel):
    """Two hidden layers on the last S frames -> normalised actions: [-1, 1], gripper [0, 1], 0 where nothing moves."""

    kind = "pixel_policy"
    config_class = PixelPolicyConfig
    mean: Tensor
    basis: Tensor
    live: Tensor

    def __init__(self, config: PixelPolicyConfig):
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(config.feature_size))
        self.register_buffer("basis", torch.zeros(config.feature_size, config.components))
        self.register_buffer("live", torch.tensor(config.live, dtype=torch.float32))
        self.first = nn.Linear(config.frames * config.components, config.hidden)
        self.second = nn.Linear(config.hidden, config.hidden)
        self.last = nn.Linear(config.hidden, len(config.live))

    @classmethod
    def new(cls, config: PolicyConfig, features_MF: np.ndarray, live: np.ndarray, seed: int) -> Self:
        """Untrained, looking along the principal components of these frames."""
        mean_F, basis_FP = principal(features_MF, config.components)
        shape = {"feature_size": len(mean_F), "components": basis_FP.shape[1], "live": live.tolist()}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            policy = cls(PixelPolicyConfig(**(config.model_dump() | shape)))
        policy.mean.copy_(torch.from_numpy(mean_F))
        policy.basis.copy_(torch.from_numpy(basis_FP))
        return policy

    def project(self, features: Tensor) -> Tensor:
        """Features [..., F] of frames, each by itself -> [..., P]."""
        return (features - self.mean) @ self.basis

    def forward(self, seen_BX: Tensor) -> Tensor:
        """What was seen, S * P numbers a row with the present frame last -> actions [B, A]."""
        x = nn.functional.gelu(self.first(seen_BX))
        x = self.last(nn.functional.gelu(self.second(x)))
        bounded = torch.cat([x[..., :-1].tanh(), x[..., -1:].sigmoid()], dim=-1)
        return bounded * self.live


def principal(features_MF: np.ndarray, components: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean [F] and a basis [F, P] in which these frames have variance 1; P is at most M - 1 and at most F.

    By the Gram matrix of the frames: F may be large. The sign of a direction is that of its largest weight.
    """
    mean_F = features_MF.mean(axis=0, dtype=np.float64)
    centred_MF = features_MF.astype(np.float64) - mean_F
    number, size = centred_MF.shape
    kept = min(components, max(number - 1, 1), size)
    values, vectors = np.linalg.eigh(centred_MF @ centred_MF.T / number)
    values_P, vectors_MP = values[::-1][:kept], vectors[:, ::-1][:, :kept]
    floor = max(float(values_P[0]), 1.0e-12) * SMALLEST_VARIANCE
    directions_FP = centred_MF.T @ vectors_MP / np.sqrt(np.maximum(values_P, floor) * number)
    signs = np.sign(np.take_along_axis(directions_FP, np.abs(directions_FP).argmax(axis=0)[None], axis=0))
    basis_FP = directions_FP * np.where(signs == 0, 1.0, signs) / np.sqrt(np.maximum(values_P, floor))
    return mean_F.astype(np.float32), basis_FP.astype(np.float32)


class Describer:
    """Pictures -> features by a frozen tokenizer, each by itself. uint8 [B, R, R, 3] -> [B, F]."""

    def __init__(self, features, placed, batch_size: int):
        self._features, self._placed, self.batch_size = features, placed, batch_size

    @torch.inference_mode()
    def __call__(self, frames: np.ndarray | Tensor) -> Tensor:
        parts = [self._features(self._placed(frames[start : start + self.batch_size])).flatten(1).float()
                 for start in range(0, len(frames), self.batch_size)]  # fmt: skip
        return torch.cat(parts)


class _Acting:
    """All episodes side by side; each remembers the last S frames, projected."""

    def __init__(
        self, policy: PixelPolicy, describe: Describer, normalizer: ActionNormalizer, beginnings: Sequence[Beginning]
    ):
        self.policy, self.describe, self.normalizer = policy, describe, normalizer
        self.seen: list[list[Tensor]] = [[] for _ in beginnings]

    @torch.inference_mode()
    def act(self, observations: Sequence[Observation], rows: Sequence[int]) -> list[np.ndarray]:
        projected_BP = self.policy.project(self.describe(np.stack([each.image for each in observations])))
        stacked = []
        for row, now_P in zip(rows, projected_BP, strict=True):
            before = self.seen[row] or [now_P] * self.policy.config.frames  # the first frame has always been there
            self.seen[row] = [*before[1:], now_P]
            stacked.append(torch.cat(self.seen[row]))
        actions = self.policy(torch.stack(stacked)).cpu().numpy()
        return [action[None] for action in self.normalizer.denormalize(actions)]


def pixel_policy(name: str, policy: PixelPolicy, describe: Describer, normalizer: ActionNormalizer) -> Contender:
    """The policy as others are compared with it; its trials are not kept, for it learns on."""
    return Contender(name, lambda beginnings: _Acting(policy, describe, normalizer, beginnings))
