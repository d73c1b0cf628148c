"""Recordings of one task of the fleet at 16 x 16, and the stage's values at the smallest sizes that mean anything.

`python tiny_optimization.py ROOT OUT WORK` runs the stage in a process of its own, for whoever wants to kill it.
"""

import sys
from pathlib import Path

import numpy as np
import tiny_world
from tiny_shards import write_encoded_shards

from whale.data.storage import images
from whale.trials.episodes.fleet import scripted
from whale.trials.episodes.true_values import Form, fleet_beginnings, simulate_policy
from whale.worlds.contract import ActionContract

ROBOT, TASK, FORM = "fleet_delta", "open_bin", Form(16, 95)
POLICIES = ("expert", "noisy_low", "random", "other_task")


def contract() -> ActionContract:
    return ActionContract.of(ROBOT, tiny_world.contract(), tiny_world.statistics(), "test")


def write_recordings(root: Path, episodes: int = 3, steps: int = 12) -> Path:
    """`episodes` of each policy, and one of another task before them all."""
    starts = [each for each in fleet_beginnings(ROBOT, 40, 7, FORM) if each.scene.task.name == TASK][:episodes]
    other = [each for each in fleet_beginnings(ROBOT, 40, 7, FORM) if each.scene.task.name != TASK][:1]
    frames, actions, rewards, about = [], [], [], []
    for policy, beginnings in [("expert", other), *((name, starts) for name in POLICIES)]:
        truth = simulate_policy(scripted(policy), beginnings, steps, contract(), FORM)
        for row, each in enumerate(beginnings):
            shown = [each.image, *truth.frames[row]]
            frames.append([images.encode(frame, 95) for frame in shown])
            actions.append(np.concatenate([truth.actions[row], np.zeros((1, 7), np.float32)]))
            rewards.append(np.append(truth.rewards[row], 0.0).astype(np.float32))
            about.append({"task": each.scene.task.name, "policy": policy, "success": bool(truth.success[row])})
    return write_encoded_shards(root / ROBOT, ROBOT, frames, actions, 16, 4, about, rewards)


def values(**changes) -> dict:
    """An entry of optimize_policy."""
    entry = {"dataset": ROBOT, "task": TASK, "model": "full", "ensemble": ["member"], "reward": "head"}
    entry |= {"arena": {"kind": "fleet", "actions": 4}, "episodes": 3, "start_seed": 5, "seeds": [0, 1]}
    entry |= {"policy": {"frames": 2, "components": 8, "hidden": 8}}
    entry |= {"cloning": {"best_share": 0.25, "batch_size": 8, "lr": 1.0e-3, "weight_decay": 0.0, "jitter": 0.1}}
    entry |= {"cloning_schedule": {"rounds": 2, "steps": 3, "evaluate_every": 2}}
    entry |= {"imagination": {
        "penalties": ["none", "entropy", "ensemble", "retracing"], "horizon": 2, "context": 3, "branches": 4,
        "recorded_share": 0.5, "mean_penalty": 0.2, "exploration": 0.1, "retracing_steps": [1, 2],
    }}  # fmt: skip
    entry |= {"learner": {
        "batch_size": 8, "lr": 1.0e-3, "hidden": 8, "discount": 0.9, "target_rate": 0.01, "smoothing": 0.2,
        "smoothing_limit": 0.5, "actor_every": 2, "critic_first": 2, "strength": 1.0,
    }}  # fmt: skip
    entry |= {"learner_schedule": {"rounds": 2, "steps": 4, "evaluate_every": 1}, "resamples": 100, "batch_size": 16}
    return entry | changes


def run_stage(root: Path, out: Path, work: Path, **changes) -> dict[str, bytes]:
    """Every file that it writes; the metrics file lies in `out`, too."""
    from pipelines import optimize_policy
    from whale.common.run import Run
    from whale.control.optimize import OptimizePolicyConfig

    config = OptimizePolicyConfig.parse(values(**changes), file="test")
    args = optimize_policy.Args(
        item="open_bin", models=root / "models", reward=root / "reward", shards=root / "shards", optimize_policy=config
    )
    out.mkdir(parents=True)
    optimize_policy.run(args, Run(out, args, metrics=out / "metrics.json", work=work, stage="optimize_policy"))
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


if __name__ == "__main__":
    run_stage(*map(Path, sys.argv[1:4]))
