"""Figure 4 for one task: behaviour cloning of all and of the best episodes, then four ways of reinforcement in
imagination, each with several seeds, and what each succeeds in while it learns.

Shapes: E starts.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from whale.common.config import Config
from whale.control.arenas import Arena, FleetArenaConfig, MetaworldArenaConfig
from whale.control.demonstrations import Demonstrations, Transitions, best, transitions
from whale.control.imagination import ImaginationConfig, members_of, observer
from whale.control.learner import LearnerConfig
from whale.control.learning import Cloning, CloningConfig, Dreaming, Dreams
from whale.control.policy import Describer, PixelPolicy, PolicyConfig, pixel_policy
from whale.control.rounds import Learning, Point, carry_out
from whale.policies.protocol import Beginning
from whale.reward.reward import RewardHead
from whale.training.loop.resume.checkpoint import StateFolder
from whale.worlds.world import World

ALL, BEST = "cloning_all", "cloning_best"
MOST_FRAMES = 2048  # that the directions of a policy's sight are found from


class ScheduleConfig(Config):
    """Of one run: `rounds` of `steps` gradient steps, an evaluation after each `evaluate_every` rounds and the last."""

    rounds: int = Field(gt=0)
    steps: int = Field(gt=0)
    evaluate_every: int = Field(gt=0)


class OptimizePolicyConfig(Config):
    """One entry of optimize_policy: a task. `model`: an entry of train_dynamics, `ensemble`: further ones that differ
    by their seed, `reward`: an entry of train_reward. `episodes` (P: 20) starts of an evaluation, the same for all,
    drawn with `start_seed`; `seeds`: of learning, each with everything anew."""

    dataset: str
    task: str
    model: str
    ensemble: list[str]
    reward: str
    arena: FleetArenaConfig | MetaworldArenaConfig = Field(discriminator="kind")
    episodes: int = Field(gt=0)
    start_seed: int = Field(ge=0)
    seeds: list[int] = Field(min_length=1)
    policy: PolicyConfig
    cloning: CloningConfig
    cloning_schedule: ScheduleConfig
    imagination: ImaginationConfig
    learner: LearnerConfig
    learner_schedule: ScheduleConfig
    resamples: int = Field(ge=100)
    batch_size: int = Field(gt=0)

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds: different ones from 0 on, not {self.seeds}")
        if self.policy.frames > self.imagination.context:
            raise ValueError(f"policy.frames {self.policy.frames}: a branch begins with {self.imagination.context}")
        if "ensemble" in self.imagination.penalties and not self.ensemble:
            raise ValueError("ensemble: name the other members, or leave that penalty out")
        return self

    @property
    def methods(self) -> list[str]:
        """In the order in which they are learned."""
        return [ALL, BEST, *self.imagination.penalties]

    @property
    def rounds(self) -> int:
        """Of all runs together."""
        of_one = 2 * self.cloning_schedule.rounds
        of_one += len(self.imagination.penalties) * self.learner_schedule.rounds
        return len(self.seeds) * of_one


@dataclass(frozen=True)
class Learned:
    """One run: its curve, a record a round, numbers of the whole, and the policy after the last step."""

    method: str
    seed: int
    curve: list[Point]
    records: list[dict[str, float]]
    facts: dict[str, float]
    policy: PixelPolicy

    @property
    def success(self) -> np.ndarray:
        """bool [E] after the last step."""
        return np.array(self.curve[-1].success, bool)


class Optimization:
    """Everything that the runs of a task share."""

    def __init__(
        self, config: OptimizePolicyConfig, world: World, head: RewardHead, demonstrations: Demonstrations,
        arena: Arena, models: Path,
    ):  # fmt: skip
        self.config, self.arena = config, arena
        model, self.normalizer = world.model, world.contract.normalizer
        self.describe = Describer(model.features, model.tokenizer.placed, config.batch_size)
        self.features = self.describe(demonstrations.spread(MOST_FRAMES)).cpu().numpy()
        self.live = ~self.normalizer.dead
        self.demonstrations = demonstrations
        self.good = best(demonstrations.value, config.cloning.best_share)
        self.beginnings: list[Beginning] = arena.beginnings(config.episodes, config.start_seed)
        members = members_of(world, models, config.ensemble)
        imagination = config.imagination
        self.dreams = Dreams(
            model, head, self.describe, self.normalizer, demonstrations,
            demonstrations.histories(imagination.context),
            {name: observer(name, world, members, imagination.retracing_steps) for name in imagination.penalties},
            imagination,
        )  # fmt: skip
        self.device = model.device
        self.recorded = self._recorded()

    def runs(self, states: Callable[[str], StateFolder], progress: Callable[[int, bool], object]) -> Iterator[Learned]:
        """Seed by seed: cloning first, whose best then begins every other run of that seed."""
        for seed in self.config.seeds:
            yield self._learned(ALL, seed, self._cloning(ALL, seed), states, progress)
            cloned = self._learned(BEST, seed, self._cloning(BEST, seed), states, progress)
            yield cloned
            for penalty in self.config.imagination.penalties:
                policy = copy.deepcopy(cloned.policy)
                learning = Dreaming(
                    policy, self.recorded, self.recorded.of(self.good), self.dreams, penalty, self.config.learner,
                    self.config.learner_schedule.steps, seed, penalty,
                )  # fmt: skip
                yield self._learned(penalty, seed, learning, states, progress)

    def successes(self, policy: PixelPolicy) -> np.ndarray:
        """bool [E] of a policy as it is."""
        played = pixel_policy("learned", policy, self.describe, self.normalizer)
        return self.arena.successes(played, self.beginnings)

    def expert(self) -> np.ndarray:
        """bool [E] of the simulator's own policy."""
        return self.arena.successes(self.arena.expert, self.beginnings)

    def _learned(
        self, method: str, seed: int, learning: Learning, states: Callable[[str], StateFolder],
        progress: Callable[[int, bool], object],
    ) -> Learned:  # fmt: skip
        is_cloning = method in (ALL, BEST)
        schedule = self.config.cloning_schedule if is_cloning else self.config.learner_schedule
        curve, records = carry_out(
            learning, schedule.rounds, schedule.steps, schedule.evaluate_every, states(f"{method}.{seed}"),
            self.successes, progress,
        )  # fmt: skip
        return Learned(method, seed, curve, records, learning.facts, learning.policy)

    def _cloning(self, method: str, seed: int) -> Cloning:
        rows = np.arange(len(self.recorded)) if method == ALL else self.recorded.of(self.good)
        return Cloning(self._new(seed), self.recorded, rows, self.config.cloning, self.config.cloning_schedule.steps,
                       seed, method)  # fmt: skip

    def _new(self, seed: int) -> PixelPolicy:
        return PixelPolicy.new(self.config.policy, self.features, self.live, seed).to(self.device)

    def _recorded(self) -> Transitions:
        """All frames of the task, seen once: the sight is the same for every seed."""
        sight, shown = self._new(0), self.demonstrations
        projected = [sight.project(self.describe(shown.frames(number, 0, int(length)))).cpu().numpy()
                     for number, length in enumerate(shown.length)]  # fmt: skip
        return transitions(shown, np.concatenate(projected), self.config.policy.frames, self.normalizer)
