"""A world as a benchmark of the harness `vla-eval`: its model servers act, and what comes of it is imagined.

    benchmarks:
      - benchmark: "whale.env.benchmark:ImaginedWorld"
        params: {world: world-bundle, uncertainty: retracing}

It keeps the contract of `vla_eval.benchmarks.base.Benchmark` 0.8.0, which is all that the harness asks for, and derives
from nothing of it: without the package it can be imported and tested. A task is one recorded start, so that none
counts twice. Shapes: R resolution, k actions of a message, A action.
"""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from whale.common.errors import ConfigError
from whale.env.world_env import WorldEnv
from whale.worlds.load import load
from whale.worlds.world import Method

FIRST_USES = 32  # actions that are looked at together, once


class ImaginedWorld:
    """`world`, `reward`: folders; `robot`: the dataset whose actions come, where the world knows several.

    `uncertainty`, `coverage`: an episode ends where this trust limit is passed, and then it is no success.
    `success_at`: the imagined reward of the last frame from which on it is one, in the dataset's units.
    `actions`: what the server's actions mean, as `World.from_robot` takes it; None: raw ones of the world's contract.
    ConfigError for a world without a reward head: nothing could be said of its episodes.
    """

    render_backends = frozenset({"gpu", "cpu"})  # nothing is rendered
    _ALL_RECORD_FIELDS = frozenset({"reward", "uncertainty", "trusted"})  # the harness's recorder asks for this name

    def __init__(
        self, world: str, robot: str | None = None, reward: str | None = None, horizon: int = 32,
        uncertainty: Method | None = None, coverage: float = 0.8, success_at: float = 0.95,
        actions: Mapping[str, Any] | None = None, camera: str = "image",
    ):  # fmt: skip
        found = load(world, robot, reward=reward)
        if found.reward is None:
            raise ConfigError("no reward head: imagined episodes cannot be valued", file=world, place="reward",
                              remedy="export the world with one, or give the parameter reward: FOLDER")  # fmt: skip
        self.env = WorldEnv(found, horizon=horizon, uncertainty=uncertainty,
                            limit=found.limit_if_known(coverage, uncertainty))  # fmt: skip
        self.world, self.success_at, self.camera = found, success_at, camera
        self.adapt = found.from_robot(**actions) if actions else found.contract.as_raw
        self._used: list[np.ndarray] = []

    @classmethod
    def configure_render(cls, mode: str) -> dict[str, str]:
        """Environment variables of a renderer: none."""
        return {}

    def get_tasks(self) -> list[dict[str, Any]]:
        """One a recorded start; `suite` is the instruction, so that the harness can choose by it."""
        return [
            {"name": f"{start.instruction} [{start.key}]", "suite": start.instruction, "start": number}
            for number, start in enumerate(self.env.episodes.starts)
        ]

    async def start_episode(self, task: Mapping[str, Any], recorder: Any = None) -> None:
        self._frame, self._info = self.env.reset(options={"start": task["start"]})
        self._rewards: list[float] = []
        self._done, self._recorder, self._begun = False, recorder, time.monotonic()

    async def apply_action(self, action: Mapping[str, Any]) -> None:
        """`actions` [A], or [k, A]: carried out one after the other. RefusedError for what the contract refuses."""
        for raw in self._raw(action):
            if not self._done:
                self._frame, reward, _, self._done, self._info = self.env.step(raw)
                self._rewards.append(reward)
                self._record(reward)

    async def get_observation(self) -> dict[str, Any]:
        return {"images": {self.camera: self._frame}, "task_description": self._info["instruction"]}

    async def is_done(self) -> bool:
        return self._done

    async def get_time(self) -> float:
        return time.monotonic() - self._begun

    async def get_result(self) -> dict[str, Any]:
        """`success` is the harness's name for it; like all of this it is read off imagined frames."""
        last = self._rewards[-1] if self._rewards else 0.0
        trusted = bool(self._info["trusted"])
        return {
            "success": trusted and last >= self.success_at,
            "imagined_return": float(sum(self._rewards)),
            "imagined_last_reward": last,
            "trusted": trusted,
            "world": self.world.identity,
        }

    def get_metric_keys(self) -> dict[str, str]:
        return dict.fromkeys(("success", "imagined_return", "imagined_last_reward", "trusted"), "mean")

    def get_metadata(self) -> dict[str, Any]:
        return {"max_steps": self.env.episodes.horizon}

    def get_action_spec(self) -> dict[str, Any]:
        """In the harness's words; it compares them with the server's and warns."""
        from vla_eval.specs import DimSpec

        low, high = self.world.contract.bounds
        said = (
            ("position", slice(0, 3), "delta_xyz", "m a step"),
            ("rotation", slice(3, -1), "euler_xyz", "rad a step"),
            ("gripper", slice(-1, None), "continuous_01", "1 = open"),
        )
        return {
            name: DimSpec(name, len(low[part]), form, (float(low[part].min()), float(high[part].max())), None, text)
            for name, part, form, text in said
        }

    def get_observation_spec(self) -> dict[str, Any]:
        from vla_eval.specs import IMAGE_RGB, LANGUAGE

        return {"image": IMAGE_RGB, "language": LANGUAGE}

    def get_hold_action(self, last_action: object) -> dict[str, Any]:
        """Its modes `live` go by a clock, and imagination has none."""
        raise NotImplementedError("an imagined world waits for its policy: use mode: sync")

    def render(self) -> np.ndarray:
        """The newest frame, uint8 [R, R, 3]."""
        return self._frame

    def cleanup(self) -> None:
        """Nothing is held."""

    def _raw(self, action: Mapping[str, Any]) -> np.ndarray:
        """Raw actions [k, A]; the first ones are looked at together, as those of any policy here."""
        raw = self.adapt(np.atleast_2d(np.asarray(action["actions"])))
        before = len(self._used)
        if before < FIRST_USES:
            self._used.extend(raw)
            if len(self._used) >= FIRST_USES:
                self.world.contract.enforce(np.stack(self._used), place="vla-eval")
        return raw

    def _record(self, reward: float) -> None:
        if self._recorder is not None:
            self._recorder.record_video(self._frame)
            self._recorder.record_step(
                reward=reward, uncertainty=self._info.get("uncertainty"), trusted=self._info["trusted"]
            )
