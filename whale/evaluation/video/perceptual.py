"""LPIPS, percep-efflite0, FVD of generated videos, where their networks' weights are given; else "unavailable", not 0.

Shapes: B videos, T frames, H W image; uint8.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from whale.evaluation.measuring.efflite0 import PercepEffLite0, load_percep_efflite0
from whale.evaluation.measuring.feature_networks import I3D, I3D_MIN_FRAMES, LPIPS, NetworkFile, load_network
from whale.evaluation.measuring.rollouts.heldout import Windows
from whale.evaluation.numbers.bootstrap import mean_interval, paired_interval


@dataclass(frozen=True)
class FeatureNetworks:
    """The networks whose weights are given."""

    lpips: nn.Module | None
    i3d: nn.Module | None
    percep_efflite0: PercepEffLite0 | None


def load_feature_networks(
    lpips: NetworkFile | None, i3d: NetworkFile | None, percep_efflite0: str | None,
    device: torch.device | str = "cpu",
) -> FeatureNetworks:  # fmt: skip
    """Load what is given onto `device`; MissingInputError, MismatchError, BadDataError for what is wrong with it."""
    return FeatureNetworks(
        lpips=None if lpips is None else load_network(lpips, LPIPS(), device),
        i3d=None if i3d is None else load_network(i3d, I3D(), device),
        percep_efflite0=None if percep_efflite0 is None else load_percep_efflite0(percep_efflite0, device),
    )


def lpips_per_frame(network: nn.Module, truth: np.ndarray, image: np.ndarray, batch_size: int = 32) -> np.ndarray:
    """LPIPS of each pair of images. uint8 [..., H, W, 3] x 2 -> float64 [...]"""
    left, right = (torch.from_numpy(np.ascontiguousarray(x.reshape(-1, *x.shape[-3:]))) for x in (truth, image))
    parts = [slice(start, start + batch_size) for start in range(0, len(left), batch_size)]
    found = torch.cat([network(left[part], right[part]) for part in parts])
    return found.cpu().numpy().reshape(truth.shape[:-3])


def percep_efflite0_per_frame(
    network: PercepEffLite0, truth: np.ndarray, images: Mapping[str, np.ndarray], batch_size: int = 32
) -> dict[str, np.ndarray]:
    """percep-efflite0 of `truth` and each of `images`, all uint8 [..., H, W, 3] -> float64 [...] each.

    What the network sees in the truth is computed once for all of them.
    """
    flat = {name: image.reshape(-1, *truth.shape[-3:]) for name, image in images.items()}
    found: dict[str, list[np.ndarray]] = {name: [] for name in images}
    for start in range(0, truth[..., 0, 0, 0].size, batch_size):
        part = slice(start, start + batch_size)
        recorded = network.taps(_tensor(truth.reshape(-1, *truth.shape[-3:])[part]))
        for name, image in flat.items():
            found[name].append(network.between(recorded, network.taps(_tensor(image[part]))).cpu().numpy())
    return {name: np.concatenate(parts).reshape(truth.shape[:-3]) for name, parts in found.items()}


def frechet_video_distance(network: nn.Module, truth: np.ndarray, image: np.ndarray, batch_size: int = 8) -> float:
    """FVD: Frechet distance of the networks' features of two sets of videos [B, T, H, W, 3]; lower is closer.

    The distance is torchmetrics' FrechetInceptionDistance on video features. NaN below two videos a side.
    """
    if min(len(truth), len(image)) < 2:
        return float("nan")
    from torchmetrics.image.fid import FrechetInceptionDistance  # imports matplotlib and scipy: 2 s, for FVD only

    distance = FrechetInceptionDistance(feature=network)
    for videos, is_real in ((truth, True), (image, False)):
        for start in range(0, len(videos), batch_size):
            part = np.ascontiguousarray(videos[start : start + batch_size])
            distance.update(torch.from_numpy(part), real=is_real)
    return float(distance.compute())


def perceptual_metrics(networks: FeatureNetworks, truth: np.ndarray, image: np.ndarray) -> dict[str, object]:
    """`lpips`, `fvd` of whole videos [B, T, H, W, 3], each null with a `.status` where it is unavailable."""
    metrics: dict[str, object] = {"lpips": None, "fvd": None}
    if networks.lpips is None:
        metrics["lpips.status"] = "unavailable: no feature weights"
    else:
        metrics["lpips"] = float(lpips_per_frame(networks.lpips, truth, image).mean())
    if networks.i3d is None:
        metrics["fvd.status"] = "unavailable: no feature weights"
    elif truth.shape[1] < I3D_MIN_FRAMES:
        metrics["fvd.status"] = f"unavailable: {truth.shape[1]} frames, I3D needs {I3D_MIN_FRAMES}"
    else:
        metrics["fvd"] = frechet_video_distance(networks.i3d, truth, image)
    return metrics


def percep_efflite0_metrics(
    network: PercepEffLite0 | None, frames: Mapping[str, np.ndarray], name: str, windows: Windows,
    horizons: Sequence[int], rng: np.random.Generator, resamples: int,
) -> dict[str, object]:  # fmt: skip
    """`percep_efflite0` of the imagined frames `frames[name]`, of all and of frame h of each horizon; lower is closer.

    Beside it: of the last given frame repeated, of the tokenizer's reconstruction where there is one, and by how much
    the imagined frames are closer than the repeated one (above 0: they are), window by window with interval.
    """
    if network is None:
        return {"percep_efflite0": None, "percep_efflite0.status": "unavailable: no feature weights"}
    images = {kind: frames[kind] for kind in (name, "copy_last", "tokenizer") if kind in frames}
    found = percep_efflite0_per_frame(network, windows.frames[:, 1:], images)
    metrics: dict[str, object] = {}
    asked = {"": slice(None)} | {f"h{horizon}.": slice(horizon - 1, horizon) for horizon in horizons}
    for at, steps in asked.items():
        of = {kind: distance[:, steps] for kind, distance in found.items()}
        mine, still, key = of.pop(name), of["copy_last"], f"{at}percep_efflite0"
        metrics |= mean_interval(mine, windows.episode, rng, resamples).as_metrics(key)
        metrics |= {f"{key}_{kind}": float(distance.mean()) for kind, distance in of.items()}
        closer = paired_interval(still, mine, windows.episode, rng, resamples)
        metrics |= closer.as_metrics(f"{key}_below_copy_last")
    return metrics


def _tensor(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images))
