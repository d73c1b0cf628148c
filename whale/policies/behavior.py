"""The behavior model's own policy pi(a | o_1..o_h, a_1..a_{h-1}, z), Eq. 4, as a policy that acts.

z at step h is the mode of the prior after step h - 1, the last it has seen an action of; at the first step it is drawn
uniformly by the episode's seed. The gripper is rounded to open or closed, as recorded commands are.
Shapes: E episodes, T window, R resolution, A action, K x M categories x classes of z.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from whale.data.segments.actions import ActionNormalizer
from whale.models.behavior.behavior import BehaviorModel
from whale.models.behavior.categorical import mode
from whale.policies.protocol import Beginning, Contender, Observation


class _BehaviorActor:
    """All episodes in one batch; each remembers its last T frames and actions."""

    def __init__(
        self, model: BehaviorModel, normalizer: ActionNormalizer, window: int, spread: float,
        beginnings: Sequence[Beginning],
    ):  # fmt: skip
        self.model, self.normalizer, self.window, self.spread = model, normalizer, window, spread
        self.seeds = [each.seed for each in beginnings]
        self.frames: list[list[np.ndarray]] = [[] for _ in beginnings]
        self.actions: list[list[np.ndarray]] = [[] for _ in beginnings]
        drawn = [np.random.default_rng([each.seed, 1]) for each in beginnings]
        first = [rng.integers(model.config.num_classes, size=model.config.num_categories) for rng in drawn]
        one_hot = F.one_hot(torch.from_numpy(np.stack(first)), model.config.num_classes)
        self.z = one_hot.float().flatten(1)

    @torch.inference_mode()
    def act(self, observations: Sequence[Observation], rows: Sequence[int]) -> list[np.ndarray]:
        answers: dict[int, np.ndarray] = {}
        lengths = {row: len(self.frames[row]) for row in rows}
        for length in sorted(set(lengths.values())):  # rows of equal history are one batch
            same = [place for place, row in enumerate(rows) if lengths[row] == length]
            for place, action in zip(same, self._act([observations[p] for p in same], [rows[p] for p in same]),
                                     strict=True):  # fmt: skip
                answers[place] = action
        return [answers[place] for place in range(len(rows))]

    def _act(self, observations: Sequence[Observation], rows: Sequence[int]) -> list[np.ndarray]:
        for row, observation in zip(rows, observations, strict=True):
            self.frames[row].append(observation.image)
        frames, taken = self._history(rows)
        if taken.shape[1]:
            log_probs = self.model.prior_log_probs(frames[:, :-1], taken)[:, -1]
            self.z[list(rows)] = mode(log_probs).flatten(1).cpu()
        padded = F.pad(taken, (0, 0, 0, 1))  # a_h is what is asked for; the network shifts it away
        mean, log_std = self.model.policy(frames, padded, self.model.placed(self.z[list(rows)]))
        chosen = mean[:, -1].cpu().numpy() + self.spread * log_std[:, -1].exp().cpu().numpy() * self._noise(rows)
        raw = self.normalizer.denormalize(np.clip(chosen, -1.0, 1.0))
        raw[:, -1] = (chosen[:, -1] > 0.5).astype(np.float32)
        for row, action in zip(rows, raw, strict=True):
            self.actions[row].append(action)
        return [action[None] for action in raw]

    def _history(self, rows: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Frames [B, h, R, R, 3] in [0, 1] and the normalised actions [B, h - 1, A] between them, h <= T."""
        frames = np.stack([np.stack(self.frames[row][-self.window :]) for row in rows])
        count, size = frames.shape[1] - 1, self.model.config.action_size
        taken = [np.reshape(self.actions[row][len(self.actions[row]) - count :], (count, size)) for row in rows]
        normalised = self.normalizer.normalize(np.stack(taken))
        return self.model.pixels(frames), self.model.placed(normalised)

    def _noise(self, rows: Sequence[int]) -> np.ndarray:
        """Keyed by (seed, step): the same in every batch."""
        draws = [np.random.default_rng([self.seeds[row], 2, len(self.frames[row])]) for row in rows]
        return np.stack([draw.standard_normal(self.model.config.action_size) for draw in draws])


def behavior(
    name: str, model: BehaviorModel, normalizer: ActionNormalizer, window: int, spread: float = 0.0, identity: str = ""
) -> Contender:
    """`spread` 0: the mean of pi; 1: drawn from it."""
    return Contender(
        name, lambda beginnings: _BehaviorActor(model, normalizer, window, spread, beginnings),
        identity=f"behavior {identity} spread {spread:g}",
    )  # fmt: skip
