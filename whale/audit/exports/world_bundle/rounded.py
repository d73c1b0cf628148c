"""A small bundle: weights rounded to float16, and how far their frames lie from what the published weights imagine."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from whale.common.errors import BadDataError, MismatchError
from whale.common.files import MANIFEST_NAME, WEIGHTS
from whale.worlds.load import load
from whale.worlds.starts import Start

PUBLISHED = "published.json"  # the manifest of a part as it was signed
HORIZON, MOST = 8, 16  # imagined steps, and starts of a dataset that are compared
TOLERANCE = 1.0  # mean absolute difference of imagined frames, of 255


def round_weights(part: Path) -> None:
    """Round the weights in a copied folder; its manifest, which no longer holds for it, becomes `published.json`."""
    tensors = safetensors.numpy.load_file(part / WEIGHTS)
    for name, values in tensors.items():
        if values.dtype == np.float32:
            with np.errstate(over="ignore"):
                tensors[name] = values.astype(np.float16)
            if not np.isfinite(tensors[name]).all():
                raise BadDataError("a weight is too large for float16", file=part / WEIGHTS, place=name,
                                   found=float(np.abs(values).max()), expected="<= 65504")  # fmt: skip
    (part / WEIGHTS).unlink()  # it may be read-only, as it was published
    (part / WEIGHTS).write_bytes(safetensors.numpy.save(tensors))
    if (part / MANIFEST_NAME).is_file():
        (part / MANIFEST_NAME).rename(part / PUBLISHED)


def compare(published: Path, bundle: Path, starts: Mapping[str, Sequence[Start]]) -> dict[str, Any]:
    """Both worlds under recorded actions, most likely frames. MismatchError beyond the tolerance.

    `mean_abs_difference` and `largest_mean_of_a_frame`: of imagined frames, of 255; `equal_pixels`: their share.
    """
    differences = []
    for name, chosen in starts.items():
        length = min([HORIZON, *(len(start.actions) - len(start.frames) + 1 for start in chosen[:MOST])])
        frames = np.stack([start.frames for start in chosen[:MOST]])
        actions = np.stack([start.actions[: frames.shape[1] - 1 + length] for start in chosen[:MOST]])
        imagined = [load(folder, name, verify=False, checking="off").imagine(frames, actions).frames.astype(np.int16)
                    for folder in (published, bundle)]  # fmt: skip
        differences.append(np.abs(imagined[0] - imagined[1]).reshape(-1, imagined[0][0, 0].size))
    rows = np.concatenate(differences)
    found = {
        "weights": "float16", "frames": len(rows), "horizon": HORIZON, "tolerance": TOLERANCE,
        "mean_abs_difference": round(float(rows.mean()), 4),
        "largest_mean_of_a_frame": round(float(rows.mean(axis=1).max()), 4),
        "equal_pixels": round(float((rows == 0).mean()), 4),
    }  # fmt: skip
    if rows.mean() > TOLERANCE:
        raise MismatchError("rounded weights imagine other frames", file=bundle, found=found["mean_abs_difference"],
                            expected=f"<= {TOLERANCE:g} of 255, mean absolute difference",
                            remedy="export it without --small")  # fmt: skip
    return found
