"""A stage can be run in a plain folder, without a guard: in a debugger, or in a notebook."""

import json
from pathlib import Path

import pytest
from tiny_shards import write_tiny_shards

import pipelines.mix
from whale.common.run import Run
from whale.data.mixture import MixConfig
from whale.data.segments.grid import SegmentConfig
from whale.run import run_stage

PARAMS = """
seed: 0
segments: {window: 4, phases: 2}
mix:
  weights: {fleet_a: {weight: 1.0, source: test}}
  dynamics: {datasets: [fleet_a], provenance: assumption}
  block: 30
"""


def test_by_hand_and_inside_the_guard_a_stage_writes_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tiny_shards(tmp_path / "shards/fleet_a", "fleet_a", [7, 12])
    args = pipelines.mix.Args(
        shards=Path("shards"),
        mix=MixConfig.model_validate(
            {
                "weights": {"fleet_a": {"weight": 1.0, "source": "test"}},
                "dynamics": {"datasets": ["fleet_a"], "provenance": "assumption"},
                "block": 30,
            }
        ),
        segments=SegmentConfig(window=4, phases=2),
        seed=0,
    )
    pipelines.mix.run(args, Run(Path("by_hand")))
    assert not Path(".whale").exists() and not Path("lineage").exists()
    Path("params.yaml").write_text(PARAMS)
    run_stage(["mix", "--shards", "shards", "--out", "guarded"])
    made = sorted(path.name for path in Path("by_hand").iterdir())
    assert made == ["contracts.json", "plan.json", "receipt.json", "statistics.json"]
    for name in made:
        assert (Path("by_hand") / name).read_bytes() == (Path("guarded") / name).read_bytes()


def test_metrics_and_work_have_places_by_hand_too(tmp_path):
    run = Run(tmp_path / "out", metrics=tmp_path / "metrics.json", work=tmp_path / "work")
    run.write_metrics({"loss": 0.5})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"loss": 0.5}
    assert run.out.is_dir() and run.work.is_dir()
    with run.compute(), run.progress(2, "steps") as bar:
        bar.update()
    run.note(workers=2)
    assert run.notes == {"workers": 2} and run.sampled([1, 2]) == [1, 2]


def test_a_stage_that_is_none_is_refused_with_the_names_of_all(capsys):
    with pytest.raises(SystemExit) as ended:
        run_stage(["mixx"])
    assert ended.value.code == 64
    assert "mix, pretokenize" in capsys.readouterr().err
