import json
import shutil
from pathlib import Path

import pytest
import yaml
from rlds_fixture import episodes, spec_values, write_rlds

from whale.cli import run
from whale.common.errors import ConfigError
from whale.planning.ingest_plan import plan_ingest


@pytest.fixture
def whale_x(tmp_path, project_root, monkeypatch):
    (tmp_path / "params.yaml").write_bytes((project_root / "profiles/whale-x.yaml").read_bytes())
    shutil.copytree(project_root / "data_specs", tmp_path / "data_specs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_ingest_is_described_before_the_data_are_here(whale_x):
    made = plan_ingest("droid", whale_x)
    assert not made.raw_is_here and made.files is None
    assert made.read_bytes == int(1741.0 * 2**30)
    assert made.frames == 27_044_326
    assert made.write_bytes == made.frames * (22_100 + 750 + 8)
    assert made.shards == -(-made.write_bytes // 268_435_456)


def test_units_that_are_done_are_counted_and_unknown_names_refused(whale_x):
    fragments = whale_x / "work/whale-x/ingest@toto/0123/fragments"
    fragments.mkdir(parents=True)
    for name in ("00000.json", "00001.json", "00001.error.json", "00002.rows.parquet"):
        (fragments / name).touch()
    assert plan_ingest("toto", whale_x).units_done == 2
    with pytest.raises(ConfigError, match="toto"):
        plan_ingest("totoo", whale_x)


def test_the_verb_prints_it_and_refuses_other_stages(whale_x, capsys):
    assert run(["plan", "ingest@viola", "--json"]) in (0, 1)
    assert json.loads(capsys.readouterr().out)["frames"] == 76_324
    assert run(["plan", "ingest@viola"]) in (0, 1)
    assert "gresearch" in capsys.readouterr().out
    assert run(["plan", "mix"]) == 64


def test_frames_of_an_unknown_dataset_are_estimated_from_its_first_episodes_and_the_spec_s_splits(whale_x, tmp_path):
    write_rlds(tmp_path / "raw", {"train": [episodes([4, 6] * 10)], "val": [episodes([9])]})
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["datasets"]["tiny"] = {"raw": "raw", "role": "pretrain"}
    Path("params.yaml").write_text(yaml.safe_dump(params))

    def planned(**splits):
        values = spec_values() | {"source": spec_values()["source"] | {"splits": splits}}
        Path("data_specs/tiny.yaml").write_text(yaml.safe_dump(values))
        made = plan_ingest("tiny", whale_x)
        return made.frames, made.frames_from

    assert planned(train="train", val="val") == (105, "from the first 12 of 21 episodes")
    assert planned(train="train[:10%]", val="val") == (15, "from the first 12 of 3 episodes")
    (tmp_path / "raw" / "dataset_info.json").write_text("{")
    frames, why = planned(train="train", val="val")
    assert frames is None and "dataset_info.json" in why
