"""Tracking: a spool that never disturbs, and a replay that never repeats."""

import os
import subprocess

import pytest

from whale.tracking.mlflow_store import replay
from whale.tracking.spool import TrackingSpool


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two finished runs, one failed, one whose process is gone; replayed twice into one store."""
    root = tmp_path_factory.mktemp("tracking")
    for name, status in (("mix-1", "FINISHED"), ("mix-2", "FINISHED"), ("train-1", "FAILED")):
        spool = start(root, name)
        spool.log_params({"optimization": {"max_lr": 3.0e-4}})
        spool.log_input("shards", "ab" * 32, "input")
        for step in range(5):
            spool.log_metrics({"loss": 1.0 / (step + 1)}, step)
        spool.log_artifact(root / "model.safetensors", "cd" * 32)
        spool.end(status)
    killed = start(root, "train-2")
    killed.log_metrics({"loss": 1.0}, 0)
    pretend_dead(root / "spool" / "train-2.jsonl")
    uri = f"sqlite:///{root / 'mlflow.db'}"
    results = [replay(root / "spool", uri, root / "mlruns") for _ in range(2)]
    for path in (root / "spool").glob("*.offset.json"):
        path.unlink()  # as if the process had ended before it wrote how far it was
    results.append(replay(root / "spool", uri, root / "mlruns"))
    from mlflow import MlflowClient

    return MlflowClient(uri), results


def start(root, name):
    spool = TrackingSpool(root / "spool" / f"{name}.jsonl")
    spool.start(name.split("-")[0], None, "demo", {"whale.derivation": "0" * 64})
    return spool


def pretend_dead(path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    path.write_text(path.read_text().replace(f'"pid": {os.getpid()}', f'"pid": {gone.pid}') + '{"kind": "metr')


def runs(store, stage):
    client = store[0]
    return client.search_runs([client.get_experiment_by_name(stage).experiment_id], order_by=["start_time"])


def test_every_spool_becomes_one_run_however_often_it_is_replayed(store):
    first, second, third = store[1]
    assert (first.runs, second.runs, third.runs) == (4, 0, 4)
    assert (len(runs(store, "mix")), len(runs(store, "train"))) == (2, 2)


def test_runs_end_as_their_stage_ended_and_a_vanished_one_as_killed(store):
    assert [run.info.status for run in runs(store, "mix")] == ["FINISHED", "FINISHED"]
    assert {run.info.status for run in runs(store, "train")} == {"FAILED", "KILLED"}


def test_curves_params_inputs_and_references_arrive_once_each(store):
    run = runs(store, "mix")[0]
    history = store[0].get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(step, 1.0 / (step + 1)) for step in range(5)]
    assert run.data.params["optimization.max_lr"] == "0.0003"
    (dataset,) = run.inputs.dataset_inputs
    assert ("ab" * 32).startswith(dataset.dataset.digest) and "ab" * 32 in dataset.dataset.source
    assert [text for name, text in run.data.tags.items() if "model.safetensors" in name] == ["cd" * 32]


def test_a_spool_that_cannot_be_written_warns_once_and_counts(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    spool = TrackingSpool(tmp_path / "file" / "below" / "run.jsonl")
    for step in range(3):
        spool.log_metrics({"loss": 1.0}, step)
    spool.end("FINISHED")
    assert capsys.readouterr().err.count("tracking is lost") == 1
    assert spool.num_lost == 5
