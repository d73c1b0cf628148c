"""Evaluate policies in a world: closed loop from matched starts, a value for each, and how far imagination is right.

The value of an episode is its mean reward. Imagined rewards are read off imagined frames by the world's reward head;
true ones come from a judge, where there is one (the fleet: its simulator). Shapes: P policies, E starts, H steps.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from whale.common.config import Config
from whale.common.errors import ConfigError
from whale.common.files import atomic_file
from whale.evaluation.measuring.rollouts.reconstruction import reconstruct_long
from whale.policies.protocol import Beginning, Contender
from whale.trials.contenders import require_own_names
from whale.trials.episodes.closed_loop import imagine_policy
from whale.trials.episodes.true_values import Truth
from whale.worlds.trust import TrustLimit
from whale.worlds.world import Method, World

Judge = Callable[[Contender, Sequence[Beginning]], Truth]
VARIANTS = ("imagined", "truncated", "weighted", "true_frames", "reconstructed", "still")
BATCH = 64


class TrialConfig(Config):
    """`episodes`: starts, the same for all policies; `horizon`: steps; `true_episodes`: how many starts count as
    known in the prediction-powered intervals. `uncertainty`: null = none; `coverage`: of the trust limit."""

    policies: list[str] = Field(min_length=1)
    episodes: int = Field(gt=1)
    horizon: int = Field(gt=0)
    true_episodes: int = Field(ge=0)
    uncertainty: Method | None
    coverage: float = Field(gt=0, le=1)
    seed: int = Field(ge=0)
    resamples: int = Field(ge=100)


class TrialStageConfig(Config):
    """An entry of the section `evaluate_policies`: which world of which robot, the trials.

    `reward`: the entry of train_reward whose head reads the rewards.
    """

    role: Literal["pretrain", "finetune"]
    dataset: str
    model: str
    reward: str
    trials: TrialConfig


@dataclass(frozen=True)
class Trial:
    """One policy's episodes. Rewards float64 [E, H] by variant; `uncertainty` [E, H] or None; `success` [E] or None.

    `rewards["true"]` only where there is a judge; `true_frames` and `reconstructed`: the head on the judge's frames.
    """

    name: str
    rewards: dict[str, np.ndarray]
    actions: np.ndarray
    uncertainty: np.ndarray | None = None
    success: np.ndarray | None = None


def run_trials(
    world: World, contenders: Sequence[Contender], beginnings: Sequence[Beginning], config: TrialConfig,
    judge: Judge | None, work: Path, progress: Callable[[], object] = lambda: None,
) -> list[Trial]:  # fmt: skip
    """Every policy from the same starts and seeds. What `work` holds of earlier, interrupted calls is not done again:
    a policy's file is named by all that decides it, this package's code among it. A policy without an identity is
    played each time, and not kept."""
    if world.reward is None:
        raise ConfigError("no reward head: imagined frames cannot be valued", place="reward",
                          remedy="export the world with one, or give --reward FOLDER (stage train_reward)")  # fmt: skip
    require_own_names([each.name for each in contenders])
    trials = []
    for contender in contenders:
        path = work / f"{_key(world, contender, beginnings, config, judge is not None)}.npz"
        found = _read(path, contender.name) if contender.identity else None
        if found is None:
            found = _trial(world, contender, beginnings, config, judge)
            if contender.identity:
                _write(path, found)
        trials.append(found)
        progress()
    return trials


def beyond(uncertainty: np.ndarray, limit: TrustLimit) -> np.ndarray:
    """bool [E, H]; a step whose U is not defined is within."""
    return np.isfinite(uncertainty) & (uncertainty > limit.along(uncertainty.shape[1]))


def truncated(rewards: np.ndarray, uncertainty: np.ndarray | None, limit: TrustLimit | None) -> np.ndarray:
    """Rewards [E, H] that stay what they were at the last step before the limit is passed; the first step counts."""
    if uncertainty is None or limit is None:
        return rewards
    passed = np.maximum.accumulate(beyond(uncertainty, limit), axis=1)
    last = np.maximum((~passed).sum(axis=1) - 1, 0)
    held = np.take_along_axis(rewards, last[:, None], axis=1)
    return np.where(passed, held, rewards)


def weighted(rewards: np.ndarray, uncertainty: np.ndarray | None, limit: TrustLimit | None) -> np.ndarray:
    """Mean reward [E] with weights 1 / (1 + U / limit); a step whose U is not defined weighs 1."""
    if uncertainty is None or limit is None:
        return rewards.mean(axis=1)
    limit_H = np.maximum(limit.along(uncertainty.shape[1]), 1e-12)
    weights = 1.0 / (1.0 + np.nan_to_num(uncertainty) / limit_H)
    return (weights * rewards).sum(axis=1) / weights.sum(axis=1)


def _trial(
    world: World, contender: Contender, beginnings: Sequence[Beginning], config: TrialConfig, judge: Judge | None
) -> Trial:
    played = imagine_policy(world, contender, beginnings, config.horizon, config.uncertainty)
    first = np.stack([each.image for each in beginnings])
    texts = [each.instruction for each in beginnings]
    rewards = {"imagined": _rewards(world, first, played.frames, played.actions, texts)}
    still = np.repeat(first[:, None], config.horizon, axis=1)
    rewards["still"] = _rewards(world, first, still, played.actions, texts)  # what the actions alone tell
    if judge is None:
        return Trial(contender.name, rewards, played.actions, played.uncertainty)
    truth = judge(contender, beginnings)
    rewards["true"] = truth.rewards
    rewards["true_frames"] = _rewards(world, first, truth.frames, truth.actions, texts)
    with_first = np.concatenate([first[:, None], truth.frames], axis=1)
    again = reconstruct_long(world.model.tokenizer, with_first, world.window, BATCH)[:, 1:]
    rewards["reconstructed"] = _rewards(world, first, again, truth.actions, texts)
    return Trial(contender.name, rewards, played.actions, played.uncertainty, truth.success)


def _rewards(
    world: World, first: np.ndarray, frames: np.ndarray, actions: np.ndarray, texts: Sequence[str]
) -> np.ndarray:
    """float64 [E, H] of frames [E, H, R, R, 3] after each action."""
    return world.rewards(np.concatenate([first[:, None], frames], axis=1), actions, texts)


def _key(world: World, contender: Contender, beginnings: Sequence[Beginning], config: TrialConfig, judged: bool) -> str:
    """A name for all that decides a trial's bytes."""
    digest = hashlib.sha256()
    facts = [
        _code(),
        world.identity,
        contender.name,
        contender.identity,
        config.horizon,
        config.uncertainty,
        world.depths,
        world.decoding.settings() if config.uncertainty is not None else None,
        judged,
    ]
    digest.update(repr(facts).encode())
    assert world.reward is not None
    for value in world.reward.state_dict().values():
        digest.update(value.cpu().numpy().tobytes())
    for each in beginnings:
        digest.update(f"{each.number}|{each.seed}|{each.instruction}".encode() + each.image.tobytes())
    return digest.hexdigest()[:32]


@cache
def _code() -> str:
    """sha256 over the package's modules: what other code found is not this code's result."""
    digest, root = hashlib.sha256(), Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _write(path: Path, trial: Trial) -> None:
    arrays = {f"reward.{name}": values for name, values in trial.rewards.items()} | {"actions": trial.actions}
    optional = {"uncertainty": trial.uncertainty, "success": trial.success}
    arrays |= {name: values for name, values in optional.items() if values is not None}
    with atomic_file(path) as stream:
        np.savez_compressed(stream, **{name: arrays[name] for name in sorted(arrays)})  # type: ignore[arg-type]


def _read(path: Path, name: str) -> Trial | None:
    """None where there is no such file; files are written as a whole or not at all."""
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as found:
        arrays = {key: found[key] for key in found.files}
    rewards = {key.removeprefix("reward."): values for key, values in arrays.items() if key.startswith("reward.")}
    return Trial(name, rewards, arrays["actions"], arrays.get("uncertainty"), arrays.get("success"))
