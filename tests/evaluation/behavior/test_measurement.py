"""The stage on a tiny dataset whose z says the policy and nothing else: what is found, refusals, the same bytes."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from tiny_behavior import ABOUT, EPISODES, config, opened, write_dataset

from pipelines import evaluate_behavior
from whale.common.errors import BadDataError, ConfigError, RefusedError
from whale.common.json_files import read_json
from whale.common.run import Run
from whale.evaluation.behavior.centroids import coordinates
from whale.evaluation.behavior.measurement import ABOVE, ONE_CLASS, control, measured
from whale.evaluation.behavior.probe import Answers
from whale.evaluation.behavior.segments import PRIOR, Behaviors, read_behaviors
from whale.evaluation.numbers.metrics import flattened
from whale.models.trunk.folder import save_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = write_dataset(tmp_path_factory.mktemp("behavior"), ABOUT)
    (root / "behavior").mkdir()
    save_model(root / "behavior", tiny_models.behavior())
    return root


@pytest.fixture(scope="module")
def source(folder):
    return opened(folder)


def run_stage(folder: Path, out: Path) -> dict:
    args = evaluate_behavior.Args(
        item="cups", shards=folder / "shards", z=folder / "z", behavior=folder / "behavior", evaluate_behavior=config()
    )
    evaluate_behavior.run(args, Run(out / "out", args, metrics=out / "metrics.json", stage="evaluate_behavior"))
    return flattened(read_json(out / "metrics.json"))


@pytest.fixture(scope="module")
def stage(folder, tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("stage")
    return out, run_stage(folder, out)


def test_a_z_that_says_the_policy_is_read_without_an_error_and_more_than_simple_features(stage):
    _, metrics = stage
    at = "pretrain.cups.train.z"
    for question in ("policy", "policy_within_task"):
        assert metrics[f"{at}.{question}.prior"] == metrics[f"{at}.{question}.prior.low"] == 1.0
        assert metrics[f"{at}.{question}.chance"] == pytest.approx(1 / 3, abs=1e-4)
        shuffled = [metrics[f"{at}.{question}.shuffled{end}"] for end in (".low", "", ".high")]
        assert shuffled[0] < shuffled[1] < shuffled[2] and shuffled[1] < 0.6
        assert 0 < metrics[f"{at}.{question}.shuffled.spread"] < shuffled[2] - shuffled[0]
        assert metrics[f"{at}.{question}.prior_minus_simple.low"] > 0
        assert metrics[f"{at}.{question}.status"] == ABOVE
    assert metrics[f"{at}.task.prior"] <= metrics[f"{at}.task.chance"] == 0.5  # z says nothing of it
    assert metrics[f"{at}.policy_within_task.of.pull.prior"] == 1.0
    assert metrics[f"{at}.task_within_policy.of.random.chance"] == 0.5
    assert "metric=behavior|data=cups/train" in metrics[f"{at}.protocol"]


def test_the_control_is_the_mean_of_its_drawings_with_their_spread():
    """An accuracy each, over what was asked; NaN was not."""
    drawings = [Answers(np.array([np.nan, *right]), 0) for right in ([1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0])]
    found = control(drawings)
    assert found == {"shuffled": 0.5, "shuffled.low": 0.25, "shuffled.high": 0.75, "shuffled.spread": 0.25}


def test_the_same_run_gives_the_same_bytes(stage, folder, tmp_path):
    out, _ = stage
    run_stage(folder, tmp_path)
    for name in ("metrics.json", "out/train.npz"):
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes()


def test_the_figure_is_stored_with_who_acted_in_each_segment(stage, source):
    with np.load(stage[0] / "out/train.npz", allow_pickle=False) as arrays:
        assert arrays["tsne"].shape == (48, 2) and np.isfinite(arrays["tsne"]).all()
        assert arrays["prior"].shape == arrays["posterior"].shape == (48, 256)
        by_key = {row.key: row.metadata for row in source.shards.episodes("train")}
        for key, task, policy in zip(arrays["keys"], arrays["task"], arrays["policy"], strict=True):
            assert by_key[key.partition("+")[0]] == {"task": task, "policy": policy}


def test_every_pair_gives_as_many_episodes_and_segments_share_no_step(source):
    found = read_behaviors(source, "train", 24, 2, seed=0)
    pairs = list(zip(found.task, found.policy, strict=True))
    assert len(found) == 24 and {pairs.count(pair) for pair in pairs} == {4}
    starts = [int(key.rpartition("+")[2]) for key in found.keys]
    assert set(starts) <= {0, 4, 8} and all(0 <= start <= 8 for start in starts)
    assert read_behaviors(source, "train", 24, 2, seed=1).keys != found.keys
    assert read_behaviors(source, "train", 24, 2, seed=0).keys == found.keys


def test_features_are_probabilities_at_the_last_step_actions_of_the_segment_and_its_first_frame(source):
    found = read_behaviors(source, "train", 48, 2, seed=0)
    key, _, start = found.keys[5].rpartition("+")
    row = next(row for row in source.shards.episodes("train") if row.key == key)
    stored = source.z.read(next(each for each in source.z.episodes("train") if each.key == key))
    place = int(np.flatnonzero(stored["starts"] == int(start))[0])
    expected = np.exp(stored["z"][place, -1].astype(np.float64)).ravel()
    np.testing.assert_allclose(found.features["prior"][5], expected, rtol=1e-6)
    action = source.shards.read_arrays(row)["action"][int(start) : int(start) + 4]
    assert found.features["actions"][5].shape == (21,)  # mean, standard deviation, last
    assert found.features["actions"][5][20] == pytest.approx(action[-1, 6])  # the gripper is as recorded
    green = source.shards.read_frames(row, int(start), int(start) + 1)[0, 0, 0, 1] / 255
    assert found.features["pixels"][5].reshape(8, 8, 3)[4, 4, 1] == pytest.approx(green, abs=0.02)
    assert found.features["posterior"][5].reshape(16, 16).sum(axis=1) == pytest.approx(np.ones(16), abs=1e-5)


def test_the_noisy_expert_lies_where_it_was_put_between_expert_and_random():
    rng = np.random.default_rng(0)
    episode = np.repeat(np.arange(60), 2)
    policy = np.array(["expert", "noisy", "random"])[episode % 3]
    ends = rng.normal(size=(2, 16))
    share = np.array([0.0, 0.25, 1.0])[episode % 3][:, None]
    z = ends[0] + share * (ends[1] - ends[0])
    task = np.array(["push", "pull"])[episode // 3 % 2]
    found = Behaviors({PRIOR: z}, task, policy, episode, [str(place) for place in range(120)], 0)
    assert coordinates(found, z, rng, 100)["noisy"].value == pytest.approx(0.25)
    assert coordinates(found, z + rng.normal(size=z.shape), rng, 100)["noisy"].low > -0.5
    without = Behaviors({PRIOR: z}, task, np.where(policy == "random", "other", policy), episode, found.keys, 0)
    assert coordinates(without, z, rng, 100) == {}


def test_a_dataset_of_one_task_is_asked_for_its_policies_alone(tmp_path):
    about = [row | {"task": "patrol"} for row in ABOUT]
    source = opened(write_dataset(tmp_path, about))
    found = read_behaviors(source, "train", 48, 2, 0)
    metrics = measured(found, "train", source, config())
    assert metrics["task.status"] == metrics["task_within_policy.status"] == ONE_CLASS
    assert metrics["policy.prior"] == 1.0 and "task.prior" not in metrics


@pytest.mark.parametrize("label", ["task", "policy"])
def test_an_episode_that_does_not_name_who_acted_is_refused_by_its_key(label, tmp_path):
    about = [dict(row) for row in ABOUT]
    del about[3][label]
    with pytest.raises(BadDataError, match=f"(?s)does not say its {label}.*cups-train-0000003.*evaluate_behavior"):
        read_behaviors(opened(write_dataset(tmp_path, about)), "train", 48, 2, 0)


def test_one_task_of_one_policy_is_nothing_to_tell_apart(tmp_path):
    about = [{"task": "push", "policy": "expert"}] * EPISODES
    source = opened(write_dataset(tmp_path, about))
    found = read_behaviors(source, "train", 48, 2, 0)
    with pytest.raises(BadDataError, match=r"(?s)nothing to tell apart.*two tasks or two policies"):
        measured(found, "train", source, config())


def test_z_of_other_shards_or_with_another_number_of_segments_is_refused(folder, tmp_path):
    other = write_dataset(tmp_path / "other", [*ABOUT, ABOUT[0]])
    shutil.copytree(folder / "shards", tmp_path / "shards")
    shutil.copytree(other / "z", tmp_path / "z")
    with pytest.raises(RefusedError, match="other frame shards"):
        opened(tmp_path)
    source = opened(folder)
    row = source.z.episodes("train")[0]
    arrays = source.z.read(row)
    source.z._cache[row.key] = arrays | {"z": arrays["z"][:-1]}
    with pytest.raises(BadDataError, match="another number of segments"):
        read_behaviors(source, "train", 1000, 2, 0)


def test_a_split_that_is_not_there_or_has_no_whole_segment_is_refused(source, tmp_path):
    with pytest.raises(BadDataError, match="no such split"):
        read_behaviors(source, "test", 48, 2, 0)
    short = write_dataset(tmp_path, ABOUT, length=4)
    with pytest.raises(BadDataError, match="no whole segment"):
        read_behaviors(opened(short), "train", 48, 2, 0)


@pytest.mark.parametrize(
    ("changes", "match"),
    [({"folds": 1}, "folds"), ({"splits": []}, "splits"), ({"segments": 0}, "segments"), ({"resamples": 9}, "resam"),
     ({"inverse_penalty": 0.0}, "inverse_penalty"), ({"points": 3}, "points")],
)  # fmt: skip
def test_a_section_that_asks_for_nothing_sensible_is_refused(changes, match):
    with pytest.raises(ConfigError, match=match):
        config(**changes)
