"""dvc.yaml, pipelines/, params.yaml and the import graph say the same."""

import ast
import dataclasses
import importlib
import inspect
import re
from pathlib import Path

import pytest
import yaml

from whale.common.config import load_yaml
from whale.common.stage_args import StageArgs
from whale.lineage.closure import import_closure
from whale.pipeline_file import OUTLINE, PIPELINE, is_code, outline, stage_bodies
from whale.planning.dag_file import compare, rewrite
from whale.planning.profile import FINETUNING
from whale.reporting import shown_by_dvc
from whale.reporting.policies.optimization_section import PLOT_COLUMNS

ROOT = Path(__file__).parents[1]
COLLECTING = ("collect", "collect_metaworld", "collect_rehearsal")
SHARED_SECTIONS = {"profile", "seed", "datasets", "segments"}
# An edit of these can change no byte, so they are code of no stage (reporting: of the report alone).
OUTSIDE = ("guard", "lineage", "tracking", "audit", "planning", "commands", "cli.py", "run.py", "data/workbench")
TEMPLATED = re.compile(r"\$\{([^}]*)\}")


def pipeline_files() -> dict[str, Path]:
    return {path.stem: path for path in (ROOT / "pipelines").glob("*.py") if path.stem != "__init__"}


def test_stages_are_exactly_the_files_in_pipelines():
    assert set(stage_bodies(ROOT / PIPELINE)) == set(pipeline_files())


def test_the_outline_that_the_report_draws_is_that_of_dvc_yaml():
    assert (ROOT / OUTLINE).read_text() == outline(ROOT / PIPELINE), "`make dag` writes it"


def test_sections_of_params_are_exactly_those_that_stages_read():
    sections = set(load_yaml(ROOT / "params.yaml")) - SHARED_SECTIONS
    assert sections == {name for name in pipeline_files() if name in sections_read(name)}
    assert sections >= set(pipeline_files()) - {"report"}  # the report shows values; it has none of its own


def test_code_deps_are_the_import_closure():
    assert not [str(difference) for difference in compare(ROOT)]


def test_what_can_change_no_byte_is_code_of_no_stage():
    for name in pipeline_files():
        closure = {path.as_posix() for path in import_closure(ROOT, Path(f"pipelines/{name}.py"))}
        outside = OUTSIDE if name == "report" else (*OUTSIDE, "reporting", "pipeline_file.py")
        assert not {path for path in closure if path.startswith(tuple(f"whale/{each}" for each in outside))}, name


def test_dvc_yaml_reads_like_prose():
    """Short, few code deps, and a sentence for every stage."""
    lines = (ROOT / "dvc.yaml").read_text().splitlines()
    assert len(lines) <= 400 and max(map(len, lines)) <= 120
    for name, body in stage_bodies(ROOT / PIPELINE).items():
        assert len([dep for dep in body["deps"] if is_code(dep)]) <= 17, name
        assert re.fullmatch(r"  # .+[.:?]", lines[lines.index(f"  {name}:") - 1]), name


def test_a_stage_names_itself_nowhere():
    """Its file is its name: a copy under another one is another stage."""
    for name, path in pipeline_files().items():
        module = importlib.import_module(f"pipelines.{name}")
        words = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
        streams = 1 if "stream=" in path.read_text() else 0  # noise is keyed by a name of its own
        assert words.count(name) <= streams, name
        assert issubclass(module.Args, StageArgs) and list(inspect.signature(module.run).parameters) == ["args", "run"]


def test_rewriting_the_code_deps_changes_nothing_when_they_are_right():
    text = (ROOT / "dvc.yaml").read_text()
    assert rewrite(text, ROOT) == text


def test_every_stage_says_input_arrow_output():
    wrong = [
        name
        for name, body in stage_bodies(ROOT / PIPELINE).items()
        if not re.fullmatch(r".+ -> .+", body.get("desc", ""))
    ]
    assert not wrong


def test_every_stage_starts_its_own_module_with_its_declared_paths():
    """`meta` names its inputs; no value stands in `cmd`, which DVC gives to a shell."""
    for name, body in stage_bodies(ROOT / PIPELINE).items():
        assert body["cmd"] == f"python -m whale.run {name}"
        inputs = body.get("meta", {})
        deps = {dep for dep in body["deps"] if not is_code(dep)}
        assert set(inputs.values()) == deps, f"{name}: inputs that are no deps, or the other way round"
        expected = importlib.import_module(f"pipelines.{name}").Args.inputs()
        assert [each.replace("-", "_") for each in inputs] == expected, name
        assert [Path(each).suffix for each in body["outs"]] in ([""], ["", ".json"]) and "metrics" not in body, name


def test_a_path_is_templated_with_names_and_paths_only():
    """Names, as whale/pipeline_file.py refuses any other."""
    allowed = {"profile", "key", "item.role", "item.raw", "item.initial", "item.reward"}
    for name, body in stage_bodies(ROOT / PIPELINE).items():
        assert set(TEMPLATED.findall(str([body["deps"], body["outs"], body.get("meta")]))) <= allowed, name


@pytest.mark.parametrize("path", sorted((ROOT / "profiles").glob("*.yaml")), ids=lambda path: path.stem)
def test_no_name_of_a_profile_can_be_more_than_a_name(path):
    params = load_yaml(path)
    names = [params["profile"], *params["datasets"], *params["mix"]["weights"]]
    names += [
        key
        for section in (*COLLECTING, "train_dynamics", *FINETUNING, "train_reward", "evaluate_policies")
        for key in params[section]
    ]
    names += [row["role"] for row in params["datasets"].values()]
    assert not [name for name in names if not re.fullmatch(r"[a-z0-9_-]+", name)]
    raws = [row["raw"] for row in params["datasets"].values()]
    assert not [raw for raw in raws if not re.fullmatch(r"[a-zA-Z0-9_./-]+", raw)]


def test_the_committed_params_are_the_demo_profile():
    assert (ROOT / "params.yaml").read_bytes() == (ROOT / "profiles" / "demo.yaml").read_bytes()


def test_yaml_and_dvc_read_every_number_alike():
    """PyYAML reads 3e-4 as text while DVC reads a number: write 3.0e-4."""
    text = (ROOT / "params.yaml").read_text()
    assert not re.findall(r"(?<![\w.])\d+[eE]-?\d+", re.sub(r"#.*|\"[^\"]*\"", "", text))


def test_every_section_a_stage_reads_is_a_param_of_it():
    """Config.load("segments") without `- segments` under params would serve a stale result."""
    for name in pipeline_files():
        params = stage_bodies(ROOT / PIPELINE)[name].get("params", [])
        declared = {param.partition(".")[0] for param in params if isinstance(param, str)}
        assert sections_read(name) == declared, name


def sections_read(name: str) -> set[str]:
    """Fields of the stage's `Args` that are no paths; a spec is a file of its own."""
    kind = importlib.import_module(f"pipelines.{name}").Args
    return {each.name for each in dataclasses.fields(kind)} - {*kind.inputs(), "item", "spec"}


def test_every_output_and_metrics_file_is_cached_and_none_persists():
    """A clone gets its numbers by `dvc pull`, without evaluating again: git ignores artifacts/, so DVC keeps them."""
    for name, body in stage_bodies(ROOT / PIPELINE).items():
        assert all(isinstance(path, str) for path in body["outs"]), f"{name}: outs take no options (cache, persist)"
        assert not body.keys() & {"metrics", "plots"}, f"{name}: thousands of numbers; the report picks what DVC shows"


def test_what_dvc_shows_lies_in_the_report_under_the_names_that_the_report_writes():
    document = load_yaml(ROOT / PIPELINE)
    page, shown = "artifacts/${profile}/report", {}
    for each in document["plots"]:
        shown |= each
    assert document["metrics"] == [f"{page}/{shown_by_dvc.METRICS}"]
    assert set(shown) == {f"{page}/{name}" for name in (shown_by_dvc.CURVES, shown_by_dvc.RISK, shown_by_dvc.SUCCESS)}
    curves, risk = (shown[f"{page}/{name}"] for name in (shown_by_dvc.CURVES, shown_by_dvc.RISK))
    assert (curves["x"], curves["y"]) == shown_by_dvc.CURVE_COLUMNS[:2]
    success = shown[f"{page}/{shown_by_dvc.SUCCESS}"]
    assert [success["x"], *success["y"]] == list(PLOT_COLUMNS)
    assert (risk["x"], risk["y"]) == ("coverage", list(shown_by_dvc.SCORES))


def test_artifacts_are_what_stages_make_or_folders_of_it():
    made = [out for body in stage_bodies(ROOT / PIPELINE).values() for out in body["outs"]]
    for name, artifact in load_yaml(ROOT / PIPELINE)["artifacts"].items():
        pattern = re.escape(artifact["path"]).replace("full", r"(?:full|\$\{key\})").replace("pretrain", ".+")
        assert any(re.match(rf"{pattern}(/|$)", out) for out in made), name


def test_dvc_yaml_is_plain_yaml_with_stages_in_running_order():
    order = list(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
    assert order[0] == "collect" and order[-1] == "report"
