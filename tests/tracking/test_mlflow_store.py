"""Tracking: a spool that never disturbs, and a replay that never repeats."""

import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from whale.common.errors import BeyondLimitError
from whale.tracking import mlflow_rows, mlflow_search, mlflow_store
from whale.tracking.mlflow_models import point_at_current
from whale.tracking.mlflow_store import replay
from whale.tracking.spool import TrackingSpool

DATA, MODEL, REPORT = "artifacts/demo/data/pretrain/shards/alpha", "artifacts/demo/models/dynamics/full", "page.html"
MANY = 1200  # MLflow takes 1,000 at once, and not all of them twice
DIGEST = {DATA: "ab" * 32, MODEL: "cd" * 32}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One `dvc repro` that trains, measures and reports, one that failed, and a stage by hand whose process is gone;
    replayed twice into one store, then again as if nobody had noted how far the spools were read."""
    root = tmp_path_factory.mktemp("tracking")
    (root / REPORT).write_text("<p>good</p>")
    train(root, "train_dynamics-1", "FINISHED", dvc="7-70")
    measure(root)
    scaling(root)
    report(root)
    train(root, "train_dynamics-2", "FAILED", dvc="8-80")
    killed = start(root, "mix-1", "mix", None)
    killed.log_metrics({"loss": 1.0}, 0)
    pretend_dead(root / "spool" / "mix-1.jsonl")
    uri = f"sqlite:///{root / 'mlflow.db'}"
    results = [replay(root / "spool", uri, root / "mlruns", root) for _ in range(2)]
    for path in (root / "spool").glob("*.offset.json"):
        path.unlink()  # as if the process had ended before it wrote how far it was
    results.append(replay(root / "spool", uri, root / "mlruns", root))
    from mlflow import MlflowClient

    return MlflowClient(uri), results


def start(root, file, stage, item, **about):
    spool = TrackingSpool(root / "spool" / f"{file}.jsonl")
    spool.start(stage, item, "demo", {"whale.derivation": "0" * 64}, command=f"python -m whale.run {stage}", **about)
    return spool


def train(root, file, status, **about):
    spool = start(root, file, "train_dynamics", "full", **about)
    spool.log_params({"train_dynamics": {"optimization": {"max_lr": 3.0e-4}}, "segments": {"window": 4}})
    spool.log_input("shards", "12" * 32, {f"{DATA}/MANIFEST.json": DIGEST[DATA]})
    for step in range(5):
        spool.log_metrics({"loss": 1.0 / (step + 1)}, step)
    if status == "FINISHED":
        spool.log_artifact(MODEL, DIGEST[MODEL])
        spool.log_model(MODEL, DIGEST[MODEL], "ef" * 32)
    spool.end(status, {"whale.commit": "f00d"} if status == "FINISHED" else None)


def measure(root):
    spool = start(root, "evaluate_video-1", "evaluate_video", None, dvc="7-70")
    holders = {f"{path}/MANIFEST.json": digest for path, digest in DIGEST.items()}
    spool.log_input("models", "34" * 32, holders)
    spool.log_metrics({"pretrain.alpha.test.dynamics.full.nll": 1.5, "pretrain.alpha.test.tokenizer.psnr": 20.0})
    spool.log_metrics({f"pretrain.alpha.test.dynamics.full.n{number}": number for number in range(MANY)})
    spool.end("FINISHED", {"whale.commit": "f00d"})


def scaling(root):
    """As evaluate_scaling names them: of a model, with its interval, and of the line through all."""
    spool = start(root, "evaluate_scaling-1", "evaluate_scaling", None, dvc="7-70")
    spool.log_input("models", "34" * 32, {f"{path}/MANIFEST.json": digest for path, digest in DIGEST.items()})
    of = "pretrain.alpha.test"
    spool.log_metrics({f"{of}.models.full.nll": 1.4, f"{of}.models.full.nll.low": 1.3, "models.full.flops": 9.0})
    spool.log_metrics({f"{of}.b": -0.1, f"{of}.models.gone.nll": 2.0})
    spool.end("FINISHED", {"whale.commit": "f00d"})


def report(root):
    from whale.common.files import sha256_of_file

    spool = start(root, "report-1", "report", None, dvc="7-70")
    spool.log_metrics({"pretrain.alpha.test.dynamics.full.nll": 1.5})
    spool.log_artifact(root / REPORT, sha256_of_file(root / REPORT))
    spool.end("FINISHED", {"whale.commit": "f00d"})


def pretend_dead(path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    path.write_text(path.read_text().replace(f'"pid": {os.getpid()}', f'"pid": {gone.pid}') + '{"kind": "metr')


def experiment(store):
    return store[0].get_experiment_by_name("demo")


def runs(store, name):
    found = store[0].search_runs([experiment(store).experiment_id], order_by=["start_time"])
    return [run for run in found if run.info.run_name.startswith(name)]


def checkpoint(store):
    (found,) = store[0].search_logged_models([experiment(store).experiment_id])
    return found


def test_every_spool_becomes_one_run_however_often_it_is_replayed(store):
    first, second, third = store[1]
    assert (first.runs, second.runs, third.runs) == (6, 0, 6)
    names = Counter(run.info.run_name.split(" 2")[0] for run in runs(store, ""))
    assert names == {
        "train_dynamics@full": 2,
        "evaluate_video": 1,
        "evaluate_scaling": 1,
        "report": 1,
        "mix": 1,
        "dvc repro": 2,
    }


def test_runs_end_as_their_stage_ended_and_a_vanished_one_as_killed(store):
    assert {run.info.status for run in runs(store, "train")} == {"FINISHED", "FAILED"}
    assert [run.info.status for run in runs(store, "mix")] == ["KILLED"]


def test_curves_params_inputs_and_references_arrive_once_each(store):
    run = runs(store, "train")[0]
    history = store[0].get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(step, 1.0 / (step + 1)) for step in range(5)]
    assert run.data.params["train_dynamics.optimization.max_lr"] == "0.0003"
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.name == "data/pretrain/shards/alpha"
    assert DIGEST[DATA].startswith(dataset.dataset.digest)
    assert json.loads(dataset.dataset.source) == {"path": DATA, "sha256": DIGEST[DATA]}
    assert run.data.tags[f"whale.artifact.{MODEL}"] == DIGEST[MODEL]


def test_the_experiment_opens_in_the_view_of_model_training(store):
    assert experiment(store).tags["mlflow.experimentKind"] == "custom_model_development"


def test_a_run_says_where_it_comes_from(store):
    tags = runs(store, "train")[0].data.tags
    assert tags["mlflow.source.name"] == "pipelines/train_dynamics.py"
    assert tags["mlflow.source.git.commit"] == "f00d" and "python -m whale.run" in tags["mlflow.note.content"]


def test_stages_hang_below_one_parent_a_dvc_repro_which_ends_as_they_did(store):
    good, bad = runs(store, "dvc repro")
    below = Counter(run.data.tags.get("mlflow.parentRunId") for run in runs(store, ""))
    assert (below[good.info.run_id], below[bad.info.run_id]) == (4, 1)
    assert (good.info.status, bad.info.status) == ("FINISHED", "FAILED")


def test_a_parent_has_its_stages_params_by_their_names_in_params_yaml_and_the_reports_numbers_and_files(store):
    parent = runs(store, "dvc repro")[0]
    assert parent.data.params == {"train_dynamics.full.optimization.max_lr": "0.0003", "segments.window": "4"}
    assert parent.data.metrics == {"pretrain.alpha.test.dynamics.full.nll": 1.5}
    (folder,) = store[0].list_artifacts(parent.info.run_id)
    assert store[0].list_artifacts(parent.info.run_id, folder.path)[0].path.endswith(REPORT)


def test_a_checkpoint_is_one_logged_model_by_reference_with_its_last_loss_and_what_was_measured_of_it(store):
    model = checkpoint(store)
    assert (model.name, model.model_type, model.status) == ("dynamics-full", "dynamics", "READY")
    assert model.tags["whale.manifest_sha256"] == DIGEST[MODEL] and model.tags["whale.weights_sha256"] == "ef" * 32
    assert model.tags["mlflow.model.isExternal"] == "true"
    linked = {
        metric.key: metric.dataset_name
        for metric in model.metrics
        if not metric.key.partition(".full.n")[2].isdigit() and "models." not in metric.key  # of scaling: below
    }
    assert len(model.metrics) == 1 + 1 + MANY + 3 and linked == {
        "loss": None,
        "pretrain.alpha.test.dynamics.full.nll": "data/pretrain/shards/alpha",
    }
    measured = store[0].get_run(runs(store, "evaluate_video")[0].info.run_id)
    assert [each.model_id for each in measured.inputs.model_inputs] == [model.model_id]


def test_a_metric_of_scaling_is_linked_to_the_model_that_it_names_and_the_line_to_none(store):
    run = runs(store, "evaluate_scaling")[0]
    linked = {each.key: each.dataset_name for each in checkpoint(store).metrics if each.run_id == run.info.run_id}
    assert linked == {
        "pretrain.alpha.test.models.full.nll": "data/pretrain/shards/alpha",
        "pretrain.alpha.test.models.full.nll.low": "data/pretrain/shards/alpha",
        "models.full.flops": None,
    }
    assert len(run.data.metrics) == 5


def test_the_registry_has_one_version_of_it(store):
    (version,) = store[0].search_model_versions("name = 'demo-dynamics-full'")
    assert version.tags["whale.manifest_sha256"] == DIGEST[MODEL] and version.source.endswith(MODEL)
    assert json.loads(checkpoint(store).tags["mlflow.modelVersions"]) == [{"name": "demo-dynamics-full", "version": 1}]


def test_the_alias_current_is_at_the_version_whose_bytes_lie_in_artifacts(tmp_path, monkeypatch):
    from mlflow import MlflowClient

    from whale.common.files import sha256_of_file

    monkeypatch.chdir(tmp_path)
    folder, uri = tmp_path / MODEL, f"sqlite:///{tmp_path / 'mlflow.db'}"
    folder.mkdir(parents=True)
    for number in ("1", "2"):
        (folder / "MANIFEST.json").write_text(number)
        spool = start(tmp_path, f"train_dynamics-{number}", "train_dynamics", "full")
        spool.log_model(MODEL, sha256_of_file(folder / "MANIFEST.json"), "ef" * 32)
        spool.end("FINISHED")
        replay(tmp_path / "spool", uri, tmp_path / "mlruns", tmp_path)
        assert int(MlflowClient(uri).get_model_version_by_alias("demo-dynamics-full", "current").version) == int(number)
    (folder / "MANIFEST.json").write_text("3")  # of nobody
    start(tmp_path, "mix-1", "mix", None).end("FINISHED")
    replay(tmp_path / "spool", uri, tmp_path / "mlruns", tmp_path)
    assert not MlflowClient(uri).get_registered_model("demo-dynamics-full").aliases


def test_a_picture_that_is_another_one_by_now_is_not_copied(tmp_path):
    (tmp_path / REPORT).write_text("of a later run")
    spool = start(tmp_path, "report-1", "report", None)
    spool.log_artifact(tmp_path / REPORT, "12" * 32)
    spool.end("FINISHED")
    replay(tmp_path / "spool", f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "mlruns", tmp_path)
    assert not (tmp_path / "mlruns").exists()


def test_torn_lines_are_left_out_counted_and_told_every_time(tmp_path, monkeypatch, capsys):
    """A disk that was full leaves one in the middle, a killed process one at the end; a foreign one never begins."""
    spool = start(tmp_path, "mix-1", "mix", None)
    spool.log_metrics({"loss": 1.0}, 0)
    path = tmp_path / "spool/mix-1.jsonl"
    path.write_bytes(path.read_bytes() + b'{"kind": "metr\n{"kind": "metrics", "time": 1}\n[]\n')
    pretend_dead(path)
    path.write_bytes(path.read_bytes() + b'{"kind": "end", "ti')
    (tmp_path / "spool/other-1.jsonl").write_bytes(b"[" * 100_000 + b"\n")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for _ in range(2):
        assert replay(tmp_path / "spool", uri, tmp_path / "mlruns", tmp_path).torn == {
            "mix-1.jsonl": 4, "other-1.jsonl": 1}  # fmt: skip
    from whale.cli import run as whale

    monkeypatch.chdir(tmp_path)
    (tmp_path / "work").mkdir()
    (tmp_path / "spool").rename(tmp_path / "work/mlflow_spool")
    assert whale(["track", "sync"]) == 0
    assert "mix-1.jsonl: 4 torn lines are left out" in capsys.readouterr().out


def test_the_root_is_told_and_not_guessed_and_current_is_looked_up_once(tmp_path, monkeypatch):
    from mlflow import MlflowClient

    from whale.common.files import sha256_of_file

    root, folder = tmp_path / "project", tmp_path / "project" / MODEL
    folder.mkdir(parents=True)
    (folder / "MANIFEST.json").write_text("1")
    (root / "picture.svg").write_text("<svg/>")
    looked = []
    monkeypatch.setattr(MlflowClient, "search_registered_models", _listening(MlflowClient, looked))
    for number, profile in enumerate(("demo", "other")):
        spool = TrackingSpool(tmp_path / f"spool/train_dynamics-{number}.jsonl")
        spool.start("train_dynamics", "full", profile, {})
        spool.log_model(MODEL, sha256_of_file(folder / "MANIFEST.json"), "ef" * 32)
        spool.log_artifact("picture.svg", sha256_of_file(root / "picture.svg"))
        spool.end("FINISHED")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    replay(tmp_path / "spool", uri, tmp_path / "elsewhere/mlruns", root)
    assert len([each for each in looked if not any(isinstance(part, str) for part in each)]) == 1  # without a filter
    version = MlflowClient(uri).get_model_version_by_alias("demo-dynamics-full", "current")
    assert version.source == folder.as_uri()
    assert list((tmp_path / "elsewhere").rglob("picture.svg"))


def _listening(client, heard):
    """The call itself, and with what it was called."""
    own = client.search_registered_models

    def search(self, *arguments, **named):
        heard.append(arguments + tuple(named.values()))
        return own(self, *arguments, **named)

    return search


def test_a_search_goes_on_to_the_last_page(tmp_path, monkeypatch):
    """`current` of a model beyond the first page, of a version beyond it; a parent whose failed stage lies beyond."""
    from mlflow import MlflowClient

    from whale.common.files import sha256_of_file

    monkeypatch.setattr(mlflow_search, "FOUND_PAGE", 1)
    root, uri = tmp_path, f"sqlite:///{tmp_path / 'mlflow.db'}"
    models = [f"artifacts/demo/models/dynamics/{name}" for name in ("a", "b", "c")]
    for number, path in enumerate(models * 2):
        (root / path).mkdir(parents=True, exist_ok=True)
        (root / path / "MANIFEST.json").write_text(f"{number}")
        spool = start(root, f"train_dynamics-{number}", "train_dynamics", path[-1], dvc="9-90")
        spool.log_model(path, sha256_of_file(root / path / "MANIFEST.json"), "ef" * 32)
        spool.end("FAILED" if number == 0 else "FINISHED")
    for path in models:
        (root / path / "MANIFEST.json").write_text(f"{models.index(path)}")  # `dvc checkout`: the first version again
    replay(root / "spool", uri, root / "mlruns", root)
    client = MlflowClient(uri)
    names = [f"demo-dynamics-{path[-1]}" for path in models]
    assert [int(client.get_model_version_by_alias(name, "current").version) for name in names] == [1, 1, 1]
    (parent,) = client.search_runs([client.get_experiment_by_name("demo").experiment_id], "tags.`whale.kind` = 'repro'")
    assert parent.info.status == "FAILED"
    monkeypatch.setattr(mlflow_search, "FOUND_ROWS", 2)
    with pytest.raises(BeyondLimitError, match=r"(?s)file: +sqlite:.*place: +search_reg.*found:.*<= 2.*remedy"):
        point_at_current(client, root)


def test_no_more_is_read_of_a_checkpoint_than_a_run_needs(tmp_path, monkeypatch):
    """MLflow gives a model with every metric that was ever linked to it, and a run with all that hangs on it."""
    from mlflow import MlflowClient

    root, uri = tmp_path, f"sqlite:///{tmp_path / 'mlflow.db'}"
    train(root, "train_dynamics-1", "FINISHED")
    replay(root / "spool", uri, root / "mlruns", root)
    for name in ("get_logged_model", "search_logged_models"):
        monkeypatch.setattr(MlflowClient, name, _never)
    spool = start(root, "evaluate_video-1", "evaluate_video", None)
    spool.log_input("models", "34" * 32, {f"{MODEL}/MANIFEST.json": DIGEST[MODEL]})
    spool.log_metrics({"pretrain.alpha.test.dynamics.full.nll": 1.5})
    spool.end("FINISHED")
    for _ in range(2):  # the second as if nobody had noted how far the spools were read
        for path in (root / "spool").glob("*.offset.json"):
            path.unlink()
        replay(root / "spool", uri, root / "mlruns", root)
    monkeypatch.undo()
    client = MlflowClient(uri)
    (found,) = client.search_logged_models([client.get_experiment_by_name("demo").experiment_id])
    assert [each.value for each in found.metrics if each.key.endswith("nll")] == [1.5]
    start(root, "mix-1", "mix", None).end("FINISHED")
    monkeypatch.setattr(mlflow_rows, "FOUND_ROWS", 3)
    with pytest.raises(BeyondLimitError, match=r"(?s)too much of one run.*mlflow\.db.*run_uuid.*<= 3.*remedy"):
        replay(root / "spool", uri, root / "mlruns", root)


def _never(*_, **__):
    raise AssertionError("it was asked for")


def test_a_store_whose_pages_never_end_is_given_up(monkeypatch):
    class Page(list):
        token = "again"

    monkeypatch.setattr(mlflow_search, "FOUND_ROWS", 100)
    with pytest.raises(BeyondLimitError, match="more than 100 rows"):
        list(mlflow_search.every(lambda **_: Page()))


def test_a_spool_that_is_too_large_is_named_and_not_read(tmp_path, monkeypatch):
    start(tmp_path, "mix-1", "mix", None).end("FINISHED")
    monkeypatch.setattr(mlflow_store, "SPOOL_BYTES", 100)
    with pytest.raises(BeyondLimitError, match=r"(?s)mix-1\.jsonl.*found:.*bytes.*<= 100 bytes.*remedy"):
        replay(tmp_path / "spool", f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "mlruns", tmp_path)


def test_two_that_replay_at_once_make_no_run_twice(tmp_path):
    for number in range(3):
        start(tmp_path, f"mix-{number}", "mix", None).end("FINISHED")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    script = (
        f"from pathlib import Path; from whale.tracking.mlflow_store import replay\nroot = Path({str(tmp_path)!r})\n"
    )
    script += f"replay(root / 'spool', {uri!r}, root / 'mlruns', root)"
    both = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
    assert [each.wait(timeout=300) for each in both] == [0, 0]
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    assert len(client.search_runs([client.get_experiment_by_name("demo").experiment_id])) == 3


def test_a_spool_that_cannot_be_written_warns_once_and_counts(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    spool = TrackingSpool(tmp_path / "file" / "below" / "run.jsonl")
    for step in range(3):
        spool.log_metrics({"loss": 1.0}, step)
    spool.end("FINISHED")
    assert capsys.readouterr().err.count("tracking is lost") == 1
    assert spool.num_lost == 5
