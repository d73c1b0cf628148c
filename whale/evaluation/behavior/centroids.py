"""Where a policy's mean z lies on the line from the expert's to the random policy's: 0 expert, 1 random (P Fig. 15).

The paper says that the noisy expert looks like something between the two. Shapes: S segments, F features, R resamples.
"""

import numpy as np

from whale.evaluation.behavior.segments import Behaviors
from whale.evaluation.numbers.bootstrap import Interval

EXPERT, RANDOM = "expert", "random"


def coordinates(found: Behaviors, z_SF: np.ndarray, rng: np.random.Generator, resamples: int) -> dict[str, Interval]:
    """{policy: coordinate, with an interval over episodes} of all policies but the two ends.

    Of the mean over tasks, of those that every policy acted in. Empty where an end, or such a task, is missing.
    """
    policies = np.unique(found.policy).tolist()
    tasks = [task for task in np.unique(found.task) if set(found.policy[found.task == task]) == set(policies)]
    if not {EXPERT, RANDOM} <= set(policies) or not tasks:
        return {}
    centers = {
        policy: np.mean([_centers(found, z_SF, task, policy, rng, resamples) for task in tasks], axis=0)
        for policy in policies
    }
    line_RF = centers[RANDOM] - centers[EXPERT]
    length_R = (line_RF**2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        along = {name: ((each - centers[EXPERT]) * line_RF).sum(axis=1) / length_R for name, each in centers.items()}
    return {name: Interval.around(float(at[0]), at[1:]) for name, at in along.items() if name not in (EXPERT, RANDOM)}


def _centers(
    found: Behaviors, z_SF: np.ndarray, task: str, policy: str, rng: np.random.Generator, resamples: int
) -> np.ndarray:
    """[1 + R, F]: mean z of the episodes of a pair, of all and of each resample of them."""
    inside = np.flatnonzero((found.task == task) & (found.policy == policy))
    _, at = np.unique(found.episode[inside], return_inverse=True)
    counts = np.bincount(at)
    means_EF = np.stack([z_SF[inside][at == number].mean(axis=0) for number in range(len(counts))])
    draws_RE = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=resamples)
    return np.concatenate([np.ones((1, len(counts))), draws_RE]) @ means_EF / len(counts)
