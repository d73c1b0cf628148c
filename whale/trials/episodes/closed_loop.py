"""Policies against a world: act, imagine, look again. All episodes of a policy are one batch.

The imagined frame is what the policy sees next; nothing true enters after the first frame.
Shapes: E episodes, H horizon, R resolution, A action.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from whale.common.errors import BadDataError
from whale.common.limits import CHUNK_ACTIONS
from whale.models.world.rollout import KeyedNoise, Query
from whale.policies.protocol import Actor, Beginning, Contender, Observation
from whale.worlds.contract import ActionContract
from whale.worlds.world import Checking, Method, World

FIRST_USES = 32  # actions of a policy that are looked at together, once
Outcome = Callable[[np.ndarray], np.ndarray]  # actions [E, A] of a step -> frames uint8 [E, R, R, 3] after it


@dataclass(frozen=True)
class Played:
    """`frames` uint8 [E, H, R, R, 3] after each action; `actions` float32 [E, H, A]; `uncertainty` float64 [E, H] or
    None."""

    frames: np.ndarray
    actions: np.ndarray
    uncertainty: np.ndarray | None = None


def play(
    contender: Contender, beginnings: Sequence[Beginning], horizon: int, outcome: Outcome, contract: ActionContract,
    checking: Checking = "off",
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Frames [E, H, R, R, 3] and raw actions [E, H, A] of a policy in whatever `outcome` is: a world, a simulator.

    A chunk of k actions is carried out before the policy is asked again. RefusedError where the policy's rate, layout
    or actions are not those of the contract; BadDataError for a chunk that is none. enforce: its first actions are
    looked at as well, beside those recorded at the same frames where these are known.
    """
    contract.require_rate(contender.control_hz)
    contract.require_layout(contender.action_dimensions)
    actor = contender.begin(beginnings)
    images = np.stack([each.image for each in beginnings])
    waiting: list[list[np.ndarray]] = [[] for _ in beginnings]
    frames, actions = [], []
    for step in range(horizon):
        rows = [row for row, chunk in enumerate(waiting) if not chunk]
        _ask(actor, contender.name, contract, beginnings, images, rows, step, waiting)
        taken = np.stack([chunk.pop(0) for chunk in waiting])
        images = outcome(taken)
        frames.append(images)
        actions.append(taken)
        if checking == "enforce":
            _look_at(contender.name, contract, beginnings, actions)
    return np.stack(frames, axis=1), np.stack(actions, axis=1)


def imagine_policy(
    world: World, contender: Contender, beginnings: Sequence[Beginning], horizon: int, method: Method | None
) -> Played:
    """The policy's episodes in imagination, with the uncertainty of every step.

    Frames are the most likely ones; with a `method` that was calibrated on drawn tokens they are drawn as well, the
    same for the same start.
    """
    decoding = world.decoding if method is not None else world.decoding.by("argmax")
    observer = None if method is None else world.observer(method, decoding.draws)
    how = decoding.how([f"{each.number}|{each.seed}" for each in beginnings], 0)
    placed = world.model.tokenizer.placed
    state = world.start(np.stack([each.image for each in beginnings])[:, None]).inner
    doubts: list[np.ndarray] = []
    steps = itertools.count()

    @torch.inference_mode()
    def outcome(actions: np.ndarray) -> np.ndarray:
        nonlocal state
        state = world.model.restarted(state)
        noise = KeyedNoise(world.model, state, next(steps), **how) if how else None
        query = Query(world.model, state, placed(actions), noise)
        if observer is not None and method is not None:
            doubts.append(observer(query)[method].double().cpu().numpy())
        state = query.following
        return query.step.frame.cpu().numpy()

    frames, actions = play(contender, beginnings, horizon, outcome, world.contract, world.checking)
    return Played(frames, actions, np.stack(doubts, axis=1) if doubts else None)


def _look_at(
    name: str, contract: ActionContract, beginnings: Sequence[Beginning], actions: Sequence[np.ndarray]
) -> None:
    """After the first step, beside what was recorded; and once there are enough for their sizes."""
    recorded = [each.recorded for each in beginnings if each.recorded is not None]
    if len(actions) == 1 and len(recorded) == len(beginnings):
        contract.enforce(actions[0], np.stack(recorded), place=name)
    elif (len(actions) - 1) * len(beginnings) < FIRST_USES <= len(actions) * len(beginnings):
        contract.enforce(np.concatenate(actions), place=name)


def _ask(
    actor: Actor, name: str, contract: ActionContract, beginnings: Sequence[Beginning], images: np.ndarray,
    rows: list[int], step: int, waiting: list[list[np.ndarray]],
) -> None:  # fmt: skip
    """Fill the queues of `rows` with what the policy answers."""
    if not rows:
        return
    seen = [Observation(images[row], beginnings[row].instruction, step) for row in rows]
    answers = actor.act(seen, rows)
    if len(answers) != len(rows):
        raise BadDataError("a policy answered other episodes than it was asked", place=name, found=len(answers),
                           expected=len(rows))  # fmt: skip
    for row, answer in zip(rows, answers, strict=True):
        chunk = np.atleast_2d(np.asarray(answer))
        if chunk.ndim != 2 or not 1 <= len(chunk) <= CHUNK_ACTIONS:
            raise BadDataError("not a chunk of actions", place=name, found=np.shape(answer),
                               expected=f"[k, A], 1 <= k <= {CHUNK_ACTIONS}")  # fmt: skip
        waiting[row] = list(contract.as_raw(chunk, name))
