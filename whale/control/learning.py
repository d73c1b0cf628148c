"""What learns by rounds: behaviour cloning, and reinforcement in imagination on top of it (P 6.3, Figure 4).

Shapes: N recorded transitions, B rows of a batch, c given frames, H horizon, A actions.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from whale.common.config import Config
from whale.control.demonstrations import Demonstrations, Transitions
from whale.control.imagination import Begun, ImaginationConfig, Imagined, Penalty, alpha_of, imagine, penalised
from whale.control.learner import Batch, Learner, LearnerConfig, cloning_loss, mixed
from whale.control.policy import Describer, PixelPolicy
from whale.control.rounds import generator
from whale.data.segments.actions import ActionNormalizer
from whale.models.world.learned import LearnedWorld
from whale.models.world.rollout import Observer
from whale.reward.reward import RewardHead
from whale.training.loop.resume.checkpoint import prefixed, section
from whale.training.loop.resume.optimizer_state import load_optimizer_tensors, optimizer_tensors


class CloningConfig(Config):
    """Behaviour cloning: of all episodes, and of the `best_share` of them by mean reward. `jitter`: standard deviation
    of noise on what is seen, whose components have variance 1: few episodes are learned by heart without it."""

    best_share: float = Field(gt=0, lt=1)
    batch_size: int = Field(gt=0)
    lr: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    jitter: float = Field(ge=0)


class Cloning:
    """AdamW on the mean squared difference from what some episodes did."""

    def __init__(
        self, policy: PixelPolicy, recorded: Transitions, rows: np.ndarray, config: CloningConfig, steps: int,
        seed: int, name: str,
    ):  # fmt: skip
        self.policy, self.recorded, self.rows = policy, recorded, rows
        self.config, self.steps, self.seed, self.name = config, steps, seed, name
        self.optimizer = torch.optim.AdamW(policy.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        self.facts: dict[str, float] = {"transitions": float(len(rows))}

    def round(self, number: int) -> dict[str, float]:
        """The mean loss of the round."""
        rng, losses = generator(self.seed, self.name, number), []
        for _ in range(self.steps):
            chosen = rng.choice(self.rows, self.config.batch_size)
            seen = self.recorded.seen[chosen]
            seen = seen + self.config.jitter * rng.standard_normal(seen.shape, np.float32)
            placed = self.policy.placed
            loss = cloning_loss(self.policy, placed(seen), placed(self.recorded.action[chosen]))
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            losses.append(float(loss.detach()))
        return {"cloning_loss": float(np.mean(losses))}

    def tensors(self) -> dict[str, Tensor]:
        return prefixed(dict(self.policy.state_dict()), "policy") | prefixed(
            optimizer_tensors(self.policy, self.optimizer), "optimizer"
        )

    def load(self, tensors: dict[str, Tensor], facts: dict[str, float]) -> None:
        self.policy.load_state_dict(section(tensors, "policy"))
        load_optimizer_tensors(self.policy, self.optimizer, section(tensors, "optimizer"))
        self.facts = facts


@dataclass(frozen=True)
class Dreams:
    """What imagining needs: the world, the head that reads rewards, recorded histories [H, 2] to begin from."""

    world: LearnedWorld
    head: RewardHead
    describe: Describer
    normalizer: ActionNormalizer
    demonstrations: Demonstrations
    histories: np.ndarray
    observers: Mapping[Penalty, Observer | None]
    config: ImaginationConfig

    def imagined(self, policy: PixelPolicy, penalty: Penalty, rng: np.random.Generator) -> Imagined:
        """The branches of one round, from histories drawn without replacement where there are enough of them."""
        config, enough = self.config, len(self.histories) >= self.config.branches
        chosen = np.sort(rng.choice(len(self.histories), config.branches, replace=not enough))
        given, taken, first = [], [], []
        for episode, start in self.histories[chosen]:
            at = self.demonstrations.first[episode] + start
            given.append(self.demonstrations.frames(int(episode), int(start), int(start) + config.context))
            taken.append(self.demonstrations.actions[at : at + config.context - 1])
            first.append(self.demonstrations.frames(int(episode), 0, 1)[0])
        begun = Begun(np.stack(first), [self.demonstrations.rows[each].language for each, _ in self.histories[chosen]])
        noise = config.exploration * rng.standard_normal(
            (config.branches, config.horizon, len(policy.config.live)), np.float32
        )
        return imagine(
            self.world, self.head, policy, self.describe, self.normalizer, np.stack(given), np.stack(taken), begun,
            noise, self.observers[penalty], penalty,
        )  # fmt: skip


class Dreaming:
    """TD3 with an anchor, on recorded and imagined transitions; what is imagined is made anew in every round."""

    def __init__(
        self, policy: PixelPolicy, recorded: Transitions, good: np.ndarray, dreams: Dreams, penalty: Penalty,
        config: LearnerConfig, steps: int, seed: int, name: str,
    ):  # fmt: skip
        """`good`: numbers of the recorded transitions that the actor stays near."""
        self.policy, self.recorded, self.good, self.dreams, self.penalty = policy, recorded, good, dreams, penalty
        level = float(recorded.reward.mean(dtype=np.float64))
        self.learner, self.steps = Learner(policy, config, seed, level), steps
        self.seed, self.name = seed, name
        self.facts: dict[str, float] = {}

    def round(self, number: int) -> dict[str, float]:
        """What the round imagined and lost, on average."""
        rng = generator(self.seed, self.name, number)
        found = self.dreams.imagined(self.policy, self.penalty, rng)
        if "alpha" not in self.facts:
            is_penalised = self.penalty != "none"
            wanted = self.dreams.config.mean_penalty if is_penalised else 0.0
            self.facts["alpha"] = alpha_of(found.uncertainty, wanted)
        alpha = self.facts["alpha"]
        reward = penalised(found.reward, found.uncertainty, alpha).astype(np.float32)
        logs: list[dict[str, float]] = [
            self.learner.step(self._batch(found, reward, rng), self._noise(rng)) for _ in range(self.steps)
        ]
        means = {key: float(np.mean([log[key] for log in logs if key in log])) for key in sorted(set().union(*logs))}
        return means | {
            "imagined_reward": float(found.reward.mean(dtype=np.float64)),
            "uncertainty": float(found.uncertainty.mean(dtype=np.float64)),
            "penalty": alpha * float(found.uncertainty.mean(dtype=np.float64)),
        }

    def tensors(self) -> dict[str, Tensor]:
        return self.learner.tensors()

    def load(self, tensors: dict[str, Tensor], facts: dict[str, float]) -> None:
        self.learner.load(tensors)
        self.facts = facts

    def _batch(self, found: Imagined, reward: np.ndarray, rng: np.random.Generator) -> Batch:
        real, size, share = self.recorded, self.learner.config.batch_size, self.dreams.config.recorded_share
        here, there = mixed(np.arange(len(real)), np.arange(len(reward)), size, share, rng)
        near = rng.choice(self.good, size)
        parts = [
            (real.seen[here], found.seen[there]), (real.action[here], found.action[there]),
            (real.reward[here], reward[there]), (real.following[here], found.following[there]),
        ]  # fmt: skip
        placed = self.policy.placed
        seen, action, earned, following = (placed(np.concatenate(pair)) for pair in parts)
        return Batch(seen, action, earned, following, (placed(real.seen[near]), placed(real.action[near])))

    def _noise(self, rng: np.random.Generator) -> Tensor:
        shape = (self.learner.config.batch_size, len(self.policy.config.live))
        return self.policy.placed(rng.standard_normal(shape, np.float32))
