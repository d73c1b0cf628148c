"""A world whose steps are CUDA graphs: of one row, a step is many hundred kernels, each shorter than its launch.

Never run on a GPU yet, so it stands here and not in the package. Whoever has one begins with
tests/benchmarks/test_captured.py. A graph replays kernels on fixed addresses, so a captured world serves one batch size
and windows that start from known numbers of frames, and holds one state: the newest. That suffices a rollout, not the
branches of retracing. The steps of a window differ in what they attend to: each has a graph of its own.

Shapes: as in whale.models.world.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from whale.common.errors import ConfigError
from whale.models.world.learned import LearnedWorld
from whale.models.world.state import Step, WorldState
from whale.models.world.world import Draw, World

Made = TypeVar("Made")


class CapturedWorld(World):
    """`world`, which must lie on a GPU, for `batch` rows after `given` frames; z is the prior's mode.

    `temperature` 0: the most likely tokens; above, every step is drawn at it.
    """

    def __init__(self, world: LearnedWorld, batch: int, given: int = 1, temperature: float = 0.0):
        if world.memory > world.window:
            raise ConfigError("a captured world has no memory beyond its window", found=world.memory)
        self.world, self.window, self.codes, self.z_size = world, world.window, world.codes, world.z_size
        self.batch, self.temperature = batch, temperature
        with torch.inference_mode():
            world.tokenizer.reserve(world.window + 1)  # graphs hold addresses: no longer positions may replace them
            lengths = {given, max(world.window // 2, 1)}  # what a rollout starts from, and what it starts again from
            self._windows = {held: _Window(world, batch, held, temperature) for held in sorted(lengths)}
        self._newest: WorldState | None = None

    @torch.inference_mode()
    def start(
        self, frames: Tensor, actions: Tensor, *, tokens: Tensor | None = None, z: Tensor | None = None
    ) -> WorldState:
        batch, held = frames.shape[:2]
        if batch != self.batch or held not in self._windows:
            raise ConfigError(
                "another shape was captured",
                found=f"{batch} rows of {held} frames",
                expected=f"{self.batch} rows of {' or '.join(map(str, self._windows))} frames",
            )
        if tokens is not None or z is not None:
            raise ConfigError("a captured world encodes frames and infers z itself", found="tokens or z of the caller")
        self._window = self._windows[held]
        self._window.open(frames, self.world.normalised(actions))
        self._newest = WorldState(frames, actions)
        return self._newest

    @torch.inference_mode()
    def step(
        self, state: WorldState, action_BA: Tensor, draw: Draw | None = None, z: Tensor | None = None
    ) -> tuple[WorldState, Step]:
        if state is not self._newest or z is not None:
            raise ConfigError("a captured world continues its newest state only, with its own z")
        temperature = 0.0 if draw is None else draw.temperature
        if temperature != self.temperature:
            raise ConfigError("another temperature was captured", found=temperature, expected=self.temperature)
        step = self._window.step(state.length, self.world.normalised(action_BA), draw)
        self._newest = state.followed_by(action_BA, step)
        return self._newest, step

    def features(self, frames: Tensor) -> Tensor:
        return self.world.features(frames)


class _Window:
    """The graphs of one window: taking in `held` frames, then one step after the other until it is full."""

    def __init__(self, world: LearnedWorld, batch: int, held: int, temperature: float):
        self.held = held
        resolution, action_size = world.tokenizer.config.resolution, world.dynamics.config.action_size
        device = world.device
        normalised = LearnedWorld(
            world.tokenizer, world.behavior, world.dynamics, world.window, precision=world.precision
        )
        self.frames = torch.zeros(batch, held, resolution, resolution, 3, dtype=torch.uint8, device=device)
        self.actions = torch.zeros(batch, held - 1, action_size, device=device)
        self.action = torch.zeros(batch, action_size, device=device)
        self.draw = normalised.draw(self.frames, temperature, 0, 0) if temperature else None

        def start() -> WorldState:
            return normalised.start(self.frames, self.actions)

        def step() -> tuple[WorldState, Step]:
            return normalised.step(self.state, self.action, self.draw)

        self.state = _warmed_up(start)
        for _ in range(held, world.window + 1):
            self.state = _warmed_up(step)[0]
        pool = torch.cuda.graph_pool_handle()  # one for all: they are replayed in the order of their capture
        self.opening, self.state = _captured(start, pool)
        self.steps: list[tuple[torch.cuda.CUDAGraph, Step]] = []
        for _ in range(held, world.window + 1):
            graph, (self.state, predicted) = _captured(step, pool)
            self.steps.append((graph, predicted))

    def open(self, frames: Tensor, actions: Tensor) -> None:
        """Start from these frames and the normalised actions between them."""
        self.frames.copy_(frames)
        self.actions.copy_(actions)
        self.opening.replay()

    def step(self, length: int, action_BA: Tensor, draw: Draw | None) -> Step:
        """The prediction after `length` frames, out of the memory that the same step of a later window overwrites."""
        self.action.copy_(action_BA)
        if self.draw is not None and draw is not None:
            self.draw.noise.copy_(draw.noise)
        graph, predicted = self.steps[length - self.held]
        graph.replay()
        parts = (predicted.frame, predicted.tokens, predicted.logits, predicted.z)
        frame, tokens, logits, z = (None if part is None else part.clone() for part in parts)
        assert frame is not None
        return Step(frame, tokens, logits, z)


def _warmed_up(body: Callable[[], Made]) -> Made:
    """Once outside a graph: libraries get their workspaces, positions and compiled code are made."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        made = body()
    torch.cuda.current_stream().wait_stream(stream)
    return made


def _captured(body: Callable[[], Made], pool: Any) -> tuple[torch.cuda.CUDAGraph, Made]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        made = body()
    return graph, made
