"""LPIPS and FVD of generated videos, where their networks' weights are given; else "unavailable", never 0.

Shapes: B videos, T frames, H W image; uint8.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from whale.evaluation.measuring.feature_networks import I3D, I3D_MIN_FRAMES, LPIPS, NetworkFile, load_network


@dataclass(frozen=True)
class FeatureNetworks:
    """The networks that are there, and the first 16 digits of their weights' sha256 for protocol strings."""

    lpips: nn.Module | None
    i3d: nn.Module | None
    digests: Mapping[str, str]


def load_feature_networks(
    lpips: NetworkFile | None, i3d: NetworkFile | None, device: torch.device | str = "cpu"
) -> FeatureNetworks:
    """Load what is given onto `device`; MissingInputError, MismatchError, BadDataError for what is wrong with it."""
    return FeatureNetworks(
        lpips=None if lpips is None else load_network(lpips, LPIPS(), device),
        i3d=None if i3d is None else load_network(i3d, I3D(), device),
        digests={name: file.sha256[:16] for name, file in (("lpips", lpips), ("i3d", i3d)) if file is not None},
    )


def lpips_per_frame(network: nn.Module, truth: np.ndarray, image: np.ndarray, batch_size: int = 32) -> np.ndarray:
    """LPIPS of each pair of images. uint8 [..., H, W, 3] x 2 -> float64 [...]"""
    left, right = (torch.from_numpy(np.ascontiguousarray(x.reshape(-1, *x.shape[-3:]))) for x in (truth, image))
    parts = [slice(start, start + batch_size) for start in range(0, len(left), batch_size)]
    found = torch.cat([network(left[part], right[part]) for part in parts])
    return found.cpu().numpy().reshape(truth.shape[:-3])


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
