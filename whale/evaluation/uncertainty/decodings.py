"""What the way of choosing tokens does to the pictures: fidelity and motion of each decoding, at the last horizon.

Drawn tokens cost PSNR, since no draw is the mean of what may happen; argmax freezes what moves. Both stand beside the
last given frame repeated (`still`). Shapes: B windows, h horizon, R resolution.
"""

from collections.abc import Mapping

import numpy as np

from whale.evaluation.measuring.motion import moving_patches
from whale.evaluation.measuring.rollouts.fidelity import changing_pixels, psnr, psnr_of_changing_pixels, ssim
from whale.evaluation.numbers.bootstrap import mean_interval, paired_interval
from whale.evaluation.numbers.metrics import under
from whale.evaluation.uncertainty.estimation.decoding import Mode


def motion(frames: np.ndarray, patch: int) -> float:
    """Share of patches that change from one frame to the next. uint8 [B, h, R, R, 3]; NaN for a single frame."""
    return float(moving_patches(frames, frames.shape[2] // patch).mean()) if frames.shape[1] > 1 else float("nan")


def decoding_metrics(
    given: np.ndarray, truth: np.ndarray, imagined: Mapping[Mode, np.ndarray], patch: int, episode: np.ndarray,
    rng: np.random.Generator, resamples: int,
) -> dict[str, object]:  # fmt: skip
    """Of each decoding's frames uint8 [B, h, R, R, 3], with `given` [B, R, R, 3] the last given frame.

    psnr, psnr_moving (pixels that truth moved since then), ssim: of the last frame; motion: share of patches that
    change between imagined frames. `sample_minus_argmax`: of the same windows, with interval.
    """
    metrics: dict[str, object] = {"truth.motion": motion(truth, patch)}
    last: dict[str, np.ndarray] = {"still": given}
    last |= {name: frames[:, -1] for name, frames in imagined.items()}
    moving = np.stack([changing_pixels(one, before) for one, before in zip(truth[:, -1], given, strict=True)])
    scores = {
        name: {
            "psnr": psnr(truth[:, -1], frame),
            "psnr_moving": psnr_of_changing_pixels(truth[:, -1], frame, moving),
            "ssim": ssim(truth[:, -1], frame),
        }
        for name, frame in last.items()
    }
    for name, found in scores.items():
        for kind, values in found.items():
            metrics |= mean_interval(values, episode, rng, resamples).as_metrics(f"{name}.{kind}")
    for name, frames in imagined.items():
        metrics[f"{name}.motion"] = motion(frames, patch)
    for kind, values in scores["sample"].items():
        away = paired_interval(values, scores["argmax"][kind], episode, rng, resamples)
        metrics |= under("sample_minus_argmax", away.as_metrics(kind))
    return metrics
