"""The stage on tiny checkpoints: equal segments for all, losses of the video evaluation, refusals."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines import evaluate_scaling
from whale.common.errors import ConfigError, MissingInputError
from whale.common.json_files import read_json, write_json
from whale.common.run import Run
from whale.evaluation.measuring.rollouts.heldout import read_segments
from whale.evaluation.numbers.metrics import flattened
from whale.evaluation.scaling.measurement import EvaluateScalingConfig, HeldOut, data_name
from whale.evaluation.scaling.trained import Trained, drawn_by_all
from whale.evaluation.video.likelihood import token_likelihood
from whale.models.dynamics.dynamics import Dynamics, DynamicsConfig
from whale.models.trunk.folder import save_model
from whale.models.trunk.st_transformer import STTransformerConfig

WIDTHS, STEPS, BATCH, WINDOW, NUM_TOKENS = (8, 16, 32), 100, 4, 4, 16
DATA = ("data50", "data100", "all")
VALUES = {
    "seed": 0, "models": ["w8", "w16", "w32", "w8_half", "w16_half", "w32_half"], "finetuned": ["w8", "w16", "w32"],
    "pretrain_splits": ["train"], "finetune_splits": ["train"], "max_episodes": 6, "resamples": 100, "batch_size": 3,
}  # fmt: skip


def config(**changes) -> EvaluateScalingConfig:
    return EvaluateScalingConfig.parse(VALUES | changes, file="params.yaml", place="evaluate_scaling.sizes")


def publish(folder: Path, width: int, fraction: float = 1.0, steps: int = STEPS) -> None:
    """A checkpoint with the records of a training."""
    torch.manual_seed(width)
    trunk = STTransformerConfig(num_layers=2, num_heads=2, d_model=width)
    folder.mkdir(parents=True)
    save_model(folder, Dynamics(DynamicsConfig(
        num_codes=32, action_size=7, z_size=256, behavior_conditioning=True, trunk=trunk)))  # fmt: skip
    write_json(folder / "training.json", {"steps": steps, "best": None})
    said = {} if fraction == 1 else {"data_fraction": fraction, "episodes": 3, "episodes_of": 6}
    write_json(folder / "receipt.json", {"num_draws": steps * BATCH, "datasets": {"blocks": said}})
    write_json(folder / "curves.json", [{"step": step, "loss": 5 - step / 100} for step in range(1, steps + 1)])


@pytest.fixture(scope="module")
def folders(role_dir, tmp_path_factory):
    root = tmp_path_factory.mktemp("scaling")
    for width in WIDTHS:
        publish(root / f"models/dynamics/w{width}", width)
        publish(root / f"models/dynamics/w{width}_half", width, 0.5)
        publish(root / f"models/finetuned/dynamics/w{width}", width)
    for role in ("pretrain", "finetune"):
        shutil.copytree(role_dir, root / "data" / role)
    return root


def measured(folders: Path, out: Path, **changes) -> dict:
    args = evaluate_scaling.Args(
        item="sizes", models=folders / "models", data=folders / "data", evaluate_scaling=config(**changes)
    )
    out.mkdir()
    run = Run(out / "out", args, metrics=out / "metrics.json", stage="evaluate_scaling")
    (out / "out").mkdir()
    evaluate_scaling.run(args, run)
    return flattened(read_json(out / "metrics.json"))


@pytest.fixture(scope="module")
def metrics(folders, tmp_path_factory):
    return measured(folders, tmp_path_factory.mktemp("run") / "first")


def test_a_loss_is_the_token_nll_of_the_video_evaluation(metrics, folders, dataset):
    part = read_segments(dataset, "train", 6, with_frames=False)
    for name in ("w8", "w32_half"):
        dynamics = Dynamics.restore(folders / "models/dynamics" / name)
        scored = token_likelihood(dynamics, part.tokens, part.actions, part.z_log_probs, 3)
        expected = scored.nll[part.valid].mean()
        assert metrics[f"pretrain.blocks.train.models.{name}.nll"] == pytest.approx(expected, rel=1e-5)
        assert metrics[f"pretrain.mean.train.models.{name}.nll"] == pytest.approx(expected, rel=1e-5)


def test_lines_are_drawn_for_each_fraction_all_of_them_training_and_fine_tuning(metrics):
    groups = {key.removesuffix(".b") for key in metrics if key.endswith(".b")}
    places = [f"pretrain.mean.{split}.fit.{data}" for split in ("train", "training") for data in DATA]
    assert groups == {*places, "finetune.mean.train.fit.data100"}
    assert metrics["pretrain.mean.train.fit.all.num_models"] == 6
    assert metrics["finetune.mean.train.fit.data100.b.low"] <= metrics["finetune.mean.train.fit.data100.b"]


def test_cost_is_three_forward_passes_of_every_token(metrics):
    per_token = 16 * 2 * 8**2 + 1 * (4 * 8 * NUM_TOKENS + 4 * 8 * WINDOW) + 2 * 32 * 8
    tokens = STEPS * BATCH * WINDOW * NUM_TOKENS
    assert metrics["models.w8.tokens"] == tokens
    assert metrics["models.w8.flops"] == pytest.approx(3 * per_token * tokens, rel=1e-5)
    assert metrics["models.w8_half.data_fraction"] == 0.5 and metrics["models.w8.data_fraction"] == 1


def test_the_same_run_gives_the_same_bytes_and_a_model_more_changes_no_loss(metrics, folders, tmp_path):
    again = measured(folders, tmp_path / "again")
    assert again == metrics
    fewer = measured(folders, tmp_path / "fewer", models=["w8", "w16", "w32"])
    shared = [key for key in fewer if ".models.w" in key and ".nll" in key]
    assert len(shared) > 9 and all(fewer[key] == metrics[key] for key in shared)


def test_training_losses_are_compared_at_the_tokens_that_all_have_seen(folders):
    dynamics = Dynamics.restore(folders / "models/dynamics/w8")
    long = Trained.read(folders / "models/dynamics/w8", dynamics, WINDOW, NUM_TOKENS)
    half = long.tokens // 2
    assert long.loss_at(long.tokens) == pytest.approx(np.mean([5 - step / 100 for step in range(91, 101)]))
    assert long.loss_at(half) == pytest.approx(np.mean([5 - step / 100 for step in range(46, 51)]))


def test_a_dataset_that_some_model_never_drew_from_is_left_out(tmp_path):
    models = [tmp_path / name for name in ("a", "b", "c")]
    for folder, names in zip(models, (("cups", "blocks"), ("blocks", "arms"), ("arms",)), strict=True):
        folder.mkdir()
        write_json(folder / "receipt.json", {"datasets": {name: {} for name in names}})
    assert drawn_by_all(models[:2]) == {"blocks"}
    with pytest.raises(ConfigError, match="no dataset that all models"):
        drawn_by_all(models)


def test_every_model_is_resampled_by_the_same_episodes(dataset, folders):
    split = HeldOut.read([dataset], "train", config())
    for name in ("w8", "w16"):
        split.score(name, Dynamics.restore(folders / "models/dynamics/w8"), 3)
    np.testing.assert_array_equal(split.losses["w8"]["blocks"], split.losses["w16"]["blocks"])
    assert np.ptp(split.losses["w8"]["blocks"]) > 0


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"models": ["w8", "w16"]}, "models"),
        ({"models": ["w8", "w16", "w8"], "finetuned": ["w8"]}, "twice"),
        ({"models": ["../w8", "w16", "w32"], "finetuned": ["w16"]}, "pattern"),
        ({"finetuned": ["w64"]}, "not in models: w64"),
        ({"finetuned": []}, "both, or neither"),
        ({"pretrain_splits": []}, "pretrain_splits"),
        ({"resamples": 99}, "resamples"),
        ({"fraction": 1}, "fraction"),
    ],
)
def test_a_section_that_contradicts_itself_is_refused(changes, match):
    with pytest.raises(ConfigError, match=match):
        config(**changes)


def test_two_sizes_initial_weights_and_a_checkpoint_without_records_are_refused(folders, tmp_path):
    with pytest.raises(ConfigError, match="too few sizes"):
        measured(folders, tmp_path / "two", models=["w8", "w16", "w16_half"], finetuned=["w8"])
    publish(folders / "models/dynamics/untrained", 8, steps=0)
    with pytest.raises(ConfigError, match="initial weights"):
        measured(folders, tmp_path / "untrained", models=["w8", "w16", "untrained"], finetuned=["w8"])
    (folders / "models/dynamics/untrained/receipt.json").unlink()
    with pytest.raises(MissingInputError, match=r"no receipt\.json"):
        measured(folders, tmp_path / "unrecorded", models=["w8", "w16", "untrained"], finetuned=["w8"])


def test_the_protocol_names_all_models_and_the_names_of_fractions_hold_no_dot(metrics):
    for place in ("pretrain.mean.train", "finetune.mean.train"):
        assert "metric=scaling" in metrics[f"{place}.protocol"]
    assert [data_name(fraction) for fraction in (1.0, 0.5, 0.125)] == ["data100", "data50", "data12_5"]
    json.dumps(metrics, allow_nan=False)
