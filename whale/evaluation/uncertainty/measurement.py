"""Scores beside errors, per (window, step) of imagined rollouts: what every uncertainty metric is computed from.

Unseen episodes, c context frames, h imagined ones (Table 3), by both decodings. A score is asked before a frame is
imagined; an error is the distance of that frame from the recorded one: in the tokenizer's features, in pixels, in LPIPS
or percep-efflite0 if weights are given, and in metres where the robot's state is recorded.
Shapes: B windows, c context, h horizon, R resolution, F features, M reference frames.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator

from whale.common.config import Config
from whale.common.errors import ConfigError
from whale.evaluation.measuring.efflite0 import NAME, WEIGHTS_SHA256, load_percep_efflite0
from whale.evaluation.measuring.feature_networks import LPIPS, NetworkFile, load_network
from whale.evaluation.measuring.groups import Group, groups
from whale.evaluation.measuring.motion import position_error
from whale.evaluation.measuring.objects import counted, hue_borders
from whale.evaluation.measuring.roles import chosen_splits
from whale.evaluation.measuring.rollouts.fidelity import psnr, squared_error
from whale.evaluation.measuring.rollouts.heldout import Dataset, Starts, Windows, read_frames, read_states
from whale.evaluation.measuring.rollouts.imagination import predictor, rollouts
from whale.evaluation.measuring.rollouts.reconstruction import reconstruct
from whale.evaluation.measuring.rollouts.stack import Stack
from whale.evaluation.uncertainty.baselines import BASELINES, action_length, moved, nearest, variance
from whale.evaluation.uncertainty.decodings import decoding_metrics
from whale.evaluation.uncertainty.estimation.decoding import MODES, Decoding, Mode
from whale.evaluation.uncertainty.estimation.uncertainty import Distance, Ensemble, Retracing, feature_distance
from whale.evaluation.uncertainty.true_state import fit_position_probe
from whale.models.trunk.folder import PublishedModel
from whale.models.world.learned import LearnedWorld
from whale.models.world.rollout import Observer, entropy, frames

SCORES = ("retracing", "disagreement", "entropy", "ensemble", *BASELINES)
ERRORS = ("latent", "pixel", "lpips", "percep_efflite0", "state")

OF_ROLLOUTS = (  # not of a frame alone
    "cumulative_entropy", "mc_variance", "step", "error_state", "probe_error", "objects", "objects_lost"
)  # fmt: skip
COLOUR_EPISODES = 12  # of train, whose frames say which colours there are

Arrays = dict[str, np.ndarray]  # a score, or error_<name>, by its name: [B, h]


class EvaluateUncertaintyConfig(Config):
    """Section `evaluate_uncertainty`; `model` names the dynamics variant that is examined.

    `ensemble`: further dynamics entries, trained alike but for the seed; with `model` they make the ensemble.
    `decoding`: how tokens are chosen in the rollouts whose numbers stand first; those of the other mode stand in a
    block of their own. `mc_rollouts`: drawn rollouts a window whose variance is a baseline, `neighbour_episodes`:
    train episodes whose frames an imagined one is compared with, `state_episodes`: train episodes that fit the
    position probe; 0 = not measured. `lpips`: null, or weights that make LPIPS the perceptual distance;
    `percep_efflite0`: null, or the path of those that make it percep-efflite0.
    """

    seed: int
    model: str
    ensemble: list[str]
    pretrain_splits: list[str] = Field(min_length=1)
    finetune_splits: list[str]  # none where nothing is fine-tuned
    max_episodes: int = Field(gt=0)
    windows_per_episode: int = Field(gt=0)
    starts: Starts
    context: int = Field(gt=0)
    horizon: int = Field(gt=0)
    decoding: Decoding
    retracing_steps: list[int] = Field(min_length=1)
    mc_rollouts: int = Field(ge=0)
    neighbour_episodes: int = Field(ge=0)
    lpips: NetworkFile | None
    percep_efflite0: str | None
    state_episodes: int = Field(ge=0)
    filmstrips: int = Field(ge=0)
    resamples: int = Field(ge=100)
    batch_size: int = Field(gt=0)

    @field_validator("mc_rollouts")
    @classmethod
    def _vary(cls, value: int) -> int:
        if value == 1:
            raise ValueError("one rollout has no variance: 0, or 2 and more")
        return value

    @model_validator(mode="after")
    def _one_distance(self) -> Self:
        if self.lpips is not None and self.percep_efflite0 is not None:
            raise ValueError("retracing has one distance: lpips or percep_efflite0, the other null")
        return self

    def splits(self, role: str) -> list[str]:
        """Those that are measured of each dataset of a role; ConfigError for demonstrations without any."""
        return chosen_splits("evaluate_uncertainty", role, self.pretrain_splits, self.finetune_splits)

    @property
    def distance_name(self) -> str:
        """What D and the main error are measured in, for protocol strings."""
        if self.lpips is not None:
            return f"lpips-vgg-{self.lpips.sha256[:16]}"
        return "tokenizer" if self.percep_efflite0 is None else f"{NAME}-{WEIGHTS_SHA256[:16]}"

    @property
    def perceptual_error(self) -> str | None:
        """The key of the error that the perceptual distance measures; None where there is no such distance."""
        if self.lpips is not None:
            return "error_lpips"
        return None if self.percep_efflite0 is None else "error_percep_efflite0"

    @property
    def modes(self) -> list[Mode]:
        """That of `decoding` first."""
        return sorted(MODES, key=lambda mode: mode != self.decoding.mode)


@dataclass(frozen=True)
class Measured:
    """`scored`: of each decoding, that of the config first. `one_step`: frames imagined from recorded ones alone.

    `episode` [B]; `quality`: metrics of the imagined pictures of both decodings; `pictures`: windows to show, frames
    uint8 `recorded` [W, c + h, R, R, 3] and `imagined.<decoding>` [W, h, R, R, 3], their numbers `shown` and `keys`;
    `groups`: the windows of each task and policy.
    """

    scored: dict[Mode, Arrays]
    one_step: Arrays
    episode: np.ndarray
    quality: dict[str, object]
    pictures: Arrays
    groups: list[Group]

    @property
    def main(self) -> Arrays:
        """Of the decoding of the config."""
        return next(iter(self.scored.values()))


def require_depths_fit(config: EvaluateUncertaintyConfig, window: int) -> None:
    """c >= max K + 1, and max K <= T/2 - 1 once a rollout restarts its window; else ConfigError."""
    restarts = config.context + config.horizon - 1 > window
    limit = min(config.context, window // 2 if restarts else config.context) - 1
    if max(config.retracing_steps) > limit or min(config.retracing_steps) < 1 or config.context > window:
        raise ConfigError(
            "retracing depths do not fit into the history",
            place="evaluate_uncertainty.retracing_steps",
            found=f"{config.retracing_steps} with context {config.context}, window {window}",
            expected=f"depths of 1 to {limit}, context of at most {window}",
        )


def perceptual_distance(world: LearnedWorld, config: EvaluateUncertaintyConfig) -> Distance:
    """LPIPS or percep-efflite0 where weights are given, else the tokenizer's feature space."""
    if config.lpips is not None:
        return load_network(config.lpips, LPIPS(), world.tokenizer.device)
    if config.percep_efflite0 is not None:
        return load_percep_efflite0(config.percep_efflite0, world.tokenizer.device)
    return feature_distance(world)


def measure(stack: Stack, dataset: Dataset, windows: Windows, config: EvaluateUncertaintyConfig) -> Measured:
    """Scores and errors of every window and step.

    `ensemble`, `mc_variance`, `neighbour`, `error_lpips`, `error_percep_efflite0` and `error_state` are absent where
    they cannot be measured.
    `probe_error` [B, h]: what the position probe errs on the RECORDED frames, the floor of `error_state`. `objects`,
    `objects_lost` [B, h]: coloured areas of the recorded frame, and those of them that the imagined one has not.
    """
    return _Measurement(stack, dataset, windows, config).measured()


class _Measurement:
    """What the rollouts of one set of windows share: networks, features of what is recorded, the probe."""

    def __init__(self, stack: Stack, dataset: Dataset, windows: Windows, config: EvaluateUncertaintyConfig):
        self.dataset, self.windows, self.config = dataset, windows, config
        self.world = stack.world(config.model, dataset)
        self.distance = perceptual_distance(self.world, config)
        # Retracing is asked first: the plain prediction that it makes beside its branches is the one of the rollout.
        self.observers: list[Observer] = [
            Retracing(self.distance, config.retracing_steps, config.decoding.samples), entropy, frames
        ]  # fmt: skip
        if config.ensemble:
            self.observers.append(Ensemble([stack.world(name, dataset) for name in config.ensemble]))
        self.recorded = self._features(windows.frames[:, config.context - 1 :])  # [B, 1 + h, F]
        self.actions = dataset.normalized(windows.actions[:, config.context - 1 :])
        self.references = None
        if config.neighbour_episodes:
            self.references = self._features(read_frames(dataset, "train", config.neighbour_episodes))
        self.probe = self._position_probe()
        self.hues = hue_borders(read_frames(dataset, "train", COLOUR_EPISODES))

    def measured(self) -> Measured:
        scored: dict[Mode, Arrays] = {}
        imagined: dict[Mode, np.ndarray] = {}
        for mode in self.config.modes:
            scored[mode], imagined[mode] = self._rollout(mode)
        if self.config.mc_rollouts:
            drawn = [imagined["sample"], *(self._drawn(copy) for copy in range(1, self.config.mc_rollouts))]
            for arrays in scored.values():
                arrays["mc_variance"] = variance(drawn)
        pictures = self._pictures(imagined)
        one_step = self._one_step(scored[self.config.decoding.mode])
        found = list(groups(self.windows))
        return Measured(scored, one_step, self.windows.episode, self._quality(imagined), pictures, found)

    def _quality(self, imagined: dict[Mode, np.ndarray]) -> dict[str, object]:
        config, frames = self.config, self.windows.frames
        given, truth = frames[:, config.context - 1], frames[:, config.context :]
        patch = self.world.tokenizer.config.patch_size
        rng = np.random.default_rng([config.seed, *b"decoding"])
        return decoding_metrics(given, truth, imagined, patch, self.windows.episode, rng, config.resamples)

    def _pictures(self, imagined: dict[Mode, np.ndarray]) -> Arrays:
        """Windows that are spread over all."""
        last = len(self.windows) - 1
        shown = np.unique(np.linspace(0, last, self.config.filmstrips).round().astype(int))
        pictures = {f"imagined.{mode}": frames[shown] for mode, frames in imagined.items()}
        keys = np.array([self.windows.keys[index] for index in shown])
        return pictures | {"recorded": self.windows.frames[shown], "shown": shown, "keys": keys}

    def _rollout(self, mode: Mode) -> tuple[Arrays, np.ndarray]:
        """Of the recorded context, by the model's own frames."""
        config, windows = self.config, self.windows
        given = windows.frames[:, : config.context]
        arrays = self._asked(given, windows.actions, config.horizon, mode, windows.keys)
        imagined = arrays.pop("frames")
        features = self._features(imagined)
        truth = windows.frames[:, config.context :]
        arrays |= self._compared(truth, imagined, features, self.recorded[:, 1:], self.recorded[:, 0], self.actions)
        arrays["cumulative_entropy"] = arrays["entropy"].cumsum(axis=1)
        count, _, kept = counted(self.hues, truth, imagined)
        arrays["objects"], arrays["objects_lost"] = count, count - kept
        arrays["step"] = np.broadcast_to(np.arange(1.0, config.horizon + 1), truth.shape[:2]).copy()
        return arrays | self._state_errors(features), imagined

    def _one_step(self, rolled: Arrays) -> Arrays:
        """Frames imagined from c recorded ones each, in the decoding of the config: [B, 2], or [B, 1] if h = 1.

        The first frame of a rollout is one; the other lies half a horizon later.
        """
        config, windows, step = self.config, self.windows, self.config.horizon // 2
        first = {name: values[:, :1] for name, values in rolled.items() if name not in OF_ROLLOUTS}
        if step == 0:
            return first
        held = slice(step, step + config.context)
        keys = [f"{key}@{step}" for key in windows.keys]
        later = self._asked(windows.frames[:, held], windows.actions[:, held], 1, config.decoding.mode, keys)
        imagined = later.pop("frames")
        truth = windows.frames[:, step + config.context, None]
        here = (self.recorded[:, step + 1, None], self.recorded[:, step], self.actions[:, step, None])
        later |= self._compared(truth, imagined, self._features(imagined), *here)
        return {name: np.concatenate([values, later[name]], axis=1) for name, values in first.items()}

    def _asked(self, given: np.ndarray, actions: np.ndarray, horizon: int, mode: Mode, keys: list[str]) -> Arrays:
        """`actions` as far as the horizon goes."""
        observers = self.observers
        if mode == "argmax":  # one outcome, so nothing to draw again
            observers = [Retracing(self.distance, self.config.retracing_steps), *observers[1:]]
        how = self.config.decoding.by(mode).how(keys, self.config.seed)
        return rollouts(self.world, given, actions, horizon, self.config.batch_size, observers, **how)

    def _drawn(self, copy: int) -> np.ndarray:
        """One more drawn rollout of each window."""
        config, windows = self.config, self.windows
        keys = [f"{key}#{copy}" for key in windows.keys]
        predict = predictor(self.world, config.batch_size, **config.decoding.by("sample").how(keys, config.seed))
        return predict(windows.frames[:, : config.context], windows.actions, config.horizon)

    def _compared(
        self, truth: np.ndarray, imagined: np.ndarray, features: np.ndarray, recorded: np.ndarray, last: np.ndarray,
        actions: np.ndarray,
    ) -> Arrays:  # fmt: skip
        """Errors, and the scores that need the imagined frame. `last` [B, F]: of the last given frame."""
        arrays = {
            "error_latent": np.square(features.astype(np.float64) - recorded).mean(axis=-1),
            "error_pixel": squared_error(truth, imagined),
            "psnr": psnr(truth, imagined),
            "moved": moved(features.astype(np.float64), last),
            "action": action_length(actions),
        }
        if (name := self.config.perceptual_error) is not None:
            arrays[name] = _along(self.distance, self.world.tokenizer, truth, imagined, self.config.batch_size)
        if self.references is not None:
            arrays["neighbour"] = nearest(features, self.references)
        return arrays

    def _position_probe(self) -> Callable[[np.ndarray], np.ndarray] | None:
        """Features [..., F] -> metres [..., 3]; None without a recorded state."""
        config = self.config
        found = read_states(self.dataset, "train", config.state_episodes) if config.state_episodes else None
        if found is None or self.windows.state is None:
            return None
        recorded, states, _ = found
        decoded = reconstruct(self.world.tokenizer, recorded[:, None], config.batch_size)[:, 0]
        features = self._features(np.concatenate([recorded, decoded]))
        return fit_position_probe(features, np.tile(states[:, :3], (2, 1)))

    def _state_errors(self, features: np.ndarray) -> Arrays:
        """Metres between the end effector seen in the imagined frame and the recorded one; nothing without a state."""
        if self.probe is None or self.windows.state is None:
            return {}
        position = self.windows.state[:, self.config.context :, :3].astype(np.float64)
        return {
            "error_state": position_error(self.probe(features), position),
            "probe_error": position_error(self.probe(self.recorded[:, 1:]), position),
        }

    def _features(self, images: np.ndarray) -> np.ndarray:
        """float32 [..., R, R, 3] -> [..., F]"""
        flat, size = images.reshape(-1, *images.shape[-3:]), self.config.batch_size
        parts = [flat[start : start + size] for start in range(0, len(flat), size)]
        found = [self.world.features(self.world.tokenizer.placed(part)).float().cpu() for part in parts]
        return torch.cat(found).flatten(1).numpy().reshape(*images.shape[:-3], -1)


def _along(
    distance: Distance, model: PublishedModel, truth: np.ndarray, imagined: np.ndarray, batch_size: int
) -> np.ndarray:
    """[B, h] distances, `batch_size` images at a time, computed where `model` lies."""
    left, right = (x.reshape(-1, *x.shape[2:]) for x in (truth, imagined))
    parts = [slice(start, start + batch_size) for start in range(0, len(left), batch_size)]
    found = [distance(model.placed(left[part]), model.placed(right[part])) for part in parts]
    return torch.cat(found).cpu().numpy().reshape(truth.shape[:2])
