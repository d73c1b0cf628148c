"""`whale.load`: an exported bundle works elsewhere with torch alone, and not one byte of it may differ."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import tiny_world
import torch

import whale
from whale.common.errors import BadDataError, ConfigError, MismatchError, MissingInputError, RefusedError
from whale.common.files import sha256_of_file
from whale.evaluation.uncertainty.estimation.uncertainty import Retracing, feature_distance
from whale.models.world.learned import LearnedWorld
from whale.models.world.rollout import rollout
from whale.seal import seal
from whale.worlds.contract import ActionWarning

ROOT = Path(__file__).parents[2]
# What a notebook on another machine need not have: nothing of these may be imported on the way.
ABSENT = ("dvc", "ray", "mlflow", "apache_beam", "tensorflow", "pyarrow", "cv2", "simplejpeg", "gymnasium", "typer",
          "websockets", "msgpack", "pandas", "scipy", "PIL", "fsspec", "cryptography", "torchmetrics")  # fmt: skip
BLOCK = "import sys\nfor name in {names}:\n    sys.modules[name] = None\n"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return tiny_world.write_bundle(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def world(bundle):
    return whale.load(bundle)


def test_the_notebooks_example_runs_in_a_fresh_process_on_a_bundle_with_torch_alone(bundle, tmp_path):
    text = (ROOT / "docs/notebook.md").read_text(encoding="ascii")
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    assert len([line for line in example.splitlines() if line.strip()]) <= 15
    assert example in (ROOT / "README.md").read_text(encoding="ascii")
    shutil.copytree(bundle, tmp_path / "world-bundle")
    script = BLOCK.format(names=ABSENT) + example
    command, environment = [sys.executable, "-c", script], {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "uint8" in done.stdout and "Hz" in done.stdout and "Apache-2.0" in done.stdout


@pytest.mark.parametrize("name", ["dynamics/model.safetensors", "world.json", "starts/fleet_delta.npz", "env.py",
                                  "reward/model.safetensors", "behavior/config.json", "calibration.json"])  # fmt: skip
def test_a_bundle_with_one_changed_byte_is_refused_and_the_file_named(bundle, tmp_path, name):
    copy = shutil.copytree(bundle, tmp_path / "copy")
    payload = bytearray((copy / name).read_bytes())
    payload[len(payload) // 2] ^= 1
    (copy / name).write_bytes(payload)
    with pytest.raises(MismatchError, match=re.escape(name)):
        whale.load(copy)


def test_a_file_too_many_or_too_few_is_refused_and_named(bundle, tmp_path):
    more, less = (shutil.copytree(bundle, tmp_path / name) for name in ("more", "less"))
    (more / "dynamics" / "extra.bin").write_bytes(b"x")
    (less / "tokenizer" / "config.json").unlink()
    with pytest.raises(MismatchError, match=r"extra\.bin"):
        whale.load(more)
    with pytest.raises(MissingInputError, match=r"tokenizer/config\.json"):
        whale.load(less)


def test_a_bundle_without_its_manifest_and_one_of_another_format_are_refused(bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "copy")
    (copy / "MANIFEST.json").unlink()
    with pytest.raises(MissingInputError, match="MANIFEST"):
        whale.load(copy)
    (copy / "world.json").write_text('{"format": 99}')
    with pytest.raises(BadDataError, match="99"):
        whale.load(copy, verify=False)
    with pytest.raises(MissingInputError, match="no world model"):
        whale.load(tmp_path)


def test_of_several_robots_one_must_be_named(tmp_path):
    several = tiny_world.write_bundle(tmp_path, robots=("a_robot", "b_robot"))
    with pytest.raises(ConfigError, match="a_robot, b_robot"):
        whale.load(several)
    assert whale.load(several, "b_robot").contract.dataset == "b_robot"


def test_published_models_load_as_the_bundle_made_of_them(bundle, world):
    published = whale.load(bundle.parent / "models")
    assert published.identity == world.identity and not published.starts
    assert published.trust_limit() == world.trust_limit()
    assert world.lineage["complete"] is True


def test_the_one_reward_head_of_the_artifacts_that_reads_this_tokenizer_is_taken_and_of_two_none(tmp_path):
    dynamics = tiny_world.write_models(tmp_path / "models")
    own = tiny_world.encoder()
    tiny_world.write_reward(tmp_path / "reward/others", "0" * 64)
    assert whale.load(dynamics).reward is None
    mine = tiny_world.write_reward(tmp_path / "reward/mine", own)
    assert whale.load(dynamics).reward.config.encoder == own
    second = tiny_world.write_reward(tmp_path / "reward/second", own)
    assert whale.load(dynamics).reward is None and whale.load(dynamics, reward=second).reward is not None
    seal(mine, sha256_of_file)
    (mine / "model.safetensors").write_bytes(b"changed")
    with pytest.raises(MismatchError, match=r"mine/model\.safetensors"):
        whale.load(dynamics, reward=mine)
    with pytest.raises(RefusedError, match="another tokenizer"):
        whale.load(dynamics, reward=tmp_path / "reward/others")


def test_rewards_of_frames_and_actions_that_do_not_fit_together_are_refused(world):
    frames, actions = np.zeros((1, 3, 16, 16, 3), np.uint8), np.zeros((1, 3, 7), np.float32)
    with pytest.raises(ConfigError, match=r"(?s)do not fit.*\(1, 3\) frames, \(1, 3\) actions"):
        world.rewards(frames, actions, tiny_world.INSTRUCTIONS[:1])
    assert world.rewards(frames, actions[:, :2], tiny_world.INSTRUCTIONS[:1]).shape == (1, 2)
    with pytest.raises(ConfigError, match="no reward was recorded for this task"):
        world.rewards(frames, actions[:, :2], ["sing"])


def test_it_imagines_what_the_rollout_of_every_metric_imagines(world):
    frames = np.stack([start.frames for start in world.starts])
    actions = np.stack([start.actions[:9] for start in world.starts])
    normalised = torch.from_numpy(actions)
    expected = rollout(world.model, torch.from_numpy(frames), normalised, 9)["frames"].numpy()
    assert np.array_equal(world.imagine(frames, actions).frames, expected)
    one = world.imagine(frames[2], actions[2], horizon=5)
    assert one.frames.shape == (5, 16, 16, 3) and np.abs(one.frames.astype(int) - expected[2, :5]).max() <= 1


def test_stepping_is_imagining_also_beyond_the_window_and_a_state_is_a_value(world):
    start = world.starts[0]
    state = first = world.start(start.frames)
    seen = []
    for action in start.actions[:10]:
        state, frame = world.step(state, action)
        seen.append(frame)
    assert np.array_equal(np.stack(seen), world.imagine(start.frames, start.actions, horizon=10).frames)
    assert np.array_equal(world.step(first, start.actions[0])[1], seen[0])


def test_a_history_longer_than_the_window_counts_as_its_last_frames(world):
    frames = tiny_world.starts(1, given=7)[0].frames
    actions = tiny_world.recorded_actions(10)
    long = world.imagine(frames, actions, horizon=4).frames
    assert np.array_equal(long, world.imagine(frames[3:], actions[3:], horizon=4).frames)
    assert world.start(frames, actions[:6]).inner.length == world.window


def test_a_model_with_memory_infers_z_from_the_frames_before_the_window_too(world):
    parts = tiny_models.tokenizer(), tiny_models.behavior(memory=8), tiny_models.dynamics(z_input="probabilities")
    model = LearnedWorld(*(part.eval() for part in parts), world.window, normalize=world.model.normalize)
    remembering = replace(world, model=model)
    frames, actions = tiny_world.starts(1, given=7)[0].frames, tiny_world.recorded_actions(10)
    placed = torch.from_numpy(frames)[None], torch.from_numpy(actions)[None]
    expected = rollout(model, *placed, 4, seen=world.window)["frames"][0].numpy()
    assert np.array_equal(remembering.imagine(frames, actions).frames, expected)
    state = remembering.start(frames, actions[:6])
    shorter = remembering.start(frames[3:], actions[3:6])
    assert state.inner.length == shorter.inner.length == world.window
    assert not torch.allclose(state.inner.z, shorter.inner.z)
    assert np.array_equal(remembering.step(state, actions[6])[1], expected[0])


def test_its_uncertainty_is_retracing_at_the_depths_that_were_calibrated(world):
    start = world.starts[0]
    state = world.start(start.frames)
    assert np.isnan(world.uncertainty(state, start.actions[0]))  # no other way to the first step
    for action in start.actions[:2]:
        state, _ = world.step(state, action)
    query = world._query(state, start.actions[2])
    expected = Retracing(feature_distance(world.model), [1, 2])(query)["retracing"]
    assert world.uncertainty(state, start.actions[2]) == float(expected[0]) > 0
    along = world.imagine(start.frames, start.actions, horizon=6, uncertainty="retracing")
    assert along.uncertainty[2] == float(expected[0])
    assert 0 < world.uncertainty(state, start.actions[2], "entropy") < np.log(64)


def test_another_calibration_brings_its_depths_along_and_none_leaves_the_usual_ones(world):
    other = replace(world)
    other.calibrate({**world.calibration, "depths": [1]})
    assert other.depths == (1,) != world.depths
    other.calibrate(None)
    assert other.depths == (1, 2, 3) and other.limit_if_known(0.8, "entropy") is None


def test_a_trust_limit_says_its_coverage_and_what_is_not_calibrated_is_not_invented(world, tmp_path):
    limit = world.trust_limit(0.8)
    assert limit.values == pytest.approx((0.008, 0.004)) and limit.at(1) > limit.at(2) == limit.at(9)
    assert (limit.expected_error, limit.risk, limit.coverage, limit.mean_error) == (0.8, 0.8, 0.8, 1.0)
    assert limit.source.endswith("tokens by argmax")
    with pytest.raises(ConfigError, match=r"0\.5, 0\.8, 1"):
        world.trust_limit(0.7)
    bare = whale.load(tiny_world.write_models(tmp_path))
    with pytest.raises(MissingInputError, match="never measured"):
        bare.trust_limit()


@pytest.mark.parametrize(
    ("frames", "actions"),
    [
        (np.zeros((1, 8, 8, 3), np.uint8), np.zeros((2, 7))),
        (np.zeros((1, 16, 16, 3), np.float32), np.zeros((2, 7))),
        (np.zeros((2, 1, 16, 16, 3), np.uint8), np.zeros((2, 7))),
        (np.zeros((4, 16, 16, 3), np.uint8), np.zeros((3, 7))),
    ],
)
def test_frames_and_actions_that_do_not_fit_are_named(world, frames, actions):
    with pytest.raises(ConfigError, match="frames"):
        world.imagine(frames, actions)


def test_z_may_be_chosen(world):
    start, size = world.starts[0], world.model.z_size
    chosen = np.zeros(size, np.float32)
    off = world.imagine(start.frames, start.actions, horizon=6, z="off").frames
    assert np.array_equal(world.imagine(start.frames, start.actions, horizon=6, z=chosen).frames, off)
    chosen[::16] = 1
    other = world.imagine(start.frames, start.actions, horizon=6, z=chosen, uncertainty="entropy")
    assert not np.array_equal(
        other.uncertainty, world.imagine(start.frames, start.actions, 6, uncertainty="entropy").uncertainty
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a.pop("window"), "window"),
        (lambda a: a.update(window=-1), "window"),
        (lambda a: a.update(contracts={}), "contracts"),
        (lambda a: a["statistics"].clear(), "action contract"),
        (lambda a: a["contracts"]["fleet_delta"].pop("dimensions"), "action contract"),
        (lambda a: a["contracts"]["fleet_delta"].update(control_hz=0), "does not fit"),
        (lambda a: a["statistics"]["fleet_delta"]["action"].update(q01=[0.0]), "action contract"),
        (lambda a: a["statistics"]["fleet_delta"]["action"].update(mean=[float("nan")] * 7), "does not fit"),
    ],
)
def test_a_bundle_that_is_whole_but_says_nonsense_is_refused_in_words(bundle, tmp_path, change, said):
    copy = shutil.copytree(bundle, tmp_path / "copy")
    about = json.loads((copy / "world.json").read_bytes())
    change(about)
    (copy / "world.json").write_text(json.dumps(about))
    (copy / "MANIFEST.json").unlink()
    seal(copy, sha256_of_file)
    with pytest.raises((BadDataError, ConfigError), match=said):
        whale.load(copy)


def test_a_policy_is_checked_at_recorded_frames_by_name(world):
    recorded = tiny_world.recorded_actions(32)
    flipped = np.c_[recorded[:, :6], 1 - recorded[:, 6]]
    assert world.check_policy(recorded, recorded) == []
    with pytest.warns(ActionWarning):
        assert world.check_policy(flipped, recorded) == ["gripper_flipped"]


def test_actions_that_come_one_at_a_time_are_looked_at_together(bundle):
    watchful = whale.load(bundle)
    start = watchful.starts[0]
    state = watchful.start(start.frames)
    small = tiny_world.recorded_actions(40) * ([1 / 55] * 6 + [1])
    with pytest.raises(RefusedError, match="times too small"):
        for action in small:
            state, _ = watchful.step(state, action)


def test_what_a_notebook_prints_of_a_world_is_a_line_and_not_its_arrays(world):
    start = replace(world.starts[0], instruction="open\n\x1b[2Jthe bin")
    imagined = world.imagine(start.frames, start.actions, horizon=2, uncertainty="entropy")
    state = world.start(start.frames)
    for shown in map(repr, (world, world.contract, start, imagined, state)):
        assert len(shown) < 400 and shown.isprintable(), shown
    assert f"{len(start.actions)} actions" in repr(start) and world.contract.dataset in repr(world)
