"""A motion -> the raw episode of one dataset: every feature of its schema, pictures encoded as it stores them.

Pictures are drawn small and enlarged to the dataset's size: a rehearsal tries sizes and encodings, not sharpness.
Shapes: T steps, H W image.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np

from whale.sim.fleet.render import Camera, Palette, render
from whale.sim.rehearsal.motion import Motion
from whale.sim.rehearsal.schemas import Filling, Schema, Tree, leaves
from whale.sim.rehearsal.signals import columns

Encode = Callable[[str, np.ndarray], bytes]
Raw = dict[str, Any]  # flattened name -> (T, ...) array, or list of T texts or encoded pictures
DRAWN = 80  # pixels of a picture's longer side, before it is enlarged
VIEWS: dict[str, dict[str, Any]] = {
    "primary": {},
    "secondary": {"mirror": True, "depth": 0.9, "lift": 0.5},
    "wrist": {"zoom": 1.8},
}
PICTURES = ("jpeg", "png", "image")


def record(name: str, schema: Schema, motion: Motion, encode: Encode) -> tuple[Raw, Raw]:
    """(steps, features beside them) of one episode, flat."""
    pictures = _Pictures(name, motion, encode)
    steps = {
        key: _column(feature, fillings, schema, motion, pictures)
        for key, feature, fillings in leaves(schema.all_steps())
    }
    outside = {
        key: _column(feature, fillings, schema, motion, pictures)[0]
        for key, feature, fillings in leaves(schema.outside)
    }
    return steps, outside


def nested(flat: Mapping[str, Any], tree: Mapping[str, Any], way: str = "") -> Tree:
    """Flattened names back into the schema's tree; a name may itself hold '/'."""
    return {
        name: nested(flat, leaf, f"{way}{name}/") if isinstance(leaf, Mapping) else flat[f"{way}{name}"]
        for name, leaf in tree.items()
    }


def instruction(schema: Schema, motion: Motion) -> str:
    return schema.says[motion.number % len(schema.says)] if schema.says else motion.task.instruction


def palette(name: str) -> Palette:
    """Colours of a dataset's room and arm, its own."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    low_high = ((0.6, 0.85), (0.7, 0.9), (0.35, 0.95), (0.45, 0.85))
    return Palette(*(tuple(rng.uniform(low, high, 3).tolist()) for low, high in low_high))


def _column(feature: str, fillings: list[Filling], schema: Schema, motion: Motion, pictures: "_Pictures") -> Any:
    kind = feature.partition("[")[0]
    shape = tuple(int(size) for size in feature.partition("[")[2].partition("]")[0].split(",") if size)
    first = fillings[0]
    if kind in PICTURES:
        return pictures.encoded(kind, shape, first.signal)
    if kind == "text":
        words = instruction(schema, motion) if first.signal == "instruction" else f"rehearsal-{motion.number:05d}"
        return [words] * len(motion)
    if first.signal == "codepoints":
        codes = np.zeros(first.width or 1, np.int32)
        text = instruction(schema, motion)
        codes[: len(text)] = [ord(letter) for letter in text]
        return np.repeat(codes[None], len(motion), axis=0)
    values_Tk = np.concatenate([columns(filling, motion) for filling in fillings], axis=1)
    return values_Tk.reshape(len(motion), *shape).astype(kind)


class _Pictures:
    """Pictures of one episode: each view drawn once, each feature encoded once."""

    def __init__(self, name: str, motion: Motion, encode: Encode):
        self.palette, self.motion, self.encode = palette(name), motion, encode
        self.drawn: dict[tuple[str, tuple[int, ...]], np.ndarray] = {}

    def encoded(self, kind: str, shape: tuple[int, ...], what: str) -> list[bytes]:
        height, width, _ = shape
        if what == "black":
            return [self.encode(kind, np.zeros(shape, np.uint8))] * len(self.motion)
        view, _, order = what.partition("_")
        smooth = cv2.INTER_NEAREST if kind == "png" else cv2.INTER_LINEAR
        frames = (cv2.resize(frame, (width, height), interpolation=smooth) for frame in self._frames(view, shape))
        return [self.encode(kind, frame[..., ::-1] if order == "bgr" else frame) for frame in frames]

    def _frames(self, view: str, shape: tuple[int, ...]) -> np.ndarray:
        height, width, _ = shape
        factor = max(1.0, max(height, width) / DRAWN)
        camera = Camera(round(height / factor), round(width / factor), **VIEWS[view])
        if (view, shape) not in self.drawn:
            self.drawn[view, shape] = render(self.motion.states, camera, self.palette)
        return self.drawn[view, shape]
