"""One drive through an imagined episode: a state after every step, so that one can go back and act otherwise.

Frames are the most likely ones, or drawn, the same for the same seed and step.
Shapes: R resolution, A action, Z behavior embedding.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from whale.common.errors import ConfigError
from whale.common.limits import DRIVE_STEPS
from whale.models.world.rollout import KeyedNoise, Query
from whale.models.world.state import WorldState
from whale.play.messages import KEYS, RECORDED, Doubt, Step
from whale.policies.protocol import Actor, Beginning, Contender, Observation
from whale.worlds.starts import Start
from whale.worlds.world import World

COVERAGE = 0.8  # of the trust limit that is shown
FEWEST = 32  # actions of a policy before they are compared with recorded ones


@dataclass(frozen=True)
class Moment:
    """After a step, or at the start: `frame` uint8 [R, R, 3]; `action` [A] raw, and who gave it, that led here."""

    state: WorldState
    frame: np.ndarray
    action: np.ndarray | None = None
    by: str = ""
    z: tuple[str, int] = ("prior", 0)
    doubt: Doubt = "none"
    uncertainty: float = float("nan")


class Drive:
    """`contenders`: policies that may take the wheel, by name."""

    def __init__(self, world: World, start: Start, contenders: dict[str, Contender], seed: int = 0):
        self.world, self.start, self.contenders, self.seed = world, start, contenders, seed
        between = start.actions[: len(start.frames) - 1]
        state = world.start(start.frames, between if len(between) else None).inner
        self.moments = [Moment(state, start.frames[-1])]
        self._wheel: tuple[str, Actor] | None = None
        self._chunk: list[np.ndarray] = []  # of the policy at the wheel: actions still to be carried out

    @property
    def steps(self) -> int:
        """Taken so far."""
        return len(self.moments) - 1

    @torch.inference_mode()
    def step(self, asked: Step) -> Moment:
        """ConfigError for no such policy or number of axes, and where the recorded actions, or the room, end."""
        if self.steps >= DRIVE_STEPS:
            raise ConfigError("this drive is full", place="step", found=self.steps, expected=f"< {DRIVE_STEPS} steps",
                              remedy="begin again, or go back")  # fmt: skip
        raw = self.world.contract.as_raw(self._action(asked), "step")
        model = self.world.model
        state = self._conditioned(asked)
        decoding = self.world.decoding.by("sample" if asked.frames == "drawn" else "argmax")
        how = decoding.how([str(self.seed)], 0)
        noise = KeyedNoise(model, state, self.steps, **how) if how else None
        query = Query(model, state, model.tokenizer.placed(raw[None]), noise)
        uncertainty = float("nan")
        if asked.doubt != "none":
            uncertainty = float(self.world.observer(asked.doubt, decoding.draws)(query)[asked.doubt])
        following, shown = query.following, query.step
        if asked.z == "frozen" and following.fixed_z is None:
            following = replace(following, fixed_z=shown.z)
        frame = shown.frame[0].cpu().numpy()
        self.moments.append(Moment(following, frame, raw, asked.by, _key(asked), asked.doubt, uncertainty))
        return self.moments[-1]

    def rewind(self, to: int) -> Moment:
        """Forget what came after step `to`. A policy begins again where it takes over."""
        if to > self.steps:
            raise ConfigError("no such step yet", place="to", found=to, expected=f"0 to {self.steps}")
        del self.moments[to + 1 :]
        self._wheel, self._chunk = None, []
        return self.moments[-1]

    def limit(self) -> float | None:
        """The calibrated limit of the newest step's uncertainty; None where there is none."""
        doubt = self.moments[-1].doubt
        found = self.world.limit_if_known(COVERAGE, None if doubt == "none" else doubt)
        return None if found is None else found.at(self.steps)

    def recorded(self) -> np.ndarray | None:
        """The frame that was recorded after as many steps; None where it was not kept, or the episode is over."""
        if self.steps == 0:
            return self.start.frames[-1]
        rest = self.start.following
        return None if rest is None or self.steps > len(rest) else rest[self.steps - 1]

    def notice(self) -> str:
        """What looks wrong with the actions of the policy at the wheel, if there are enough of them."""
        by, taken = self.moments[-1].by, []
        for moment in reversed(self.moments[1:]):
            if moment.by != by or by in (KEYS, RECORDED):
                break
            taken.append(moment.action)
        if len(taken) < FEWEST:
            return ""
        return "; ".join(map(str, self.world.contract.inspect(np.array(taken))))

    def _action(self, asked: Step) -> np.ndarray:
        """Raw [A]."""
        if asked.by == KEYS:
            return self._by_keys(asked)
        if asked.by == RECORDED:
            place = len(self.start.frames) - 1 + self.steps
            if place >= len(self.start.actions):
                raise ConfigError("the recorded actions end here", place="by", found=f"step {self.steps}",
                                  remedy="drive on by keys, or go back")  # fmt: skip
            return self.start.actions[place]
        if asked.by not in self.contenders:
            raise ConfigError("no such policy here", place="by", found=asked.by,
                              expected=", ".join([KEYS, RECORDED, *self.contenders]))  # fmt: skip
        return self._by_policy(asked.by)

    def _by_keys(self, asked: Step) -> np.ndarray:
        size = motion(self.world)
        if len(asked.axes) != len(size):
            raise ConfigError("not one axis for each dimension", place="axes", found=len(asked.axes),
                              expected=f"{len(size)}: {', '.join(self.world.contract.dimensions[:-1])}")  # fmt: skip
        return np.append(np.array(asked.axes) * size, asked.gripper)

    def _by_policy(self, name: str) -> np.ndarray:
        now = self.moments[-1]
        if self._wheel is None or self._wheel[0] != name or now.by not in ("", name):
            beginning = Beginning(0, self.seed, now.frame, self.start.instruction)
            self._wheel, self._chunk = (name, self.contenders[name].begin([beginning])), []
        if not self._chunk:
            seen = Observation(now.frame, self.start.instruction, self.steps)
            self._chunk = list(self._wheel[1].act([seen], [0])[0])
        return self._chunk.pop(0)

    def _conditioned(self, asked: Step) -> WorldState:
        """The newest state, with room for a step, whose next z is set as asked."""
        before, model = self.moments[-1], self.world.model
        state = model.restarted(before.state)
        if before.z == _key(asked):
            return state
        if asked.z == "prior":
            return model.start_like(replace(state, fixed_z=None))
        return replace(state, fixed_z=self._fixed(asked, state))

    def _fixed(self, asked: Step, state: WorldState) -> Tensor | None:
        """[1, Z]; None for a z that will be frozen at what the next step infers."""
        model = self.world.model
        if asked.z == "frozen":
            return None if state.z is None or not state.z.shape[1] else state.z[:, -1]
        if asked.z == "off" or model.behavior is None:
            return state.actions.new_zeros(1, model.z_size)
        config = model.behavior.config
        rng = np.random.default_rng([asked.z_seed, 3])
        drawn = torch.from_numpy(rng.integers(config.num_classes, size=(1, config.num_categories)))
        return F.one_hot(drawn, config.num_classes).flatten(1).to(state.actions)


def _key(asked: Step) -> tuple[str, int]:
    """Which z: equal keys go on as they are."""
    return asked.z, asked.z_seed if asked.z == "drawn" else 0


def motion(world: World) -> np.ndarray:
    """Raw [A - 1]: the largest usual motion (of 99 % of those recorded); 0 for a dimension that is not used."""
    low, high = (np.array(world.contract.statistics["action"][name][:-1], np.float64) for name in ("q01", "q99"))
    return np.where(world.contract.live[:-1], np.maximum(np.abs(low), np.abs(high)), 0.0)
