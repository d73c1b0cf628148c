"""What z gains where it remembers more than the window: beside a model without z, on the same unseen episodes.

Three conditions: `remembered` (z from the steps before the window too), `window` (the same model, its history begins
with the window), `without` (a model without z). Under teacher forcing, step c of a window has seen c frames, so one
pass gives every c. Gains are paired, with intervals over episodes.

Shapes: S segments, B windows, T window, H memory, N tokens, h horizon.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from whale.common.errors import BadDataError, ConfigError
from whale.data.segments.grid import spread
from whale.evaluation.measuring.rollouts.fidelity import psnr
from whale.evaluation.measuring.rollouts.heldout import Dataset, Segments, Windows, read_segments, read_windows
from whale.evaluation.measuring.rollouts.imagination import rollouts
from whale.evaluation.measuring.rollouts.stack import Stack
from whale.evaluation.numbers.bootstrap import Interval, paired_interval
from whale.evaluation.video.likelihood import prior_log_probs, token_likelihood
from whale.models.world.learned import LearnedWorld

CONDITIONS = ("remembered", "window", "without")


@dataclass(frozen=True)
class Compared:
    """The two dynamics by name; `batch_size` segments or windows at a time."""

    stack: Stack
    dataset: Dataset
    with_z: str = "full"
    without_z: str = "without_z"
    batch_size: int = 32
    seed: int = 0
    resamples: int = 2000

    def __post_init__(self) -> None:
        if not self.memory:
            raise ConfigError(
                "this behavior model remembers nothing beyond the window",
                place="train_behavior.model.memory",
                found=None,
                expected=f"more than the window, {self.dataset.window}",
            )

    @property
    def memory(self) -> int:
        """H."""
        return self.stack.behavior.config.memory or 0

    def world(self, condition: str) -> LearnedWorld:
        """The world of one of CONDITIONS."""
        world = self.stack.world(self.without_z if condition == "without" else self.with_z, self.dataset)
        if condition != "window":
            return world
        forgetful = copy.copy(self.stack.behavior)
        forgetful.config = forgetful.config.model_copy(update={"memory": None})
        return LearnedWorld(world.tokenizer, forgetful, world.dynamics, world.window, world.normalize, world.precision)

    def interval(self, better: np.ndarray, than: np.ndarray, episode: np.ndarray) -> Interval:
        """Of the mean of `better - than`."""
        return paired_interval(better, than, episode, np.random.default_rng(self.seed), self.resamples)


def likelihood_gains(compared: Compared, split: str, max_episodes: int) -> dict[str, list[Interval]]:
    """By how many nats a frame (summed over its N tokens) nll falls, for c = 1..T frames seen: [T] intervals each.

    Names: `remembered - without`, `window - without`, `remembered - window`. Segments with a full history only.
    """
    segments = _with_history(read_segments(compared.dataset, split, max_episodes), compared)
    dynamics = compared.stack.dynamics
    z_of_window = prior_log_probs(compared.stack.behavior, segments.frames, segments.actions, compared.batch_size)
    asked = {
        "remembered": (dynamics[compared.with_z], segments.z_log_probs),
        "window": (dynamics[compared.with_z], z_of_window),
        "without": (dynamics[compared.without_z], z_of_window),
    }
    num_tokens = segments.tokens.shape[-1]
    nll = {
        name: num_tokens * token_likelihood(model, segments.tokens, segments.actions, z, compared.batch_size).nll
        for name, (model, z) in asked.items()
    }
    return {
        f"{better} - {than}": [
            compared.interval(nll[than][:, step], nll[better][:, step], segments.episode)
            for step in range(compared.dataset.window)
        ]
        for better, than in _pairs()
    }


def foreign_z_gains(
    compared: Compared, split: str, max_episodes: int, policies: Sequence[str] | None = None
) -> dict[str, list[Interval]]:
    """What is it in z that helps? nll as in `likelihood_gains` with z of another episode, of the same step.

    `own - same policy's`: what z says of this episode; `same policy's - another's`: what it says of who acts.
    policies: who acts in each episode; as recorded.
    """
    segments = _with_history(read_segments(compared.dataset, split, max_episodes, with_frames=False), compared)
    policies = policies or _policies(compared.dataset, split, max_episodes)
    model, num_tokens = compared.stack.dynamics[compared.with_z], segments.tokens.shape[-1]
    borrowed = {"own": np.arange(len(segments.episode))}
    borrowed |= {
        name: _partners(segments, policies, name == "same policy's") for name in ("same policy's", "another's")
    }
    nll = {}
    for name, rows in borrowed.items():
        z = segments.z_log_probs[rows]
        found = token_likelihood(model, segments.tokens, segments.actions, z, compared.batch_size)
        nll[name] = num_tokens * found.nll
    return {
        f"{better} - {than}": [
            compared.interval(nll[than][:, step], nll[better][:, step], segments.episode)
            for step in range(compared.dataset.window)
        ]
        for better, than in (("own", "same policy's"), ("same policy's", "another's"))
    }


def rollout_gains(
    compared: Compared, split: str, max_episodes: int, seen: int, horizon: int, bands: Sequence[tuple[int, int]]
) -> dict[str, list[Interval]]:
    """By how many dB imagined frames are nearer, after `seen` frames in the window and H - T steps before it.

    bands: first and last imagined frame (1-based) of each mean, one interval each. Names as of `likelihood_gains`.
    """
    before = compared.memory - compared.dataset.window
    windows = read_windows(compared.dataset, split, before + seen + horizon, max_episodes, 1)
    truth = windows.frames[:, before + seen :]
    found = {name: psnr(truth, _imagined(compared, name, windows, before, seen, horizon)) for name in CONDITIONS}
    return {
        f"{better} - {than}": [
            compared.interval(found[better][:, a - 1 : b], found[than][:, a - 1 : b], windows.episode) for a, b in bands
        ]
        for better, than in _pairs()
    }


def _pairs() -> Iterator[tuple[str, str]]:
    yield from (("remembered", "without"), ("window", "without"), ("remembered", "window"))


def _imagined(compared: Compared, condition: str, windows: Windows, before: int, seen: int, horizon: int) -> np.ndarray:
    """Who remembers is given the steps before the window; the others would not look at them."""
    first = 0 if condition == "remembered" else before
    given, actions = windows.frames[:, first : before + seen], windows.actions[:, first:]
    world = compared.world(condition)
    return rollouts(world, given, actions, horizon, compared.batch_size, seen=seen)["frames"]


def _policies(dataset: Dataset, split: str, max_episodes: int) -> list[str]:
    """Who acts in each episode, in the order of `read_segments`."""
    metadata = {row.key: row.metadata for row in dataset.shards.episodes(split)}
    return [str(metadata[row.key].get("policy")) for row in spread(dataset.tokens.episodes(split), max_episodes)]


def _partners(segments: Segments, policies: Sequence[str], same: bool) -> np.ndarray:
    """For each segment one at the same place in the next episode whose policy is the same, or is not."""
    first = {int(episode): int(np.argmax(segments.episode == episode)) for episode in np.unique(segments.episode)}
    partners = []
    for row, episode in enumerate(segments.episode.tolist()):
        others = [each for each in (*range(episode + 1, len(policies)), *range(episode)) if each in first]
        fitting = [each for each in others if (policies[each] == policies[episode]) == same]
        if not fitting:
            raise BadDataError(
                "no other episode to take z from", place=f"policy {policies[episode]}", found=sorted(set(policies)),
                expected="two episodes of each policy and two policies",
            )  # fmt: skip
        wanted = first[fitting[0]] + row - first[episode]
        is_there = wanted < len(segments.episode) and segments.episode[wanted] == fitting[0]
        partners.append(wanted if is_there else first[fitting[0]])
    return np.array(partners)


def _with_history(segments: Segments, compared: Compared) -> Segments:
    """Full segments that begin at least H - T steps after their episode does; they come in the order of the episode."""
    number = np.zeros(len(segments.episode), int)
    for episode in np.unique(segments.episode):
        rows = segments.episode == episode
        number[rows] = np.arange(rows.sum())
    window = compared.dataset.window
    kept = segments.is_full & (number * window >= compared.memory - window)
    if not kept.any():
        raise BadDataError(
            "no segment has a whole history before it",
            file=compared.dataset.shards.directory,
            found=f"the longest episode has {segments.num_frames.max()} frames in {number.max() + 1} segments",
            expected=f"episodes of at least {compared.memory + 1} frames",
        )
    return Segments(**{name: getattr(segments, name)[kept] for name in vars(segments)})
