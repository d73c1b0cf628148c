"""`make gpu` and its bundle, as far as a machine without a GPU can try them: in the unpacked bundle."""

import importlib.util
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_shards import write_encoded_shards

ROOT = Path(__file__).resolve().parents[2]


def gpu(where: Path, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-E", "scripts/gpu.py", *words]
    return subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """One dataset of three episodes of 64 x 64 noise that moves."""
    folder, rng = tmp_path_factory.mktemp("shards"), np.random.default_rng(0)
    picture = rng.integers(0, 256, (8, 8, 3), np.uint8)
    shifted = [np.roll(cv2.resize(picture, (64, 64)), step, axis=1) for step in range(24)]
    jpegs = [cv2.imencode(".jpg", frame)[1].tobytes() for frame in shifted]
    actions = [rng.uniform(-1, 1, (24, 7)).astype(np.float32) for _ in range(3)]
    write_encoded_shards(folder / "toy", "toy", [jpegs] * 3, actions, 64)
    return folder


@pytest.fixture(scope="module")
def unpacked(shards, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    out = folder / "one.tar.gz"
    made = gpu(ROOT, "bundle", "--shards", str(shards), "--out", str(out))
    assert made.returncode == 0, made.stderr
    assert out.stat().st_size < 60e6
    with tarfile.open(out) as one:
        one.extractall(folder, filter="data")
    return folder / "gpu-bundle"


def test_the_bundle_holds_code_data_and_wheels_and_knows_itself_without_git(unpacked):
    wheels = (unpacked / "wheels.txt").read_text().splitlines()
    assert f"torch=={torch.__version__.partition('+')[0]}" in wheels and not any("ray==" in each for each in wheels)
    assert (unpacked / "data/shards/toy/episodes.parquet").is_file()
    listed = gpu(unpacked, "--dry-run")
    assert listed.returncode == 0 and "data/shards" in listed.stdout
    names = [line.partition(":")[0] for line in listed.stdout.splitlines()]
    assert {"tests-models", "tests-training", "collectives", "step", "rollout", "retracing", "losses"} <= set(names)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_runs_and_nothing_is_called_done(unpacked):
    found = gpu(unpacked)
    assert found.returncode == 1 and "nothing was run" in found.stdout
    assert not (unpacked / "build/gpu").exists()


@pytest.mark.nightly
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_piece_leaves_a_table_and_json_and_is_not_run_again_but_failed_ones_are(unpacked):
    first = gpu(unpacked, "--rehearse", "--only", "collectives", "tests-training")
    record = json.loads((unpacked / "build/gpu/collectives.json").read_text())
    assert record["exit_code"] == 0 and len(record["numbers"]) == 2 and "all_reduce" in first.stdout
    assert first.returncode == 1 and "not done: tests-training" in first.stdout  # skipped tests show nothing
    again = gpu(unpacked, "--rehearse", "--only", "collectives")
    assert again.returncode == 0 and "collectives: done before" in again.stdout


def test_a_bundle_without_data_or_with_too_much_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "large").mkdir()
    with open(tmp_path / "large/file", "wb") as file:
        file.truncate(41_000_000)
    for folder, found in ((tmp_path / "none", "found"), (tmp_path / "large", "41 MB")):
        refused = gpu(ROOT, "bundle", "--shards", str(folder), "--out", str(tmp_path / "out.tar.gz"))
        assert refused.returncode == 1 and found in refused.stderr and "make demo" in refused.stderr
    assert not (tmp_path / "out.tar.gz").exists()


@pytest.mark.nightly
def test_a_short_training_on_real_shards_compares_devices_and_precisions(shards, tmp_path):
    out = tmp_path / "losses.json"
    command = [sys.executable, "benchmarks/device_training.py", "--shards", str(shards), "--profile", "demo"]
    command += ["--steps", "4", "--batch", "2", "--threads", "1", "--json", str(out)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    rows = {row["what"]: row for row in json.loads(out.read_text())}
    assert rows["cpu, float32"]["largest_gap"] == 0 and 0 < rows["cpu, bfloat16"]["largest_gap"] < 0.05


def test_a_package_that_is_not_installed_is_named_and_not_left_out_of_the_list():
    spec = importlib.util.spec_from_file_location("gpu_script", ROOT / "scripts/gpu.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.WHEELS = ("numpy", "no-such-package")
    with pytest.raises(SystemExit, match="no-such-package"):
        list(script.wheels())
    script.WHEELS = ("numpy",)
    assert list(script.wheels()) == [f"numpy=={np.__version__}"]
