import hashlib
from dataclasses import replace

import pytest
from rlds_fixture import episodes, tiny_spec, write_rlds

from whale.common.errors import MismatchError
from whale.data.ingest.finish import finish
from whale.data.ingest.ingest import IngestConfig, plan_tasks
from whale.data.ingest.quality.gate import QualityConfig
from whale.data.ingest.sources.location import DescribedFile
from whale.runtime.beam_ingest import BeamConfig, load_beam_config, run_tasks

pytest.importorskip("apache_beam")

QUALITY = QualityConfig(policy="fail", budget=0)
CONFIG = IngestConfig(resolution=16, jpeg_quality=95, shard_bytes=2**16, max_bad=0, quality=QUALITY)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    files = [episodes([4, 5], seed) for seed in range(4)]
    return write_rlds(tmp_path_factory.mktemp("raw"), {"train": files, "val": [episodes([6])]})


def digests(directory):
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_one_and_two_workers_write_the_same_bytes_and_report_every_file(raw, tmp_path):
    outputs = []
    for workers in (1, 2):
        work, out = tmp_path / f"work{workers}", tmp_path / f"out{workers}"
        tasks = plan_tasks(raw, tiny_spec(), CONFIG, work)
        finished = []
        run_tasks(tasks, workers, BeamConfig(), finished.append)
        finish(tasks, work, out)
        assert sum(finished) == sum(task.shard.records for task in tasks) == 9 and len(tasks) == 5
        outputs.append(digests(out))
    assert outputs[0] == outputs[1]


def test_an_error_in_a_worker_comes_back_as_it_was(tmp_path):
    raw = write_rlds(tmp_path, {"train": [episodes([4])], "val": [episodes([4])]})
    tasks = plan_tasks(raw, tiny_spec(), CONFIG, tmp_path / "work")
    described = {"path": tasks[0].shard.file, "bytes": 1, "sha256": "0" * 64}
    tasks[0] = replace(tasks[0], expected=(DescribedFile(**described),))
    with pytest.raises(MismatchError, match="not the described one"):
        run_tasks(tasks, 1, BeamConfig())


def test_the_environment_overrides_local_yaml_which_overrides_defaults(tmp_path):
    local = tmp_path / "local.yaml"
    assert load_beam_config(local, {}) == BeamConfig()
    local.write_text("beam: {runner: FlinkRunner}\nexecution: {beam_workers: 3}\n")
    assert load_beam_config(local, {}).runner == "FlinkRunner"
    chosen = load_beam_config(local, {"WHALE_BEAM_RUNNER": "SparkRunner", "WHALE_BEAM_OPTIONS": "--a=1 --b='x y'"})
    assert (chosen.runner, chosen.options) == ("SparkRunner", ["--a=1", "--b=x y"])
