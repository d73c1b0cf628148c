"""Scores beside errors, per (sequence, step) of imagined rollouts: what every uncertainty metric is computed from.

Unseen episodes, c context frames, h imagined ones (Table 3). A score is asked before a frame is imagined; an error is
the distance of that frame from the recorded one: in the tokenizer's features, in pixels, in LPIPS if its weights are
given, and in metres where the robot's state is recorded.
Shapes: B windows, c context, h horizon, R resolution, F features.
"""

import numpy as np
import torch
from pydantic import Field

from whale.common.config import Config
from whale.common.errors import ConfigError
from whale.evaluation.measuring.feature_networks import LPIPS, NetworkFile, load_network
from whale.evaluation.measuring.fidelity import psnr, squared_error
from whale.evaluation.measuring.heldout import Dataset, Windows, read_states
from whale.evaluation.measuring.imagination import reconstruct, rollouts
from whale.evaluation.measuring.roles import chosen_splits
from whale.evaluation.measuring.stack import Stack
from whale.evaluation.uncertainty.true_state import PositionProbe, fit_position_probe, position_error
from whale.evaluation.uncertainty.uncertainty import Distance, Ensemble, Retracing, feature_distance
from whale.models.trunk.folder import PublishedModel
from whale.models.world.learned import LearnedWorld
from whale.models.world.rollout import Observer, entropy, frames

SCORES = ("retracing", "disagreement", "entropy", "ensemble", "step")  # step: the imagined step's number, the baseline
ERRORS = ("latent", "pixel", "lpips", "state")


class EvaluateUncertaintyConfig(Config):
    """Section `evaluate_uncertainty`; `model` names the dynamics variant that is examined.

    `ensemble`: further dynamics entries, trained alike but for the seed; with `model` they make the ensemble.
    `lpips`: null, or weights that make LPIPS the perceptual distance. `state_episodes`: train episodes that fit the
    position probe, 0 = no state error.
    """

    seed: int
    model: str
    ensemble: list[str]
    pretrain_splits: list[str] = Field(min_length=1)
    finetune_splits: list[str]  # none where nothing is fine-tuned
    max_episodes: int = Field(gt=0)
    context: int = Field(gt=0)
    horizon: int = Field(gt=0)
    retracing_steps: list[int] = Field(min_length=1)
    lpips: NetworkFile | None
    state_episodes: int = Field(ge=0)
    filmstrips: int = Field(ge=0)
    resamples: int = Field(ge=100)
    batch_size: int = Field(gt=0)

    def splits(self, role: str) -> list[str]:
        """Those that are measured of each dataset of a role; ConfigError for demonstrations without any."""
        return chosen_splits("evaluate_uncertainty", role, self.pretrain_splits, self.finetune_splits)

    @property
    def distance_name(self) -> str:
        """What D and the main error are measured in, for protocol strings."""
        return "tokenizer" if self.lpips is None else f"lpips-vgg-{self.lpips.sha256[:16]}"


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
    """LPIPS where its weights are given, else the tokenizer's feature space."""
    if config.lpips is None:
        return feature_distance(world)
    return load_network(config.lpips, LPIPS(), world.tokenizer.device)


def uncertainty_arrays(
    stack: Stack, dataset: Dataset, windows: Windows, config: EvaluateUncertaintyConfig
) -> dict[str, np.ndarray]:
    """Per (sequence, step) float64 [B, h]: every score of SCORES, `error_<name>` of ERRORS, psnr; `imagined` frames.

    `ensemble`, `error_lpips` and `error_state` are absent where they cannot be measured. `probe_error` [B, h]: what the
    position probe errs on the RECORDED frames, the floor of `error_state`.
    """
    world = stack.world(config.model, dataset)
    distance = perceptual_distance(world, config)
    # Retracing is asked first: the plain prediction that it makes beside its branches is the one of the rollout.
    observers: list[Observer] = [Retracing(distance, config.retracing_steps), entropy, frames]
    if config.ensemble:
        observers.append(Ensemble([stack.world(name, dataset) for name in config.ensemble]))
    given = windows.frames[:, : config.context]
    arrays = rollouts(world, given, windows.actions, config.horizon, config.batch_size, observers)
    imagined = arrays.pop("frames")
    truth = windows.frames[:, config.context :]
    arrays["step"] = np.broadcast_to(np.arange(1.0, config.horizon + 1), truth.shape[:2]).copy()
    arrays["error_latent"] = _along(feature_distance(world), stack.tokenizer, truth, imagined, config.batch_size)
    if config.lpips is not None:
        arrays["error_lpips"] = _along(distance, stack.tokenizer, truth, imagined, config.batch_size)
    arrays["error_pixel"] = squared_error(truth, imagined)
    arrays["psnr"] = psnr(truth, imagined)
    return arrays | _state_errors(world, dataset, windows, imagined, config) | {"imagined": imagined}


def _along(
    distance: Distance, model: PublishedModel, truth: np.ndarray, imagined: np.ndarray, batch_size: int
) -> np.ndarray:
    """[B, h] distances, `batch_size` images at a time, computed where `model` lies."""
    left, right = (x.reshape(-1, *x.shape[2:]) for x in (truth, imagined))
    parts = [slice(start, start + batch_size) for start in range(0, len(left), batch_size)]
    found = [distance(model.placed(left[part]), model.placed(right[part])) for part in parts]
    return torch.cat(found).cpu().numpy().reshape(truth.shape[:2])


def _state_errors(
    world: LearnedWorld, dataset: Dataset, windows: Windows, imagined: np.ndarray, config: EvaluateUncertaintyConfig
) -> dict[str, np.ndarray]:
    """Metres between the end effector seen in the imagined frame and the recorded one; nothing without a state."""
    recorded = read_states(dataset, "train", config.state_episodes) if config.state_episodes else None
    if recorded is None or windows.state is None:
        return {}
    probe = _probe(world, *recorded[:2], config.batch_size)
    position = windows.state[:, config.context :, :3].astype(np.float64)
    return {
        "error_state": position_error(probe(_features(world, imagined, config.batch_size)), position),
        "probe_error": position_error(
            probe(_features(world, windows.frames[:, config.context :], config.batch_size)), position
        ),
    }


def _probe(world: LearnedWorld, frames: np.ndarray, states: np.ndarray, batch_size: int) -> PositionProbe:
    decoded = reconstruct(world.tokenizer, frames[:, None], batch_size)[:, 0]
    features = _features(world, np.concatenate([frames, decoded]), batch_size)
    return fit_position_probe(features, np.tile(states[:, :3], (2, 1)))


def _features(world: LearnedWorld, frames: np.ndarray, batch_size: int) -> np.ndarray:
    """[..., R, R, 3] -> [..., F]"""
    flat = frames.reshape(-1, *frames.shape[-3:])
    parts = [flat[start : start + batch_size] for start in range(0, len(flat), batch_size)]
    features = [world.features(world.tokenizer.placed(part)).cpu() for part in parts]
    return torch.cat(features).flatten(1).double().numpy().reshape(*frames.shape[:-3], -1)
