"""Everything the page can show: the robots of a world, their recorded starts, and the drives that go on.

Answers are plain values for JSON; frames are RGB bytes in base64. Calls may come from several threads.
"""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np

from whale.common.errors import ConfigError
from whale.common.limits import DRIVE_STEPS, DRIVES
from whale.play.drive import COVERAGE, Drive, motion
from whale.play.messages import KEYS, RECORDED, Begin, Message, Rewind
from whale.policies.protocol import Contender
from whale.reporting.pictures import gif, side_by_side
from whale.worlds.world import World

GIF_SIDE = 256  # pixels of a frame's side, at least


class Drives:
    """`open_world`: dataset -> its world, with starts, and the policies that may take the wheel, by name."""

    def __init__(
        self, name: str, datasets: Sequence[str], open_world: Callable[[str], tuple[World, Mapping[str, Contender]]]
    ):
        self.name, self.datasets, self.open_world = name, list(datasets), open_world
        self._opened: tuple[str, World, Mapping[str, Contender]] | None = None  # the one of the last question
        self._running: dict[int, Drive] = {}
        self._begun = 0
        self._lock = Lock()  # one step at a time: more would only share the cores

    def about(self, dataset: str | None = None) -> dict[str, Any]:
        """Of a dataset's world: actions, starts, policies, kinds of z, of uncertainty and of frames.

        The first of `frames` is what its uncertainties were calibrated on.
        """
        with self._lock:
            world, policies = self._world(dataset or self.datasets[0])
            contract = world.contract
            axes = [{"name": name, "unit": unit, "size": float(size)} for name, unit, size in
                    zip(contract.dimensions[:-1], contract.units[:-1], motion(world), strict=True)]  # fmt: skip
            starts = [{"key": start.key, "instruction": start.instruction, "steps": len(start.actions)}
                      for start in world.starts]  # fmt: skip
            return {
                "name": self.name,
                "identity": world.identity,
                "dataset": contract.dataset,
                "datasets": self.datasets,
                "resolution": world.resolution,
                "rate_hz": contract.rate_hz,
                "frame": contract.frame,
                "licence": str(contract.licence["spdx"]),
                "origin": "signed lineage" if world.lineage.get("complete") else "no complete lineage",
                "axes": axes,
                "starts": starts,
                "by": [KEYS, RECORDED, *policies],
                "z": ["prior", "frozen", "off", "drawn"] if world.model.behavior is not None else ["prior"],
                "doubt": ["entropy", *(["retracing"] if contract.retraceable else []), "none"],
                "limits": [each for each in ("retracing", "entropy") if world.limit_if_known(COVERAGE, each)],
                "coverage": COVERAGE,
                "frames": ["drawn", "likeliest"] if world.decoding.mode == "sample" else ["likeliest", "drawn"],
                "max_steps": DRIVE_STEPS,
            }

    def answer(self, asked: Message) -> dict[str, Any]:
        """What the page shows next."""
        with self._lock:
            if isinstance(asked, Begin):
                return self._begin(asked)
            drive = self._drive(asked.drive)
            if isinstance(asked, Rewind):
                drive.rewind(asked.to)
            else:
                drive.step(asked)
            return self._shown(asked.drive)

    def gif(self, number: int) -> bytes:
        """The drive so far, recorded beside imagined, over a bar as long as the uncertainty."""
        with self._lock:
            drive = self._drive(number)
            frames = np.stack([moment.frame for moment in drive.moments])
            doubts = np.array([moment.uncertainty for moment in drive.moments])
            rest = drive.start.following
        seen = frames[:1] if rest is None else np.concatenate([frames[:1], rest])
        recorded = np.concatenate([seen, seen[-1:].repeat(len(frames), axis=0)])[: len(frames)]
        highest = np.nanmax(doubts, initial=0.0)
        level = doubts / highest if highest > 0 else doubts
        return gif(side_by_side(recorded, frames, level, math.ceil(GIF_SIDE / frames.shape[1])))

    def _begin(self, asked: Begin) -> dict[str, Any]:
        world, policies = self._world(asked.dataset)
        if asked.start >= len(world.starts):
            raise ConfigError("no such start", place="start", found=asked.start, expected=f"< {len(world.starts)}")
        self._begun += 1
        self._running[self._begun] = Drive(world, world.starts[asked.start], dict(policies), asked.seed)
        while len(self._running) > DRIVES:
            del self._running[min(self._running)]
        return self._shown(self._begun)

    def _shown(self, number: int) -> dict[str, Any]:
        drive = self._drive(number)
        moment, recorded, limit = drive.moments[-1], drive.recorded(), drive.limit()
        return {
            "drive": number,
            "step": drive.steps,
            "frame": _text(moment.frame),
            "recorded": None if recorded is None else _text(recorded),
            "action": None if moment.action is None else [round(float(each), 5) for each in moment.action],
            "by": moment.by,
            "doubt": moment.doubt,
            "uncertainty": _number(moment.uncertainty),
            "limit": _number(limit),
            "beyond": limit is not None and moment.uncertainty > limit,
            "notice": drive.notice(),
        }

    def _drive(self, number: int) -> Drive:
        if number not in self._running:
            raise ConfigError("this drive has ended", place="drive", found=number,
                              expected=f"one of the last {DRIVES}", remedy="begin again")  # fmt: skip
        return self._running[number]

    def _world(self, dataset: str) -> tuple[World, Mapping[str, Contender]]:
        if dataset not in self.datasets:
            raise ConfigError("this world does not know such a robot", place="dataset", found=dataset,
                              expected=", ".join(self.datasets))  # fmt: skip
        if self._opened is None or self._opened[0] != dataset:
            self._opened = (dataset, *self.open_world(dataset))
        return self._opened[1:]


def _text(frame: np.ndarray) -> str:
    return base64.b64encode(frame.tobytes()).decode("ascii")


def _number(value: float | None) -> float | None:
    """JSON has no NaN and no inf."""
    return None if value is None or not math.isfinite(value) else value
