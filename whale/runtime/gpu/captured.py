"""A rollout whose steps are CUDA graphs: of one row, a step is many hundred kernels, each shorter than its launch.

Never run on a GPU yet; no stage uses it. Whoever has one begins with tests/runtime/gpu/test_captured.py.
A graph replays kernels on fixed addresses, so a captured rollout serves one batch size and one number of given frames,
and holds one state. The steps of a window differ in what they attend to: each has a graph of its own. A window starts
from copied frames, so that the graphs of the second window serve every later one.

Shapes: as in world_model.py.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from whale.common.errors import ConfigError
from whale.models.world.world_model import Rollout, WorldModel
from whale.models.world.world_state import WorldState

Made = TypeVar("Made")
Imagined = tuple[Tensor, Tensor, Tensor]  # frame uint8 [B, R, R, 3], tokens [B, N], entropy [B]


class CapturedRollout:
    """`rollout` as of `world`, which must lie on a GPU, for `batch` rows after `given` frames; z is the prior's mode.

    `temperature` 0: the most likely tokens; above, drawn as `WorldModel.rollout` draws them.
    """

    def __init__(self, world: WorldModel, batch: int, given: int = 1, temperature: float = 0.0):
        self.world, self.batch, self.given, self.temperature = world, batch, given, temperature
        keep = max(world.window // 2, 1)
        with torch.inference_mode():
            world.tokenizer.reserve(world.window + 1)  # graphs hold addresses: no longer positions may replace them
            self.first = _Window(world, batch, given, temperature)
            self.later = self.first if given == keep else _Window(world, batch, keep, temperature)

    @torch.inference_mode()
    def rollout(self, frames: Tensor, actions: Tensor, horizon: int, *, seed: int = 0) -> Rollout:
        """As `WorldModel.rollout`."""
        if (given := self.world.num_given(frames, actions, horizon)) != self.given or len(frames) != self.batch:
            raise ConfigError(
                "another shape was captured",
                found=f"{len(frames)} rows of {given} frames",
                expected=f"{self.batch} rows of {self.given} frames",
            )
        window, steps = self.first, []
        window.open(frames, actions[:, : self.given - 1])
        for number, action_BA in enumerate(actions[:, self.given - 1 :].unbind(1)):
            if window.is_full:
                kept, taken = window.last(self.later.held)
                window = self.later
                window.open(kept, taken)
            noise = self.world.noise(len(frames), seed, number) if self.temperature else None
            steps.append([part.clone() for part in window.step(action_BA, noise)])
        return Rollout(*(torch.stack(parts, dim=1) for parts in zip(*steps, strict=True)))


class _Window:
    """The graphs of one window: taking in `held` frames, then one step after the other until it is full."""

    def __init__(self, world: WorldModel, batch: int, held: int, temperature: float):
        self.held = held
        resolution, action_size = world.tokenizer.config.resolution, world.dynamics.config.action_size
        device = world.device
        self.frames = torch.zeros(batch, held, resolution, resolution, 3, dtype=torch.uint8, device=device)
        self.actions = torch.zeros(batch, held - 1, action_size, device=device)
        self.action = torch.zeros(batch, action_size, device=device)
        self.noise = world.noise(batch, 0, 0) if temperature else None

        def start() -> WorldState:
            return world.start(self.frames, self.actions)

        def step() -> tuple[WorldState, Imagined]:
            state, made = world.step(self.state, self.action, self.noise, temperature=temperature or 1.0)
            return state, (made.frame, made.tokens, made.entropy().float())

        self.state = _warmed_up(start)
        for _ in range(held, world.window + 1):
            self.state = _warmed_up(step)[0]
        pool = torch.cuda.graph_pool_handle()  # one for all: they are replayed in the order of their capture
        self.opening, self.state = _captured(start, pool)
        self.steps: list[tuple[torch.cuda.CUDAGraph, Imagined]] = []
        for _ in range(held, world.window + 1):
            graph, (self.state, imagined) = _captured(step, pool)
            self.steps.append((graph, imagined))
        self.number = 0

    @property
    def is_full(self) -> bool:
        """True after its last step."""
        return self.number == len(self.steps)

    def open(self, frames: Tensor, actions: Tensor) -> None:
        """Start anew from these frames and the actions between them."""
        self.frames.copy_(frames)
        self.actions.copy_(actions)
        self.opening.replay()
        self.number = 0

    def step(self, action_BA: Tensor, noise: Tensor | None) -> Imagined:
        """The next prediction, in memory that the same step of a later window overwrites."""
        self.action.copy_(action_BA)
        if self.noise is not None and noise is not None:
            self.noise.copy_(noise)
        graph, imagined = self.steps[self.number]
        graph.replay()
        self.number += 1
        return imagined

    def last(self, count: int) -> tuple[Tensor, Tensor]:
        """The last frames of a full window and the actions between them."""
        return self.state.frames[:, -count:].clone(), self.state.actions[:, self.state.length - count :].clone()


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
