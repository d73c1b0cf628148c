"""What each robot's episodes were when they were last looked at: a new robot must change none of the others.

`PYTHONPATH=. python tests/sim/test_fleet_golden.py` prints the numbers anew, for a change that is meant.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from whale.sim.fleet.collect import FleetConfig, generate_episodes, split_names
from whale.sim.fleet.robots import DRAWN_BY_DEFAULT, ROBOTS

GOLDEN = Path(__file__).parents[1] / "golden/fleet.json"
CONFIG = FleetConfig(
    train_episodes=2, val_episodes=1, test_episodes=2, min_steps=6, max_steps=9, train_shards=1,
    unseen_episodes_per_task=1, unseen_test_episodes_per_task=1, unseen_novel_episodes=1, unseen_min_steps=6,
    unseen_max_steps=8,
)  # fmt: skip


def fingerprint(name: str, split: str) -> list[dict]:
    """Of each episode: who acts, how long, where everything ends, and the mean of every recorded number."""
    found = []
    for episode in generate_episodes(ROBOTS[name], split, CONFIG, seed=3):
        steps = episode["steps"]
        numbers = {key: value for key, value in steps["observation"].items() if isinstance(value, np.ndarray)}
        numbers |= steps["action"] if isinstance(steps["action"], dict) else {"action": steps["action"]}
        found.append(
            {
                "policy": episode["episode_metadata"]["policy"],
                "steps": len(steps["reward"]),
                "last_state": steps["observation"]["true_state"][-1].astype(float).round(7).tolist(),
                "means": {key: round(float(value.mean(dtype=np.float64)), 7) for key, value in numbers.items()},
            }
        )
    return found


@pytest.mark.parametrize("name", DRAWN_BY_DEFAULT)
def test_the_episodes_of_the_fleet_are_what_they_were(name):
    golden = json.loads(GOLDEN.read_text())[name]
    assert list(golden) == list(split_names(ROBOTS[name]))
    for split, episodes in golden.items():
        for made, expected in zip(fingerprint(name, split), episodes, strict=True):
            assert (made["policy"], made["steps"]) == (expected["policy"], expected["steps"])
            np.testing.assert_allclose(made["last_state"], expected["last_state"], atol=2e-6)
            assert made["means"].keys() == expected["means"].keys()
            for key, mean in expected["means"].items():
                assert made["means"][key] == pytest.approx(mean, abs=1e-4), key


if __name__ == "__main__":
    print(json.dumps({n: {s: fingerprint(n, s) for s in split_names(ROBOTS[n])} for n in DRAWN_BY_DEFAULT}, indent=1))
