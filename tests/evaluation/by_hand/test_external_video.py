import os

import numpy as np
import pytest
from limited import run_limited
from video_config import video_config

from whale.common.errors import BadDataError, BeyondLimitError, ConfigError, MissingInputError
from whale.common.limits import ANSWER_FILE_BYTES
from whale.evaluation.by_hand.external_video import _read, read_frames, rollout_sets, score_frames, write_tasks
from whale.evaluation.numbers.protocol import require_comparable
from whale.evaluation.uncertainty.estimation.decoding import Decoding
from whale.evaluation.video.perceptual import load_feature_networks
from whale.evaluation.video.video import rollout_metrics, rollout_scores
from whale.evaluation.video.video_report import rollout_protocol

CONFIG = video_config(
    max_episodes=3, max_train_episodes=3, windows_per_episode=1, context=2, filmstrips=1, action_episodes=0,
    decoding=Decoding(mode="sample", temperature=1.0, samples=1),
)  # fmt: skip
NETWORKS = load_feature_networks(None, None, None)
GROUP = "pretrain.blocks.train"


@pytest.fixture(scope="module")
def artifacts(role_dir, tmp_path_factory):
    root = tmp_path_factory.mktemp("artifacts")
    (root / "data").mkdir()
    for role in ("pretrain", "finetune"):
        os.symlink(role_dir, root / "data" / role)
    return root


@pytest.fixture(scope="module")
def windows(artifacts):
    return rollout_sets(artifacts, CONFIG)[0][3]


@pytest.fixture
def answers(tmp_path, windows, stack, dataset):
    """Our own rollouts, answered as another system would."""
    frames = rollout_scores(stack, dataset, windows, CONFIG).frames["full"]
    for key, video in zip(windows.keys, frames, strict=True):
        (tmp_path / GROUP / key).mkdir(parents=True)
        np.save(tmp_path / GROUP / key / "frames.npy", video)
    return tmp_path


def same(found, value):
    """Equal, also where nothing moves and there is no number."""
    return found == value or (found != found and value != value)


def test_our_own_frames_score_as_evaluate_video_scores_them(artifacts, answers, windows, stack, dataset):
    found = score_frames(artifacts, answers, NETWORKS, CONFIG)
    expected = rollout_metrics("full", rollout_scores(stack, dataset, windows, CONFIG), windows, CONFIG)
    for name, value in expected.items():
        if "tokenizer" not in name:
            assert same(found[f"{GROUP}.{name}"], value), name
    ours = rollout_protocol(dataset, "train", windows, CONFIG, stack.digests["full"])
    require_comparable(ours, found[f"{GROUP}.protocol"])
    assert found[f"{GROUP}.fvd"] is None and "unavailable" in found[f"{GROUP}.fvd.status"]


def test_another_horizon_is_another_protocol(artifacts, answers, windows, dataset):
    found = score_frames(artifacts, answers, NETWORKS, CONFIG)
    other = rollout_protocol(dataset, "train", windows, CONFIG.model_copy(update={"horizons": [2, 4]}), "x")
    with pytest.raises(ConfigError, match="unlike protocols"):
        require_comparable(other, found[f"{GROUP}.protocol"])


def test_tasks_hold_the_given_frames_and_the_raw_actions(tmp_path, windows, dataset):
    assert write_tasks(tmp_path, GROUP, windows) == 3
    folder, (key, start) = tmp_path / GROUP / windows.keys[1], windows.keys[1].rsplit("+", 1)
    row = next(row for row in dataset.shards.episodes("train") if row.key == key)
    first = int(start)
    np.testing.assert_array_equal(np.load(folder / "context.npy"), dataset.shards.read_frames(row, first, first + 2))
    np.testing.assert_array_equal(
        np.load(folder / "actions.npy"), dataset.shards.read_arrays(row)["action"][first : first + 5]
    )


def test_missing_unknown_and_misshapen_answers_are_named(artifacts, answers, windows):
    path = answers / GROUP / windows.keys[0] / "frames.npy"
    good = np.load(path)
    np.save(path, good[:2])
    with pytest.raises(BadDataError, match="wrong kind"):
        read_frames(answers, GROUP, windows)
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(BadDataError, match="not a plain"):
        read_frames(answers, GROUP, windows)
    with open(path, "wb") as stream:
        np.savez(stream, good)
    with pytest.raises(BadDataError, match="not a plain"):
        read_frames(answers, GROUP, windows)
    path.unlink()
    with pytest.raises(MissingInputError, match="no answer"):
        read_frames(answers, GROUP, windows)
    np.save(path, good)
    (answers / GROUP / "somebody-else+0").mkdir()
    with pytest.raises(BadDataError, match="do not exist"):
        read_frames(answers, GROUP, windows)
    with pytest.raises(MissingInputError, match="no answers"):
        score_frames(artifacts, answers / "empty", NETWORKS, CONFIG)


def test_a_header_that_promises_a_terabyte_reserves_nothing(tmp_path):
    imports = (
        "import io, numpy as np; from pathlib import Path; from whale.evaluation.by_hand.external_video import _read"
    )
    path = tmp_path / "frames.npy"
    with open(path, "wb") as stream:
        np.lib.format.write_array_header_1_0(
            stream, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 1000, 1000)}
        )
        stream.write(b"x" * 1000)
    said = run_limited(imports, f"_read(Path({str(path)!r}), (4, 16, 16, 3))", memory=64 << 20)
    assert said.startswith("BadDataError: not a plain") and str(path) in said and "expected:" in said


def test_an_answer_that_is_too_large_is_not_opened(tmp_path):
    path = tmp_path / "frames.npy"
    with open(path, "wb") as stream:
        stream.truncate(ANSWER_FILE_BYTES + 1)
    with pytest.raises(BeyondLimitError, match=r"(?s)too large.*frames\.npy.*found:.*<= 1073741824 bytes"):
        _read(path, (4, 16, 16, 3))
