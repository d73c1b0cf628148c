"""The world as a gymnasium environment, alone or many in one batch.

Episodes begin at recorded first frames; a step is imagined. The reward is the world's reward head's, 0 without one.
`truncated` at the horizon, or where the uncertainty passes the trust limit; an imagined episode is never `terminated`.
Shapes: E environments, R resolution, A action.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from whale.common.errors import ConfigError
from whale.models.world.rollout import Query
from whale.models.world.state import WorldState
from whale.worlds.load import load
from whale.worlds.starts import Start
from whale.worlds.trust import TrustLimit
from whale.worlds.world import Method, World

Limit = float | TrustLimit  # of the uncertainty: one for every step, or the calibrated ones
METADATA = {"render_modes": ["rgb_array"], "render_fps": 5}


def spaces(world: World) -> tuple[gymnasium.spaces.Box, gymnasium.spaces.Box]:
    """Observations: uint8 RGB [R, R, 3]. Actions: raw, within what was recorded, the gripper in [0, 1]."""
    side = world.resolution
    low, high = world.contract.bounds
    return (
        gymnasium.spaces.Box(0, 255, (side, side, 3), np.uint8),
        gymnasium.spaces.Box(low, np.maximum(high, low), dtype=np.float32),
    )


class Episodes:
    """What both environments share: rows of imagined episodes, stepped in as few model calls as their histories allow.

    Rows whose windows and histories are equally long are one call; all are as long as they begin together.
    """

    def __init__(
        self, world: World, starts: Sequence[Start] | None, horizon: int, method: Method | None, limit: Limit | None
    ):
        self.world, self.starts = world, list(world.starts if starts is None else starts)
        if not self.starts:
            raise ConfigError("nothing to begin with", place="starts", expected="recorded first frames",
                              remedy="export the bundle with starts, or pass some")  # fmt: skip
        if limit is not None and method is None:
            raise ConfigError("a limit of what?", place="uncertainty", found=None, expected="retracing or entropy")
        self.horizon, self.limit = horizon, limit
        self.method: Method | None = method
        self.observer = None if method is None else world.observer(method)
        self.groups: list[tuple[list[int], WorldState]] = []  # rows of the batch, and their state

    def begin(self, rows: Sequence[int], chosen: Sequence[int]) -> np.ndarray:
        """Rows start at `starts[chosen]`; the others go on. First frames uint8 [B, R, R, 3]."""
        frames = np.stack([self.starts[number].frames[-1] for number in chosen])
        kept = [(keep, _rows(state, held, keep)) for held, state in self.groups if (keep := _without(held, rows))]
        fresh = self.world.start(frames[:, None]).inner
        self.groups = _merged([*kept, (list(rows), fresh)])
        return frames

    @torch.inference_mode()
    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Frames uint8 [E, R, R, 3] and uncertainties [E] (NaN without a method) after raw actions [E, A]."""
        raw = self.world.contract.as_raw(actions, "step")
        side = self.world.resolution
        images = np.zeros((len(raw), side, side, 3), np.uint8)
        doubts = np.full(len(raw), np.nan)
        groups = []
        for rows, state in self.groups:
            model = self.world.model
            query = Query(model, model.restarted(state), model.tokenizer.placed(raw[rows]))
            if self.observer is not None and self.method is not None:
                doubts[rows] = self.observer(query)[self.method].double().cpu().numpy()
            images[rows] = query.step.frame.cpu().numpy()
            groups.append((rows, query.following))
        self.groups = _merged(groups)
        return images, doubts

    def rewards(self, chosen: Sequence[int], before: np.ndarray, actions: np.ndarray, after: np.ndarray) -> np.ndarray:
        """The reward head's [B], of actions [B, A] between two frames [B, R, R, 3]; zeros without one."""
        if self.world.reward is None:
            return np.zeros(len(after))
        starts = [self.starts[number] for number in chosen]
        first = np.stack([start.frames[-1] for start in starts])
        texts = [start.instruction for start in starts]
        return self.world.rewards(np.stack([before, after], axis=1), actions[:, None], texts, first)[:, 0]

    def info(self, number: int, step: int, doubt: float) -> dict[str, Any]:
        """Beside the frame: uncertainty, where there is one; whether it is trusted; the step; how it began."""
        start = self.starts[number]
        limit = self.limit.at(step) if isinstance(self.limit, TrustLimit) else self.limit
        trusted = not (limit is not None and doubt > limit)
        known = {"trusted": trusted, "step": step, "episode": start.key, "instruction": start.instruction}
        return known | ({"uncertainty": doubt} if np.isfinite(doubt) else {})


class WorldEnv(gymnasium.Env):
    """One imagined episode at a time. `world`: a World or a folder; `options={"start": n}` of reset chooses a start."""

    metadata = METADATA

    def __init__(
        self, world: World | Path | str, robot: str | None = None, horizon: int = 32, uncertainty: Method | None = None,
        limit: Limit | None = None, starts: Sequence[Start] | None = None, render_mode: str | None = None,
    ):  # fmt: skip
        self.world = world if isinstance(world, World) else load(world, robot)
        self.episodes = Episodes(self.world, starts, horizon, uncertainty, limit)
        self.observation_space, self.action_space = spaces(self.world)
        self.render_mode = render_mode
        self._frame: np.ndarray | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self._start = _chosen(options, self.episodes, self.np_random)
        self._steps = 0
        self._frame = self.episodes.begin([0], [self._start])[0]
        return self._frame, self.episodes.info(self._start, 0, float("nan"))

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self._frame is None:
            raise ConfigError("reset comes before step", place="WorldEnv.step")
        taken, before = np.asarray(action)[None], self._frame[None]
        images, doubts = self.episodes.step(taken)
        self._frame, self._steps = images[0], self._steps + 1
        info = self.episodes.info(self._start, self._steps, float(doubts[0]))
        reward = float(self.episodes.rewards([self._start], before, taken, images)[0])
        return self._frame, reward, False, self._steps >= self.episodes.horizon or not info["trusted"], info

    def render(self) -> np.ndarray | None:
        """The newest frame, uint8 [R, R, 3], with `render_mode="rgb_array"`."""
        return self._frame if self.render_mode == "rgb_array" else None


class WorldVectorEnv(VectorEnv):
    """E imagined episodes in one batch; an episode that ended begins again at the next step (gymnasium NEXT_STEP)."""

    def __init__(
        self, world: World | Path | str, num_envs: int, robot: str | None = None, horizon: int = 32,
        uncertainty: Method | None = None, limit: Limit | None = None, starts: Sequence[Start] | None = None,
        render_mode: str | None = None,
    ):  # fmt: skip
        self.world = world if isinstance(world, World) else load(world, robot)
        self.episodes = Episodes(self.world, starts, horizon, uncertainty, limit)
        self.num_envs, self.render_mode = num_envs, render_mode
        self.metadata = METADATA | {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self.single_observation_space, self.single_action_space = spaces(self.world)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._steps = np.zeros(num_envs, np.int64)
        self._starts = np.zeros(num_envs, np.int64)
        self._ended = np.zeros(num_envs, bool)
        self._frames: np.ndarray | None = None

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        for row in range(self.num_envs):
            self._starts[row] = _chosen(options, self.episodes, self.np_random)
        self._steps[:], self._ended[:] = 0, False
        self._frames = self.episodes.begin(range(self.num_envs), self._starts.tolist())
        return self._frames.copy(), self._infos(np.full(self.num_envs, np.nan))

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        if self._frames is None:
            raise ConfigError("reset comes before step", place="WorldVectorEnv.step")
        begun = np.flatnonzero(self._ended).tolist()
        taken = np.asarray(actions)
        images, doubts = self.episodes.step(taken)
        self._steps += 1
        rewards = self.episodes.rewards(self._starts.tolist(), self._frames, taken, images)
        if begun:  # their step was the reset
            self._starts[begun] = [_chosen(None, self.episodes, self.np_random) for _ in begun]
            images[begun] = self.episodes.begin(begun, self._starts[begun].tolist())
            self._steps[begun], rewards[begun], doubts[begun] = 0, 0.0, np.nan
        infos = self._infos(doubts)
        truncated = (self._steps >= self.episodes.horizon) | ~infos["trusted"]
        self._ended, self._frames = truncated.copy(), images
        return images.copy(), rewards, np.zeros(self.num_envs, bool), truncated, infos

    def render(self) -> Any:
        """The newest frames, one for each environment."""
        return None if self.render_mode != "rgb_array" or self._frames is None else tuple(self._frames)

    def _infos(self, doubts: np.ndarray) -> dict[str, Any]:
        rows = [self.episodes.info(int(start), int(step), float(doubt))
                for start, step, doubt in zip(self._starts, self._steps, doubts, strict=True)]  # fmt: skip
        infos: dict[str, Any] = {}
        for row, info in enumerate(rows):
            infos = self._add_info(infos, info, row)
        return infos


def _chosen(options: dict[str, Any] | None, episodes: Episodes, rng: np.random.Generator) -> int:
    number = (options or {}).get("start")
    if number is None:
        return int(rng.integers(len(episodes.starts)))
    if not isinstance(number, int | np.integer) or not 0 <= number < len(episodes.starts):
        raise ConfigError("no such start", place="options['start']", found=number,
                          expected=f"0 to {len(episodes.starts) - 1}")  # fmt: skip
    return int(number)


def _without(held: Sequence[int], rows: Sequence[int]) -> list[int]:
    return [row for row in held if row not in set(rows)]


def _rows(state: WorldState, held: Sequence[int], keep: Sequence[int]) -> WorldState:
    """The rows `keep` of a state that holds `held`."""
    if list(held) == list(keep):
        return state
    places = [list(held).index(row) for row in keep]
    return WorldState.stack([state.take(slice(place, place + 1)) for place in places])


def _merged(groups: Sequence[tuple[list[int], WorldState]]) -> list[tuple[list[int], WorldState]]:
    """Groups whose windows, and what the world remembers before them, are equally long become one."""
    alike: dict[tuple[int, int, int], list[tuple[list[int], WorldState]]] = {}
    for rows, state in groups:
        before = -1 if state.history is None else state.history.length
        remembered = state.caches["prior"].length if "prior" in state.caches else 0
        alike.setdefault((state.length, before, remembered), []).append((rows, state))
    merged = []
    for same in alike.values():
        rows = [row for held, _ in same for row in held]
        merged.append((rows, same[0][1] if len(same) == 1 else WorldState.stack([state for _, state in same])))
    return merged
