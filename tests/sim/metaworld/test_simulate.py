"""Episodes of the real simulator. They skip, with the reason, where it is not installed or cannot draw."""

import os
import subprocess
import sys
from pathlib import Path

import metaworld_runs as runs
import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("drawn")


def test_an_episode_depends_on_its_name_and_not_on_what_was_simulated_before_it(apart):
    first, after, fresh, *others = apart(runs.digests_after_others)
    assert first == after == fresh and len({first, *others}) == 4


def test_another_process_simulates_and_draws_the_same_bytes(apart):
    code = f"import sys; sys.path[:0] = [{str(Path(runs.__file__).parent)!r}]\n"
    code += "import metaworld_runs\nprint(metaworld_runs.digest())"
    environment = os.environ | {"PYTHONHASHSEED": "77"}
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert other.stdout.split()[-1] == apart(runs.digest)


def test_what_is_recorded_is_what_was_carried_out(apart):
    """The recorded actions, from the recorded seed, lead to the recorded states, rewards and success."""
    made = apart(runs.episode, "noisy_low", frames=50)
    steps = made["steps"]
    observations, rewards, succeeded, last = apart(runs.replayed, made, runs.SIZES["action_repeat"])
    np.testing.assert_array_equal(observations, steps["observation"]["simulator"])
    np.testing.assert_array_equal(rewards, steps["reward"])
    assert succeeded == made["episode_metadata"]["success"]
    np.testing.assert_array_equal(last, steps["observation"]["image"][-1])
    state_T7 = steps["observation"]["state"]
    np.testing.assert_array_equal(state_T7[:, :3], observations[:, :3])
    assert not state_T7[:, 3:6].any() and 0.0 <= state_T7[:, 6].min() <= state_T7[:, 6].max() <= 1.0


def test_policies_act_in_the_box_and_the_expert_succeeds_where_random_does_not(apart):
    found = {}
    for split, policy in (("val", "expert"), ("train", "random"), ("train", "noisy_high"), ("test", "walk_noise")):
        made = apart(runs.episode, policy, split, frames=50)
        found[policy] = made["steps"]["reward"].sum(), made["episode_metadata"]["success"]
        assert np.abs(made["steps"]["action"]).max() <= 1.0 and made["steps"]["action"].dtype == np.float32
    assert found["expert"][1] and not found["random"][1]
    assert found["expert"][0] > 3 * found["random"][0]


def test_steps_follow_the_rlds_conventions(apart):
    steps = apart(runs.episode)["steps"]
    assert steps["is_first"].nonzero()[0].tolist() == [0] and steps["is_last"].nonzero()[0].tolist() == [5]
    assert not steps["is_terminal"].any() and not steps["action"][-1].any() and steps["reward"][-1] == 0


def test_a_picture_shows_the_scene_upright_and_is_the_mean_of_a_finer_one(apart):
    """The floor's wood lies below the grey wall."""
    small, large = apart(runs.picture, 16, 3), apart(runs.picture, 48, 1).astype(float)
    np.testing.assert_allclose(small, large.reshape(16, 3, 16, 3, 3).mean(axis=(1, 3)), atol=0.5)
    top, bottom = large[:6, :24], large[-6:, :24]
    assert np.ptp(top.mean((0, 1))) < 20 < np.ptp(bottom.mean((0, 1)))  # grey; brown
