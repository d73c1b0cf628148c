"""A stage can be run in a plain folder, without a guard: in a debugger, or in a notebook."""

import json
from pathlib import Path

import pytest
from tiny_shards import SIZE, write_tiny_shards

import pipelines.finetune_tokenizer
import pipelines.mix
from whale.common.run import Run
from whale.data.mixture import MixConfig
from whale.data.segments.grid import SegmentConfig
from whale.models.tokenizer.tokenizer import TokenizerConfig, VideoTokenizer
from whale.models.trunk.folder import save_model
from whale.run import run_stage
from whale.training.tasks.tokenizer.task import FinetuneTokenizerConfig

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
    for shard in Path("shards").rglob("*.tar"):  # mix opens none: it declares them unread
        shard.write_bytes(b"x" * shard.stat().st_size)
    pipelines.mix.run(args, Run(Path("by_hand")))
    assert not Path(".whale").exists() and not Path("lineage").exists()
    Path("params.yaml").write_text(PARAMS)
    run_stage(["mix", "--shards", "shards", "--out", "guarded"])
    made = sorted(path.name for path in Path("by_hand").iterdir())
    assert made == ["contracts.json", "plan.json", "receipt.json", "statistics.json"]
    for name in made:
        assert (Path("by_hand") / name).read_bytes() == (Path("guarded") / name).read_bytes()


def test_a_training_by_hand_ends_and_resumes_only_what_is_the_same(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WHALE_TRAIN_WORKERS", "0")
    write_tiny_shards(tmp_path / "shards/fleet_a", "fleet_a", [9, 12])
    trunk = {"num_layers": 2, "num_heads": 2, "d_model": 8}
    model = {"resolution": SIZE, "patch_size": 8, "num_codes": 16, "latent_dim": 4, "commitment": 0.25}
    tokenizer = VideoTokenizer(TokenizerConfig.parse(model | {"encoder": trunk, "decoder": trunk}, file="test"))
    Path("initial").mkdir()
    save_model(Path("initial"), tokenizer)
    optimization = {"batch_size": 2, "training_steps": 3, "warmup_steps": 1, "max_lr": 1e-3, "min_lr": 1e-5}
    optimization |= {"weight_decay": 0.0, "grad_clip": 1.0, "save_every": 1, "precision": "float32", "ema_decay": 0.0}
    values = {"freeze": ["encoder", "codebook"], "optimization": optimization}

    def train(out, seed):
        args = pipelines.finetune_tokenizer.Args(
            shards=Path("shards"), initial=Path("initial"), segments=SegmentConfig(window=4, phases=2), seed=seed,
            finetune_tokenizer=FinetuneTokenizerConfig.model_validate(values),
        )  # fmt: skip
        pipelines.finetune_tokenizer.run(args, Run(Path(out), args, work=Path("state"), stage="finetune_tokenizer"))
        return (Path(out) / "model.safetensors").read_bytes()

    assert train("one", 0) == train("again", 0)
    assert "continued from saved step" in capfd.readouterr().out
    train("other", 1)
    assert "continued from saved step" not in capfd.readouterr().out
    assert "seed" in (Path("one") / "README.md").read_text()


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
    assert "mix, optimize_policy, pretokenize" in capsys.readouterr().err
