import json

import numpy as np
import pytest

from whale.common.errors import ConfigError
from whale.evaluation.measuring.heldout import read_windows
from whale.evaluation.measuring.metrics import written
from whale.evaluation.uncertainty.measurement import EvaluateUncertaintyConfig, require_depths_fit, uncertainty_arrays
from whale.evaluation.uncertainty.report import calibration_entry, curves, uncertainty_metrics


def _config(**changes) -> EvaluateUncertaintyConfig:
    values = {
        "seed": 0, "model": "full", "ensemble": ["without_z"], "pretrain_splits": ["train"],
        "finetune_splits": ["train"], "max_episodes": 6, "context": 2, "horizon": 5, "retracing_steps": [1],
        "lpips": None, "state_episodes": 3, "filmstrips": 1, "resamples": 100, "batch_size": 4,
    }  # fmt: skip
    return EvaluateUncertaintyConfig(**(values | changes))


@pytest.fixture(scope="module")
def windows(dataset):
    return read_windows(dataset, "train", 7, 6, 1)


@pytest.fixture(scope="module")
def arrays(stack, dataset, windows):
    return uncertainty_arrays(stack, dataset, windows, _config())


def test_every_score_is_defined_at_every_imagined_frame_and_never_negative(arrays, windows):
    for score in ("retracing", "disagreement", "entropy", "ensemble"):
        assert arrays[score].shape == (len(windows), 5)
        assert np.isfinite(arrays[score]).all() and (arrays[score] >= 0).all()


def test_batches_change_no_score(stack, dataset, windows, arrays):
    one = uncertainty_arrays(stack, dataset, windows, _config(batch_size=1))
    assert np.abs(one["imagined"].astype(int) - arrays["imagined"]).max() <= 1
    np.testing.assert_allclose(one["entropy"], arrays["entropy"], rtol=1e-4)


def test_metrics_hold_three_levels_with_intervals_for_every_score_and_error(arrays):
    metrics = uncertainty_metrics(arrays, _config())
    for score in ("retracing", "entropy", "ensemble"):
        for error in ("latent", "pixel"):
            for level in ("", "within_step.", "per_rollout."):
                name = f"{score}.{error}.{level}spearman"
                assert metrics[f"{name}.low"] <= metrics[name] <= metrics[f"{name}.high"]
    assert np.isnan(metrics["step.latent.per_rollout.pearson"])  # the step says nothing about a whole rollout
    assert "unavailable" in metrics["lpips.status"] and "ensemble.status" not in metrics


def test_what_is_not_configured_is_unavailable_and_never_zero(stack, dataset, windows):
    config = _config(ensemble=[], state_episodes=0)
    metrics = written(uncertainty_metrics(uncertainty_arrays(stack, dataset, windows, config), config))
    assert "unavailable" in metrics["ensemble.status"] and "unavailable" in metrics["state.status"]
    assert not [name for name in metrics if name.startswith("ensemble.") and name != "ensemble.status"]


def test_a_score_equal_to_the_error_is_perfect(arrays):
    metrics = uncertainty_metrics(arrays | {"retracing": arrays["error_latent"]}, _config())
    assert metrics["retracing.latent.pearson"] == pytest.approx(1)
    assert metrics["retracing.latent.within_step.spearman"] == pytest.approx(1)
    assert metrics["retracing.latent.auroc_worst_quartile"] == 1.0


def test_the_calibration_names_the_checkpoint_by_the_digests_of_its_weights(stack, arrays, models_dir):
    import hashlib

    entry = json.loads(json.dumps(calibration_entry(stack, "pretrain", [arrays, arrays], _config())))
    for part, folder in (("tokenizer", "tokenizer"), ("dynamics", "dynamics/full")):
        expected = hashlib.sha256((models_dir / folder / "model.safetensors").read_bytes()).hexdigest()
        assert entry["checkpoint"][part]["weights"] == expected
    assert set(entry["methods"]) == {"retracing", "disagreement", "entropy", "ensemble"}
    assert entry["methods"]["retracing"]["num_pairs"] == 2 * arrays["retracing"].size


def test_curves_end_at_the_mean_error(arrays):
    drawn = curves(arrays)
    np.testing.assert_allclose(drawn["risk.retracing"][-1], arrays["error_latent"].mean())


@pytest.mark.parametrize(
    "changes", [{"context": 1}, {"retracing_steps": [2]}, {"retracing_steps": [0]}, {"context": 5}]
)
def test_depths_that_do_not_fit_into_the_history_are_refused(changes):
    require_depths_fit(_config(), window=4)
    with pytest.raises(ConfigError, match="retracing depths"):
        require_depths_fit(_config(**changes), window=4)


def test_an_unknown_member_of_an_ensemble_is_named(stack, dataset, windows):
    with pytest.raises(ConfigError, match="nobody"):
        uncertainty_arrays(stack, dataset, windows, _config(ensemble=["nobody"]))
