"""Histories longer than a segment: which steps of its episode a step's z is inferred from, in a stored table.

A prior that remembers H steps walks through an episode as through a rollout that begins with it: where its history is
full it starts anew with the later half. So z_h comes from h steps at the beginning and from H / 2 to H later on, and
every frame goes through the prior twice.

Shapes: F frames of an episode, P histories, H memory, S segments, T window, K x M categories x classes of z.
"""

import numpy as np


def history_starts(num_frames: int, memory: int) -> np.ndarray:
    """int32 first frames [P] of the histories that an episode of `num_frames` frames is walked through with."""
    kept = memory // 2
    forgotten = memory - kept  # by each start after the first
    num_starts = 1 + max(0, -(-(num_frames - memory) // forgotten))
    return (np.arange(num_starts) * forgotten).astype(np.int32)


def along_the_episode(z_PHKM: np.ndarray, num_frames: int, memory: int) -> np.ndarray:
    """z [F, K, M] of every step, each from the history that is open when it is taken."""
    starts = history_starts(num_frames, memory)
    parts = [z_PHKM[0]] + [z_HKM[memory // 2 :] for z_HKM in z_PHKM[1:]]
    assert len(parts) == len(starts)
    return np.concatenate(parts)[:num_frames]


def cut_z(z_FKM: np.ndarray, starts: np.ndarray, window: int) -> np.ndarray:
    """z [S, T, K, M] of the segments that begin at `starts`; padding repeats the episode's last."""
    steps_ST = np.minimum(starts[:, None] + np.arange(window), len(z_FKM) - 1)
    return z_FKM[steps_ST]
