"""States of stages, missing data by name, and the verb itself on copies of the real files."""

import json
import re
import shutil
from pathlib import Path

import pytest

from whale.cli import run
from whale.commands.project.plan import missing, summary
from whale.pipeline_file import Node
from whale.planning.estimate import START_SECONDS
from whale.planning.plan import make_plan, stage_states

NODES = [
    Node("ingest", "a", (), ("shards/a",)),
    Node("ingest", "b", (), ("shards/b",)),
    Node("train", None, ("shards",), ("model",)),
    Node("report", None, ("model",), ("page",)),
]
NOT_MADE = ["not made yet"]


@pytest.fixture
def project(tmp_path, monkeypatch, project_root):
    """A folder with the real files and without DVC."""
    monkeypatch.chdir(tmp_path)
    for name in ("profiles", "data_specs"):
        shutil.copytree(project_root / name, name)
    shutil.rmtree("data_specs/sources", ignore_errors=True)
    shutil.copy(project_root / "dvc.yaml", "dvc.yaml")
    shutil.copy("profiles/demo.yaml", "params.yaml")
    return tmp_path


def activate(name):
    shutil.copy(f"profiles/{name}.yaml", "params.yaml")


def states(stale, problems):
    return {name: state for name, (state, _) in stage_states(NODES, stale, problems).items()}


def test_what_reads_from_a_blocked_stage_waits_for_it_and_the_rest_runs():
    found = stage_states(
        NODES, dict.fromkeys(["ingest@a", "ingest@b", "train", "report"], NOT_MADE), {"ingest@b": ["no spec"]}
    )
    assert [state for state, _ in found.values()] == ["runs", "blocked", "waiting", "waiting"]
    assert found["report"] == ("waiting", ("for ingest@b",))
    assert found["ingest@b"] == ("blocked", ("no spec",))


def test_shards_that_are_up_to_date_need_no_raw_data():
    assert set(states({}, {"ingest@a": ["raw data are missing"]}).values()) == {"up to date"}


def test_a_stage_below_one_that_runs_may_run():
    found = stage_states(NODES, {"ingest@a": ["code: x.py"]}, {})
    assert found["ingest@b"] == ("up to date", ())
    assert found["train"] == ("may run", ("if ingest@a gives another result",))
    assert found["report"][0] == "may run"


def test_without_dvc_every_stage_runs_and_says_so():
    assert set(stage_states(NODES, None, {}).values()) == {("runs", ("DVC was not asked",))}


def test_the_demo_is_never_blocked_and_its_frames_are_those_of_the_simulator(project):
    made = make_plan(project, None)
    assert made.count("blocked", "waiting") == 0
    assert all(dataset.frames for dataset in made.datasets)
    assert made.hardware.device.name == "cpu core"
    assert 0 < made.hours() < 1


def test_where_everything_is_up_to_date_there_is_nothing_to_do(project):
    assert summary(make_plan(project, {}))[1] == "there is nothing to do"
    assert summary(make_plan(project, None))[1].startswith("what is not up to date takes about ")


def test_every_dataset_of_whale_x_without_spec_or_data_is_named_with_how_to_get_it(project):
    activate("whale-x")
    made = make_plan(project, None, "1x H200")
    missing = {dataset.name: dataset.problems for dataset in made.datasets}
    assert len(missing) == 28 and all(missing.values())
    assert missing["kuka"] == (
        *(
            ["data_specs/kuka.yaml is missing: no spec yet, see docs/how-to/add-a-dataset.md"]
            if not Path("data_specs/kuka.yaml").is_file()
            else []
        ),
        "raw data are missing: `whale data link kuka PATH`, from gs://gresearch/robotics/kuka/0.1.0/ (778 GiB)",
    )
    assert "bridge_dataset/1.0.0" in missing["bridge_orig"][0] and "fmb/0.0.1" in missing["fmb_dataset"][-1]


def test_the_rehearsal_lacks_nothing_and_is_not_taken_for_as_large_as_the_real_data(project):
    activate("whale-x-rehearsal")
    made = make_plan(project, None)
    assert made.count("blocked", "waiting") == 0 and len(made.stages) == 107
    rehearsed = [dataset for dataset in made.datasets if dataset.role == "pretrain"]
    assert {dataset.frames_from for dataset in rehearsed} == {"collect_rehearsal: episodes x mean length"}
    assert all(500 < dataset.frames < 1000 for dataset in rehearsed)


def test_a_dataset_that_the_rehearsal_does_not_make_is_named(project):
    text = Path("profiles/whale-x-rehearsal.yaml").read_text()
    Path("params.yaml").write_text(text.replace("      - kuka\n", "", 1))
    problems = {dataset.name: dataset.problems for dataset in make_plan(project, None).datasets}
    assert problems["kuka"] == ("collect_rehearsal does not make it: add kuka to `datasets`",)


def test_a_linked_dataset_is_no_longer_missing_and_a_lost_link_is(project):
    activate("bridge-sample")
    elsewhere = project / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "dataset_info.json").write_text("{}")
    assert run(["data", "link", "bridge_sample", str(elsewhere)]) == 0
    assert make_plan(project, None).count("blocked") == 0  # one link serves both datasets
    Path("raw/bridge_sample").unlink()
    assert make_plan(project, None).count("blocked") == 2


def test_a_spec_that_is_wrong_blocks_its_dataset_with_the_place(project):
    path = Path("data_specs/fleet_planar.yaml")
    path.write_text(path.read_text().replace("min_steps:", "min_step:"))
    activate("fleet")
    (problem,) = [status.problems for status in make_plan(project, None).datasets if status.name == "fleet_planar"]
    assert "min_step" in problem[0]


def without_test_split(name):
    path = Path(f"data_specs/{name}.yaml")
    path.write_text(re.sub(r", test: \w+", "", path.read_text()))


@pytest.mark.parametrize(("stale", "blocked"), [(None, "ingest@fleet_unseen"), ({"evaluate_video": ["params"]}, None)])
def test_a_split_that_evaluation_asks_for_and_a_spec_lacks_is_named_before_anything_runs(project, stale, blocked):
    without_test_split("fleet_unseen")
    made = make_plan(project, stale)
    stages = {stage.name: stage for stage in made.stages}
    assert stages[blocked or "evaluate_video"].state == "blocked" and made.count("blocked") == (3 if blocked else 1)
    (line,) = missing(made)
    assert line.startswith("fleet_unseen: data_specs/fleet_unseen.yaml lacks under source.splits: test (for evaluate_")


def test_shards_that_have_the_splits_of_other_parameters_block_nothing(project):
    without_test_split("fleet_unseen")
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("finetune_splits: [test]", "finetune_splits: [test_task]"))
    assert make_plan(project, None).count("blocked") == 0


def test_the_verb_prints_estimates_as_such_and_one_json_object(project, capsys):
    activate("whale-st-64")
    assert run(["plan", "--hardware", "1x RTX 4090"]) == 0
    text = capsys.readouterr().out
    assert "estimate, not run" in text and "29% of it used" in text
    assert "collect_metaworld@metaworld" in text and "blocked" not in text
    assert run(["plan", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["status"] == "estimate, not run"
    assert {"stage", "state", "why", "flops", "hours", "disk_bytes"} <= set(shown["stages"][0])


def test_unknown_hardware_is_refused_before_anybody_asks_dvc(project, monkeypatch):
    Path(".dvc").mkdir()  # no project of DVC: to ask would fail otherwise
    assert run(["plan", "--hardware", "8x RTX 4091"]) == 64
    assert run(["plan"]) not in (0, 64)


def test_unknown_hardware_and_a_folder_without_pipeline_have_their_codes(project, capsys):
    assert run(["plan", "--hardware", "H20"]) == 64
    assert "h200" in capsys.readouterr().err
    Path("dvc.yaml").unlink()
    assert run(["plan"]) == 2


def test_all_wrong_sections_of_params_are_reported_at_once(project, capsys):
    text = Path("params.yaml").read_text()
    wrong = re.sub(r"max_bad: \d+", "max_bad: no", re.sub(r"window: \d+, phases", "windw: 8, phases", text))
    Path("params.yaml").write_text(wrong)
    assert run(["plan"]) == 64
    message = capsys.readouterr().err
    assert "segments.windw" in message and "ingest.max_bad" in message


def test_using_a_profile_says_what_runs_what_it_costs_and_which_data_are_missing(project, capsys):
    assert run(["profile", "use", "bridge-sample"]) == 0
    text = capsys.readouterr().out
    assert "stages:" in text and "estimate, not run" in text and "  bridge_sample: " in text
    assert "`dvc repro` (also with --dry) ends at ingest@bridge_sample with" in text
    assert "No such file or directory: .../data_specs/sources/bridge_sample.json" in text
    assert "whale data link NAME PATH" in text and text.rstrip().endswith("`whale profile use demo`")
    assert run(["profile", "diff", "bridge-sample"]) == 0


@pytest.mark.parametrize("name", ["metaworld-small", "whale-st-64", "whale-st-256"])
def test_the_profiles_of_meta_world_lack_nothing_and_every_stage_that_computes_has_its_price(name, project):
    activate(name)
    made = make_plan(project, None)
    assert made.count("blocked", "waiting") == 0
    priced = {stage.stage for stage in made.stages if stage.hours}
    assert {stage.stage for stage in made.stages} - priced == {"ingest", "mix", "report"}
    (dataset,) = made.datasets
    sizes = {"metaworld-small": 5 * (6 * 12 + 6 * 2 + 3 * 24) * 65}
    assert dataset.frames == sizes.get(name, 20 * (6 * 500 + 6 * 8 + 3 * 500) * 100)
    assert dataset.frames_from == "collect_metaworld: episodes x frames"


def test_simulating_takes_cpu_cores_and_no_gpu(project):
    activate("whale-st-64")
    hours = {
        kind: next(stage.hours for stage in make_plan(project, None, kind).stages if stage.stage == "collect_metaworld")
        for kind in ("2x cpu", "16x cpu", "8x H200")
    }
    two, many, gpu = (hours[kind] - START_SECONDS / 3600 for kind in ("2x cpu", "16x cpu", "8x H200"))
    assert two == pytest.approx(8 * many) == gpu


def test_many_small_stages_take_at_least_the_time_that_they_need_to_start(project):
    activate("whale-x-rehearsal")
    made = make_plan(project, None)
    assert made.hours() * 3600 > START_SECONDS * len(made.stages) > 300


def test_an_unknown_profile_gets_the_nearest_name(project, capsys):
    assert run(["profile", "use", "whale_x"]) == 64
    assert "did you mean 'whale-x'?" in capsys.readouterr().err


def test_a_robot_that_collect_does_not_draw_is_a_problem_of_its_dataset(project):
    activate("fleet")
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("  fleet:\n", "  fleet:\n    robots: [fleet_delta, fleet_unseen]\n"))
    made = make_plan(project, None)
    blocked = {dataset.name: dataset.problems for dataset in made.datasets if dataset.problems}
    assert set(blocked) == {"fleet_relabel", "fleet_absolute", "fleet_planar"}
    assert "add fleet_planar to `robots`, now fleet_delta, fleet_unseen" in blocked["fleet_planar"][0]
