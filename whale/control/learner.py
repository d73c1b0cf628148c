"""TD3 with an anchor: two critics, a delayed actor, and a pull towards what good demonstrations did (TD3+BC).

One file of our own: maintained libraries bring an environment loop, a replay buffer and a dozen packages, and none
resumes to the same bytes. Sources: TD3 (arXiv 1802.09477), TD3+BC (arXiv 2106.06860). Rewards are multiplied by
1 - discount, so that critics predict a mean reward and need no tuning when its horizon changes.
Shapes: B rows, X what is seen, A actions.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from whale.common.config import Config
from whale.control.policy import PixelPolicy
from whale.training.loop.resume.checkpoint import prefixed, section
from whale.training.loop.resume.optimizer_state import load_optimizer_tensors, optimizer_tensors


class LearnerConfig(Config):
    """`strength`: weight of the critics' mean against the anchor (TD3+BC: 2.5; 0: behaviour cloning goes on).

    `smoothing`, `smoothing_limit`: noise on the action that a target is asked about; `actor_every`: critic steps for
    one of the actor; `critic_first`: steps of the critics before the actor moves at all; `target_rate`: share by which
    targets follow in a step.
    """

    batch_size: int = Field(ge=2)
    lr: float = Field(gt=0)
    hidden: int = Field(gt=0)
    discount: float = Field(ge=0, lt=1)
    target_rate: float = Field(gt=0, le=1)
    smoothing: float = Field(ge=0)
    smoothing_limit: float = Field(ge=0)
    actor_every: int = Field(gt=0)
    critic_first: int = Field(ge=0)
    strength: float = Field(ge=0)


@dataclass(frozen=True)
class Batch:
    """Rows for the critics, and `anchor`: rows (seen, action) of good demonstrations for the actor to stay near."""

    seen: Tensor
    action: Tensor
    reward: Tensor
    following: Tensor
    anchor: tuple[Tensor, Tensor]


def cloning_loss(policy: PixelPolicy, seen_BX: Tensor, action_BA: Tensor) -> Tensor:
    """Mean squared difference from the recorded actions, over the dimensions that the robot uses."""
    return (policy(seen_BX) - action_BA * policy.live).square().sum(dim=-1).mean() / policy.live.sum()


def anchored_loss(value_B: Tensor, anchor: Tensor, strength: float) -> Tensor:
    """TD3+BC: the critics' mean value in units of its own size, against the cloning loss."""
    scale = strength / value_B.detach().abs().mean().clamp_min(1.0e-6)
    return anchor - scale * value_B.mean()


class Critics(nn.Module):
    """Two networks of one shape: (what is seen, normalised action) -> discounted reward, each [B].

    They begin at `level` everywhere, so that the actor does not follow the slopes of random weights.
    """

    def __init__(self, size: int, hidden: int, level: float):
        super().__init__()
        self.each = nn.ModuleList(_critic(size, hidden, level) for _ in range(2))

    def forward(self, seen_BX: Tensor, action_BA: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([seen_BX, action_BA], dim=-1)
        return self.each[0](both)[:, 0], self.each[1](both)[:, 0]


def _critic(size: int, hidden: int, level: float) -> nn.Sequential:
    last = nn.Linear(hidden, 1)
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, level)
    return nn.Sequential(
        nn.Linear(size, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.LayerNorm(hidden),
        nn.GELU(), last,
    )  # fmt: skip


class Learner:
    """Actor, critics, their targets and optimizers; `tensors` and `load` carry all of it over a restart."""

    def __init__(self, actor: PixelPolicy, config: LearnerConfig, seed: int, level: float):
        """`level`: a first guess of the value, e.g. the mean recorded reward."""
        self.config, self.actor = config, actor
        size = actor.first.in_features + len(actor.config.live)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.critics = Critics(size, config.hidden, level).to(actor.device)
        self.targets = nn.ModuleDict({"actor": copy.deepcopy(actor), "critics": copy.deepcopy(self.critics)})
        self.targets.requires_grad_(False)
        self.optimizers = {name: torch.optim.Adam(module.parameters(), lr=config.lr)
                           for name, module in self._modules().items()}  # fmt: skip
        self.steps = 0

    def step(self, batch: Batch, noise_BA: Tensor) -> dict[str, float]:
        """One step of the critics, and of the actor at every `actor_every`-th. noise: standard normal."""
        critic_loss = self._critic_loss(batch, noise_BA)
        self._descend("critics", critic_loss)
        self.steps += 1
        found = {"critic_loss": float(critic_loss.detach())}
        if self.steps % self.config.actor_every:
            return found
        if self.steps > self.config.critic_first:
            actor_loss, anchor = self._actor_loss(batch)
            self._descend("actor", actor_loss)
            found |= {"actor_loss": float(actor_loss.detach()), "cloning_loss": float(anchor.detach())}
        self._follow()
        return found

    def target(self, batch: Batch, noise_BA: Tensor) -> Tensor:
        """What the critics are drawn to: reward now, and the lesser of the targets' values of what follows."""
        limit, actor, critics = self.config.smoothing_limit, self.targets["actor"], self.targets["critics"]
        noise_BA = (noise_BA * self.config.smoothing).clamp(-limit, limit)
        with torch.no_grad():
            action_BA = actor(batch.following) + noise_BA
            action_BA = torch.cat([action_BA[:, :-1].clamp(-1, 1), action_BA[:, -1:].clamp(0, 1)], dim=1)
            value_B = torch.minimum(*critics(batch.following, action_BA * self.actor.live))
        return (1.0 - self.config.discount) * batch.reward + self.config.discount * value_B

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a restart needs."""
        kept = {"steps": torch.tensor([self.steps])}
        for name, module in self._modules().items():
            kept |= prefixed(dict(module.state_dict()), name)
            kept |= prefixed(optimizer_tensors(module, self.optimizers[name]), f"{name}_optimizer")
        return kept | prefixed(dict(self.targets.state_dict()), "targets")

    def load(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `tensors`."""
        self.steps = int(tensors["steps"][0])
        for name, module in self._modules().items():
            module.load_state_dict(section(tensors, name))
            load_optimizer_tensors(module, self.optimizers[name], section(tensors, f"{name}_optimizer"))
        self.targets.load_state_dict(section(tensors, "targets"))

    def _critic_loss(self, batch: Batch, noise_BA: Tensor) -> Tensor:
        target_B = self.target(batch, noise_BA)
        first_B, second_B = self.critics(batch.seen, batch.action)
        return nn.functional.mse_loss(first_B, target_B) + nn.functional.mse_loss(second_B, target_B)

    def _actor_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        anchor = cloning_loss(self.actor, *batch.anchor)
        value_B = self.critics(batch.seen, self.actor(batch.seen))[0]
        return anchored_loss(value_B, anchor, self.config.strength), anchor

    def _descend(self, name: str, loss: Tensor) -> None:
        module, optimizer = self._modules()[name], self.optimizers[name]
        gradients = torch.autograd.grad(loss, list(module.parameters()))
        for parameter, gradient in zip(module.parameters(), gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()

    @torch.no_grad()
    def _follow(self) -> None:
        for name, module in self._modules().items():
            for target, value in zip(self.targets[name].parameters(), module.parameters(), strict=True):
                target.lerp_(value, self.config.target_rate)

    def _modules(self) -> dict[str, nn.Module]:
        return {"actor": self.actor, "critics": self.critics}


def mixed(recorded: np.ndarray, imagined: np.ndarray, count: int, share: float, rng: np.random.Generator) -> tuple:
    """Numbers of `count` rows with replacement: round(share * count) of the recorded ones, the rest imagined ones."""
    first = round(share * count)
    return rng.choice(recorded, first), rng.choice(imagined, count - first)
