"""A world model of one robot as one object: imagine, step, how far to trust it, what actions mean, where it comes from.

    world = whale.load("world-bundle")
    start = world.starts[0]
    imagined = world.imagine(start.frames, start.actions, horizon=8)

Arrays in, arrays out. Frames are uint8 RGB [..., R, R, 3], actions RAW float32 [..., A] (see `world.contract`). A
leading batch axis B may stand before all of them or be left out: what comes back has it where what went in had it.
Shapes: B batch, c given frames, H horizon, R resolution, A action, Z behavior embedding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from whale.common.errors import ConfigError
from whale.evaluation.numbers.protocol import PARTS, model_name
from whale.evaluation.uncertainty.estimation.decoding import Decoding
from whale.evaluation.uncertainty.estimation.retracing import require_retraceable
from whale.evaluation.uncertainty.estimation.uncertainty import Retracing, feature_distance
from whale.models.world.learned import LearnedWorld
from whale.models.world.rollout import Conditioning, Observer, Query, entropy, rollout
from whale.models.world.rollout import frames as imagined_frames
from whale.models.world.state import WorldState
from whale.reward.reading import read_rewards
from whale.reward.reward import RewardHead
from whale.worlds.adapters import RobotActions
from whale.worlds.contract import ActionContract
from whale.worlds.starts import Start
from whale.worlds.trust import TrustLimit, limit_of, thresholds_of

Method = Literal["retracing", "entropy"]
Checking = Literal["enforce", "off"]
FIRST_USES = (32, 128, 512)  # actions taken one at a time after which their sizes are looked at


@dataclass(frozen=True)
class State:
    """Where an imagined episode stands; a value: stepping leaves it as it was. `single`: without a batch axis."""

    inner: WorldState
    single: bool

    def __repr__(self) -> str:
        return f"State(after frames {list(self.inner.frames.shape)})"

    @property
    def frame(self) -> np.ndarray:
        """The newest frame, uint8 [R, R, 3] or [B, R, R, 3]."""
        last = self.inner.frames[:, -1].cpu().numpy()
        return last[0] if self.single else last


@dataclass(frozen=True)
class Imagined:
    """`frames` uint8 [(B,) H, R, R, 3]; `uncertainty` float64 [(B,) H] if asked for, NaN where it is not defined."""

    frames: np.ndarray
    uncertainty: np.ndarray | None = None

    def __repr__(self) -> str:
        doubt = "none asked for" if self.uncertainty is None else np.array2string(self.uncertainty, precision=3)
        return f"Imagined(frames {list(self.frames.shape)}, uncertainty {doubt})"


DEPTHS = (1, 2, 3)  # of retracing, where no calibration says others


@dataclass
class World:
    """What `whale.load` returns. `digests`: sha256 of the weights of each part; `lineage`: what it was made from.

    `measured`: digests of those that it was calibrated with, and its reward was fitted on: others where a small bundle
    holds rounded ones.

    `starts`: recorded beginnings that came with it. `reward`: a head that reads rewards off frames, or None.
    `checking` off: only what cannot be computed with is refused.
    """

    model: LearnedWorld
    contract: ActionContract
    digests: Mapping[str, str]
    measured: Mapping[str, str]
    lineage: Mapping[str, Any]
    starts: Sequence[Start] = ()
    reward: RewardHead | None = None
    calibration: Mapping[str, Any] | None = None
    depths: Sequence[int] = DEPTHS
    checking: Checking = "enforce"
    _seen: list[np.ndarray] = field(default_factory=list, repr=False)

    def __repr__(self) -> str:
        beside = "a reward head" if self.reward else "no reward head"
        size = f"{self.resolution} x {self.resolution}, window {self.window}, {len(self.starts)} starts, {beside}"
        return f"World({self.identity}, {size}, {self.contract!r})"

    @property
    def identity(self) -> str:
        """First 16 hex digits over the weights of all parts: what `model=` of protocol strings says."""
        return model_name(self.digests[part] for part in PARTS)

    @property
    def resolution(self) -> int:
        """R, pixels of a frame's side."""
        return int(self.model.tokenizer.config.resolution)

    @property
    def window(self) -> int:
        """T, frames of a window: of a longer history the last T, and for z as many more as the model remembers."""
        return self.model.window

    def start(self, frames: Any, actions: Any = None) -> State:
        """A state that ends in the last of `frames` [(B,) c, R, R, 3], after `actions` [(B,) c - 1, A] between them.

        One frame [R, R, 3] needs no actions. ConfigError for frames of another kind, RefusedError for wrong actions.
        """
        given, single = self._frames(frames)
        taken = self._between(actions, given, single)
        keep = min(self.window, given.shape[1])
        placed = self.model.tokenizer.placed
        inner = self.model.start_behind(placed(given), placed(taken), keep)
        return State(inner, single)

    def step(self, state: State, action: Any) -> tuple[State, np.ndarray]:
        """After one raw action [(B,) A]: the new state, and its frame uint8 [(B,) R, R, 3] (the most likely one)."""
        query = self._query(state, action)
        following = State(query.following, state.single)
        return following, following.frame

    def imagine(
        self, frames: Any, actions: Any, horizon: int | None = None, *, uncertainty: Method | None = None,
        temperature: float = 0.0, seed: int = 0, z: Conditioning | np.ndarray = "prior",
    ) -> Imagined:  # fmt: skip
        """`horizon` frames after the given ones, under the actions [(B,) c - 1 + horizon or more, A] from o_1 on.

        horizon None: as far as the actions go. temperature 0: the most likely frame; above, drawn with `seed`. z: how
        the behavior embedding is set: prior, frozen, off (whale.models.world.rollout), or one [(B,) Z] of your choice.
        """
        given, single = self._frames(frames)
        taken = self._actions(actions, single, "imagine")
        count = given.shape[1]
        length = taken.shape[1] - count + 1 if horizon is None else horizon
        if length < 1 or taken.shape[1] < count - 1 + length or len(taken) != len(given):
            raise ConfigError("frames and actions do not fit together", place="imagine",
                              found=f"{len(given)} x {count} frames, {len(taken)} x {taken.shape[1]} actions",
                              expected=f"as many rows, and {count} - 1 + horizon actions")  # fmt: skip
        observers: list[Observer] = [*([] if uncertainty is None else [self.observer(uncertainty)]), imagined_frames]
        placed = self.model.tokenizer.placed
        skipped = max(0, count - max(self.window, self.model.memory))
        seen = min(count, self.window)  # of a longer history the last T frames; z remembers those before, if it can
        kept = placed(given[:, skipped:]), placed(taken[:, skipped : count - 1 + length])
        fixed = z if isinstance(z, str) else placed(np.asarray(z, np.float32).reshape(len(given), -1))
        found = rollout(self.model, *kept, length, observers, temperature=temperature, seed=seed, z=fixed, seen=seen)
        arrays = {name: values.cpu().numpy() for name, values in found.items()}
        arrays = {name: values[0] if single else values for name, values in arrays.items()}
        return Imagined(arrays["frames"], None if uncertainty is None else arrays[uncertainty])

    def uncertainty(self, state: State, action: Any, method: Method = "retracing") -> Any:
        """How little to trust the frame that `action` would lead to: float, or float64 [B]; higher is worse.

        retracing: other ways to the same pose, times the entropy (P 4.2); NaN where the history is too short for any.
        entropy: of the predicted tokens, nats. What a value means: `trust_limit`.
        """
        found = self.observer(method)(self._query(state, action))[method].cpu().numpy()
        return float(found[0]) if state.single else found

    def calibrate(self, calibration: Mapping[str, Any] | None) -> None:
        """Take this entry of a calibration.json, and retrace as deep as it was measured with; None: there is none."""
        self.calibration = calibration
        self.depths = DEPTHS if calibration is None else tuple(calibration["depths"])

    @property
    def decoding(self) -> Decoding:
        """How tokens were chosen where its uncertainties were calibrated; argmax where they were not."""
        said = self.calibration or {}
        if said.get("decoding") != "sample":
            return Decoding(mode="argmax", temperature=1.0, samples=1)
        return Decoding(mode="sample", temperature=said["temperature"], samples=said["samples"])

    def observer(self, method: Method, samples: int = 1) -> Observer:
        """The method as an observer of a rollout, by so many draws where tokens are drawn.

        RefusedError for retracing where actions do not add up to a pose.
        """
        if method == "entropy":
            return entropy
        if method != "retracing":
            raise ConfigError("no such uncertainty", place="method", found=method, expected="retracing or entropy")
        require_retraceable(self.contract.sealed, self.contract.dataset)
        return Retracing(feature_distance(self.model), self.depths, samples)

    def trust_limit(self, coverage: float = 0.8, method: Method = "retracing") -> TrustLimit:
        """Below which uncertainty, step by step, `coverage` of held-out steps lay, and their mean error. It holds for
        frames imagined by `decoding`. MissingInputError for a world whose uncertainties were never measured."""
        return limit_of(self.calibration, model_name(self.measured[part] for part in PARTS), method, coverage)

    def limit_if_known(self, coverage: float, method: Method | None) -> TrustLimit | None:
        """`trust_limit`, or None without a method or a calibration of it: then nothing is said about trust."""
        if method is None or self.calibration is None or not thresholds_of(self.calibration, method):
            return None
        return self.trust_limit(coverage, method)

    def from_robot(self, **declared: Any) -> RobotActions:
        """Actions in other units, order, gripper or rate -> this contract's, as declared (whale.worlds.adapters)."""
        return RobotActions(self.contract, **declared)

    def rewards(
        self, frames: Any, actions: Any, instructions: Sequence[str], first: np.ndarray | None = None
    ) -> np.ndarray:
        """What each of the raw actions [B, H, A] earned, float64 [B, H], as frames uint8 [B, H + 1, R, R, 3] show it.

        frames[:, 0] is what there was before the first action; first [B, R, R, 3]: how the episodes began, if not so.
        ConfigError without a reward head, or for a task it does not know.
        """
        if self.reward is None:
            raise ConfigError("this world has no reward head", place="reward",
                              remedy="give its folder to whale.load(reward=...), or export it with one")  # fmt: skip
        shown, taken = np.asarray(frames), np.asarray(actions, np.float32)
        if shown.ndim != 5 or taken.ndim != 3 or shown.shape[:2] != (len(taken), taken.shape[1] + 1):
            raise ConfigError("frames and actions do not fit together", place="rewards",
                              found=f"{shown.shape[:2]} frames, {taken.shape[:2]} actions",
                              expected="H + 1 frames, H actions, a batch axis before them")  # fmt: skip
        action = self.model.normalised(self.model.tokenizer.placed(taken)).cpu().numpy()
        return read_rewards(self.reward, self.model.tokenizer, shown, action, instructions, first)

    def check_policy(self, actions: Any, recorded: Any) -> list[str]:
        """A policy's actions [N, A] at recorded frames beside what was done there: names of what looks wrong.

        RefusedError or ActionWarning as the contract says: scale, gripper, axis order (whale.worlds.action_checks).
        """
        given, done = (self.contract.as_raw(each, "check_policy") for each in (actions, recorded))
        return [finding.name for finding in self.contract.enforce(given, done, "check_policy")]

    def _query(self, state: State, action: Any) -> Query:
        array = self.contract.as_raw(action, "step")
        rows = array[None] if state.single else array
        if rows.ndim != 2 or len(rows) != len(state.inner.frames):
            raise ConfigError("not one action for each row of the state", place="step", found=array.shape,
                              expected=f"{len(state.inner.frames)} x {len(self.contract.dimensions)}")  # fmt: skip
        self._look_at(rows)
        return Query(self.model, self.model.restarted(state.inner), self.model.tokenizer.placed(rows))

    def _look_at(self, rows: np.ndarray) -> None:
        """First uses: actions that come one at a time are looked at together, a few times."""
        if self.checking == "off" or sum(map(len, self._seen)) >= FIRST_USES[-1]:
            return
        before = sum(map(len, self._seen))
        self._seen.append(rows)
        if any(before < count <= before + len(rows) for count in FIRST_USES):
            self.contract.enforce(np.concatenate(self._seen), place="step")

    def _frames(self, frames: Any) -> tuple[np.ndarray, bool]:
        """uint8 [B, c, R, R, 3], and whether the batch axis was left out."""
        array = np.asarray(frames)
        if array.ndim == 3:
            array = array[None]
        single, side = array.ndim == 4, self.resolution
        array = array[None] if single else array
        if array.dtype != np.uint8 or array.ndim != 5 or array.shape[2:] != (side, side, 3) or not array.shape[1]:
            raise ConfigError("frames of another kind", place="frames", found=f"{array.dtype} {np.shape(frames)}",
                              expected=f"uint8 [(B,) c, {side}, {side}, 3], RGB")  # fmt: skip
        return array, single

    def _actions(self, actions: Any, single: bool, place: str) -> np.ndarray:
        """float32 [B, L, A], looked at if there are enough of them."""
        array = self.contract.as_raw(actions, place)
        array = array[None] if single else array
        if array.ndim != 3:
            raise ConfigError("actions of another rank than the frames", place=place, found=np.shape(actions),
                              expected="[(B,) L, A], with a batch axis where the frames have one")  # fmt: skip
        if self.checking == "enforce":
            self.contract.enforce(array.reshape(-1, array.shape[-1]), place=place)
        return array

    def _between(self, actions: Any, given: np.ndarray, single: bool) -> np.ndarray:
        size = len(self.contract.dimensions)
        if actions is None and given.shape[1] == 1:
            return np.zeros((len(given), 0, size), np.float32)
        if actions is None or np.shape(actions)[-2] != given.shape[1] - 1:
            raise ConfigError("not one action between every two frames", place="start",
                              found="none" if actions is None else np.shape(actions),
                              expected=f"{given.shape[1] - 1} actions")  # fmt: skip
        return self._actions(actions, single, "start")
