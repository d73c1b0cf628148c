"""How well a reward head reads the rewards of episodes it has not seen, recorded and reconstructed: its own ceiling.

Shapes: T steps of an episode.
"""

import numpy as np

from whale.data.segments.actions import ActionNormalizer
from whale.data.segments.grid import normalize_actions, spread
from whale.data.storage.shards import ShardSet
from whale.evaluation.measuring.rollouts.reconstruction import reconstruct_long
from whale.evaluation.uncertainty.correlation import explained
from whale.models.tokenizer.tokenizer import VideoTokenizer
from whale.reward.reading import read_rewards
from whale.reward.reward import RewardHead

RECORDED, RECONSTRUCTED = "recorded", "reconstructed"
LEFT_OUT = "episodes_of_unknown_tasks"
DIGITS = 4


def head_r2(
    head: RewardHead, tokenizer: VideoTokenizer, shards: ShardSet, split: str, episodes: int, window: int
) -> dict[str, float | None]:
    """R^2 of single rewards over at most `episodes` of a split, spread over its policies; None where none varies.

    Actions that are not valid do not count, nor do episodes of a task that the head does not know: how many is said.
    """
    normalizer = ActionNormalizer.from_statistics(shards.statistics)
    found: dict[str, list[np.ndarray]] = {RECORDED: [], RECONSTRUCTED: []}
    true: list[np.ndarray] = []
    strange = 0
    for row in spread(shards.episodes(split), episodes):
        arrays = shards.read_arrays(row, ("action", "action_valid", "reward"))
        valid_T = arrays["action_valid"][:-1]
        if not valid_T.any():
            continue
        if row.language not in head.config.instructions:  # texts of people: no reward was recorded for this one
            strange += 1
            continue
        frames = shards.read_frames(row, 0, row.num_steps)[None]
        again = reconstruct_long(tokenizer, frames, window, 1)
        action = normalize_actions(normalizer.normalize, arrays["action"][:-1], valid_T)
        true.append(arrays["reward"][:-1][valid_T].astype(np.float64))
        for name, shown in ((RECORDED, frames), (RECONSTRUCTED, again)):
            found[name].append(read_rewards(head, tokenizer, shown, action[None], [row.language])[0][valid_T])
    left_out: dict[str, float | None] = {LEFT_OUT: float(strange)} if strange else {}
    if not true:
        return left_out
    return left_out | {name: _rounded(np.concatenate(true), np.concatenate(values)) for name, values in found.items()}


def _rounded(true: np.ndarray, found: np.ndarray) -> float | None:
    value = explained(true, found)
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None
