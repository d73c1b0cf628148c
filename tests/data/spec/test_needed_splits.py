"""Who needs which split of a dataset, and that a spec without one is told so before anything is read."""

import shutil
from pathlib import Path

import pytest
import yaml
from ingest_fixture import config
from rlds_fixture import episodes, spec_values, tiny_spec, write_rlds

from pipelines import ingest
from whale.cli import run
from whale.common.config import load_yaml
from whale.common.errors import ConfigError
from whale.data.ingest.ingest import empty_splits, plan_tasks
from whale.data.mixture import missing_weight
from whale.data.spec.needed_splits import missing_splits, needed_splits, require_splits
from whale.data.spec.spec import load_spec
from whale.run import run_stage

PROFILES = sorted((Path(__file__).parents[3] / "profiles").glob("*.yaml"))
PARAMS = {
    "datasets": {"tiny": {"raw": "raw/tiny", "role": "pretrain"}, "other": {"raw": "raw/other", "role": "finetune"}},
    "evaluate_video": {"pretrain_splits": ["test"], "finetune_splits": ["held_out"]},
    "evaluate_uncertainty": {"pretrain_splits": ["val"], "finetune_splits": ["held_out"]},
}


def spec_with(**splits):
    return tiny_spec(source=spec_values()["source"] | {"splits": splits})


def test_training_and_each_evaluation_need_the_splits_of_the_datasets_role():
    assert needed_splits("tiny", PARAMS) == {
        "train": ["training"],
        "val": ["early stopping", "evaluate_uncertainty.pretrain_splits"],
        "test": ["evaluate_video.pretrain_splits"],
    }
    both = ["evaluate_video.finetune_splits", "evaluate_uncertainty.finetune_splits"]
    assert needed_splits("other", PARAMS) == {"train": ["fine-tuning"], "held_out": both}
    assert needed_splits("unnamed", PARAMS) == {} == needed_splits("tiny", {})


def test_values_ask_every_pretraining_dataset_and_a_reward_head_those_of_its_role():
    asked = {"evaluate_values": {"head": {"pretrain_splits": ["novel"]}}}
    asked |= {"train_reward": {"arm": {"role": "finetune", "test_split": "unseen"}}}
    found = {name: needed_splits(name, PARAMS | asked) for name in ("tiny", "other", "unnamed")}
    assert found["tiny"]["novel"] == ["evaluate_values.head.pretrain_splits"] and "novel" not in found["other"]
    assert found["other"]["unseen"] == ["train_reward.arm.test_split"] and "unseen" not in found["tiny"]
    assert found["unnamed"] == {}


def test_scaling_asks_the_datasets_of_each_role_for_its_own_splits():
    asked = {"evaluate_scaling": {"sizes": {"pretrain_splits": ["novel"], "finetune_splits": ["other_novel"]}}}
    found = {name: needed_splits(name, PARAMS | asked) for name in ("tiny", "other", "unnamed")}
    assert found["tiny"]["novel"] == ["evaluate_scaling.sizes.pretrain_splits"] and "novel" not in found["other"]
    assert found["other"]["other_novel"] == ["evaluate_scaling.sizes.finetune_splits"] and found["unnamed"] == {}


def test_probes_of_z_ask_the_dataset_of_their_name_alone():
    found = {name: needed_splits(name, PARAMS | {"evaluate_behavior": {"tiny": {"splits": ["novel"]}}})
             for name in ("tiny", "other", "unnamed")}  # fmt: skip
    assert found["tiny"]["novel"] == ["evaluate_behavior.tiny.splits"]
    assert "novel" not in found["other"] and found["unnamed"] == {}


@pytest.mark.parametrize("asked", ["test", None, {"test": 1}])
def test_what_is_no_list_of_splits_is_left_to_the_stage_that_reads_it(asked):
    assert "evaluate_video.pretrain_splits" not in str(
        needed_splits("tiny", PARAMS | {"evaluate_video": {"pretrain_splits": asked}})
    )


def test_the_refusal_names_dataset_file_place_found_expected_and_remedy():
    with pytest.raises(ConfigError) as caught:
        require_splits(spec_with(train="train", val="val"), PARAMS)
    assert str(caught.value).splitlines() == [
        "dataset tiny lacks a split that params.yaml asks for",
        "  file:     data_specs/tiny.yaml",
        "  place:    source.splits",
        "  found:    train, val",
        "  expected: test (for evaluate_video.pretrain_splits)",
        '  remedy:   cut from train: {train: "train[:90%]", val: "val", test: "train[90%:]"}; '
        "or let params.yaml name splits that are there",
    ]


@pytest.mark.parametrize(
    ("splits", "says"),
    [
        ({"train": "train[20%:60%]"}, '{train: "train[20%:52%]", val: "train[52%:56%]", test: "train[56%:60%]"}'),
        ({"val": "val"}, '{val: "val[80%:90%]", train: "val[:80%]", test: "val[90%:]"}'),
        (
            {"train": "train[:90%]", "val": "train[90%:]"},
            '{train: "train[:81%]", val: "train[90%:]", test: "train[81%:90%]"}',
        ),
    ],
)
def test_the_remedy_is_what_to_write_and_a_spec_takes_it(splits, says):
    with pytest.raises(ConfigError) as caught:
        require_splits(spec_with(**splits), PARAMS)
    assert says in caught.value.remedy
    require_splits(spec_with(**yaml.safe_load(says)), PARAMS)


def test_the_remedy_for_hashes_keeps_what_is_named_and_of_a_small_split_nothing_is_cut():
    npz = spec_values()["source"] | {"format": "npz", "splits": {"train": "hash(95%)", "val": "hash(5%)"}}
    found = missing_splits(tiny_spec(source=npz), PARAMS)
    assert found is not None and '{train: "hash(86%)", val: "hash(5%)", test: "hash(9%)"}' in found.remedy
    found = missing_splits(spec_with(train="train[:1%]"), PARAMS)
    assert found is not None and found.remedy.startswith("cut val, test from a larger split")
    found = missing_splits(spec_with(train="train", val="val"), PARAMS, ["val"])
    assert found is not None and found.remedy.startswith("give a larger share to val; cut from train: {")


@pytest.mark.parametrize(("share", "empty"), [(95, ["test"]), (50, [])])
def test_a_split_that_no_record_falls_into_counts_as_missing(tmp_path, share, empty):
    raw = write_rlds(tmp_path, {"train": [episodes([4] * 2), episodes([4])], "val": [episodes([4], seed=1)]})
    spec = spec_with(train=f"train[:{share}%]", val="val", test=f"train[{share}%:]")
    found = empty_splits(plan_tasks(raw, spec, config(), tmp_path / "work"))
    assert found == empty and (missing_splits(spec, PARAMS, found) is not None) == bool(empty)


def test_ingest_refuses_before_it_reads_an_episode(tmp_path, project_root, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(project_root / "data_specs", "data_specs")
    text = (project_root / "params.yaml").read_text()
    Path("params.yaml").write_text(
        text.replace("fleet_delta: {raw: artifacts/demo/raw/fleet/fleet_delta", "tiny: {raw: raw")
    )
    write_rlds(tmp_path / "raw", {"train": [episodes([4] * 2)], "val": [episodes([4], seed=1)]})
    Path("data_specs/tiny.yaml").write_text(yaml.safe_dump(spec_values()))
    monkeypatch.setattr(ingest, "run_tasks", lambda *_: pytest.fail("it reads"))
    with pytest.raises(ConfigError, match=r"test \(for evaluate_video\.pretrain_splits"):
        run_stage(["ingest", "--item", "tiny", "--raw", "raw", "--out", "out"])
    assert not Path("out").exists()


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_profile_finds_its_splits_in_the_committed_specs(path, project_root):
    params, specs = load_yaml(path), project_root / "data_specs"
    known = [name for name in params["datasets"] if (specs / f"{name}.yaml").is_file()]
    assert known and not [str(error) for name in known if (error := missing_splits(load_spec(name, specs), params))]


def test_checking_a_spec_of_the_active_profile_compares_its_splits_and_ends_with_1(
    tmp_path, project_root, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text((project_root / "params.yaml").read_text().replace("[test]", "[held_out]"))
    spec = str(project_root / "data_specs/fleet_delta.yaml")
    assert run(["spec", "check", spec]) == 1 and "held_out (for evaluate_video" in capsys.readouterr().out
    Path("params.yaml").unlink()
    assert run(["spec", "check", spec]) == 0


def test_a_dataset_without_a_weight_is_told_before_it_is_ingested(tmp_path, project_root, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (project_root / "params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("    fleet_delta: {weight: 1.0, source: ours}\n", ""))
    assert run(["spec", "check", str(project_root / "data_specs/fleet_delta.yaml")]) == 1
    assert "fleet_delta: {weight: 1.0, source: ours}" in capsys.readouterr().out
    assert run(["spec", "check", str(project_root / "data_specs/fleet_unseen.yaml")]) == 0  # fine-tuned on
    for unusual in ({"datasets": {"fleet_delta": 3}}, {"datasets": None, "mix": []}):  # their own stages refuse these
        assert missing_weight("fleet_delta", unusual) is None
