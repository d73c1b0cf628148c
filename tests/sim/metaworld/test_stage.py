"""The stage: the same bytes from any number of processes, from two runs, and after a kill."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from metaworld_runs import episode, make_config

from pipelines import collect_metaworld
from whale.common.run import Run
from whale.data.ingest.sources.opening import open_source
from whale.data.spec.episode import RawEpisode
from whale.sim.metaworld.chunk_files import read_chunk, write_chunk
from whale.sim.metaworld.simulator.policies import UNSEEN_POLICIES

pytestmark = pytest.mark.usefixtures("drawn")


def collected(root: Path) -> tuple[dict[str, str], Run]:
    """{file: sha256} of the stage's folder, and its run."""
    args = collect_metaworld.Args(item="tiny", collect_metaworld=make_config(), seed=0)
    run = Run(root / "out", args, work=root / "work", stage="collect_metaworld")
    collect_metaworld.run(args, run)
    files = sorted(path for path in (root / "out").rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}, run


@pytest.fixture(scope="module")
def once(tmp_path_factory, drawn):
    root = tmp_path_factory.mktemp("once")
    return root, collected(root)[0]


def test_the_folder_names_what_draws_and_nothing_is_kept_for_a_kill(once, drawn):
    root, files = once
    assert len([name for name in files if "tfrecord" in name]) == 5
    assert json.loads((root / "out/drawn_by.json").read_text()) == drawn
    assert not list((root / "work").rglob("*.npz"))


def test_a_second_run_that_was_killed_on_its_way_gives_the_same_bytes(once, tmp_path, monkeypatch, drawn):
    """Half of the chunks are there, one of them half written under another name, as a kill leaves it."""
    _, files = once
    args = collect_metaworld.Args(item="tiny", collect_metaworld=make_config(), seed=0)
    kept: list[Path] = []

    class Killed(BaseException):
        pass

    def killed(*_, **__):
        kept.extend((tmp_path / "work").rglob("*.npz"))
        raise Killed

    monkeypatch.setattr(collect_metaworld, "write_json", killed)
    with pytest.raises(Killed):
        collect_metaworld.run(args, Run(tmp_path / "lost", args, work=tmp_path / "work", stage="collect_metaworld"))
    monkeypatch.undo()
    assert len(kept) == 15
    for path in kept[::2]:
        path.unlink()
    (kept[0].parent / f".{kept[0].name}.tmp").write_bytes(b"half")
    shutil.rmtree(tmp_path / "lost")
    again, run = collected(tmp_path)
    assert again == files and run.notes["resumed_from"] == 7


def test_the_dataset_opens_as_any_other_with_task_policy_seed_success_reward_and_state(once):
    root, _ = once
    source = open_source("rlds", root / "out/tiny/1.0.0", "tiny", "1.0.0")
    assert {name: sum(unit.records for unit in units) for name, units in source.splits.items()} == {
        "train": 6, "val": 6, "test": 3,
    }  # fmt: skip
    found = [each for each in source.read_shard("test", 0) if isinstance(each, RawEpisode)]
    names = [name.removeprefix("episode_metadata/") for name in found[0].metadata]
    about = [dict(zip(names, each.metadata.values(), strict=True)) for each in found]
    assert [each["policy"].decode() for each in about] == list(UNSEEN_POLICIES)
    assert about[0]["task"] == b"plate-slide"
    assert about[-1]["acted_by"] == b"faucet-open" and len({int(each["seed"]) for each in about}) == 3
    assert {"success", "episode_id"} <= set(about[0])
    assert found[0].steps["observation/state"].shape == (6, 7) and found[0].steps["reward"].shape == (6,)


def test_a_chunk_survives_its_file(tmp_path, apart):
    made = apart(episode, "expert", "val")
    write_chunk(tmp_path / "a.npz", [made], bytes)
    (found,) = read_chunk(tmp_path / "a.npz")
    assert found["episode_metadata"] == made["episode_metadata"]
    assert found["steps"]["language_instruction"] == made["steps"]["language_instruction"]
    pictures = [np.frombuffer(each, np.uint8).reshape(16, 16, 3) for each in found["steps"]["observation"]["image"]]
    np.testing.assert_array_equal(pictures, made["steps"]["observation"]["image"])
    for name in ("action", "reward", "is_last"):
        np.testing.assert_array_equal(found["steps"][name], made["steps"][name])
        assert found["steps"][name].dtype == made["steps"][name].dtype
