import numpy as np
import pytest

from whale.errors import ConfigError
from whale.evaluation.heldout import normalized, read_windows
from whale.evaluation.imagination import latent_distance, predictor
from whale.evaluation.uncertainty import retracing_uncertainty
from whale.evaluation.uncertainty_report import (
    EvaluateUncertaintyConfig,
    require_depths_fit,
    uncertainty_arrays,
    uncertainty_metrics,
)


def _config(**changes) -> EvaluateUncertaintyConfig:
    values = {
        "seed": 0, "model": "full", "pretrain_splits": ["train"], "finetune_splits": ["train"], "max_episodes": 6,
        "context": 2, "horizon": 5, "retracing_steps": [1], "filmstrips": 1, "resamples": 100, "batch_size": 4,
    }  # fmt: skip
    return EvaluateUncertaintyConfig(**(values | changes))


@pytest.fixture(scope="module")
def windows(dataset):
    return read_windows(dataset, "train", 7, 6, 1)


@pytest.fixture(scope="module")
def arrays(stack, dataset, windows):
    return uncertainty_arrays(stack, dataset, windows, _config())


def test_uncertainty_is_defined_at_every_imagined_frame_and_never_negative(arrays, windows):
    assert arrays["retracing"].shape == (len(windows), 5)
    assert np.isfinite(arrays["retracing"]).all() and (arrays["retracing"] >= 0).all()


def test_it_is_the_uncertainty_of_the_history_the_rollout_holds_at_that_step(stack, dataset, windows, arrays):
    """Step 4 (0-based) of context 2, window 4: the window restarted at frame 3, so o_3..o_5 are its history."""
    world = stack.world("full", dataset.window)
    predict = predictor(world, lambda raw: normalized(dataset, raw), 8)
    seen = np.concatenate([windows.frames[:, :2], arrays["imagined"]], axis=1)
    slow = retracing_uncertainty(predict, latent_distance(stack.tokenizer), seen[:, 3:6], windows.actions[:, 3:6], [1])
    np.testing.assert_allclose(arrays["retracing"][:, 4], slow.retracing, rtol=1e-4, atol=1e-7)


def test_branches_of_constant_actions_regenerate_an_imagined_history(stack, dataset, windows):
    """Property 2 of model.md 7.2: frames s+1..t imagined by the same model, constant actions: no disagreement."""
    world = stack.world("full", dataset.window)
    predict = predictor(world, lambda raw: normalized(dataset, raw), 8)
    actions = np.repeat(windows.actions[:, :1], 3, axis=1)
    imagined = predict(windows.frames[:, :1], actions[:, :2], 2).frames
    seen = np.concatenate([windows.frames[:, :1], imagined], axis=1)
    kept = predict(seen[:, :1], actions, 3).frames[:, -1]
    from whale.evaluation.uncertainty import branch

    np.testing.assert_array_equal(branch(predict, seen, actions, 2), kept)


def test_metrics_hold_correlations_with_intervals_for_both_errors(arrays):
    metrics = uncertainty_metrics(arrays, _config())
    for score in ("retracing", "entropy"):
        for error in ("latent", "pixel"):
            low, value, high = (metrics[f"{score}.{error}.pearson{end}"] for end in (".low", "", ".high"))
            assert low <= value <= high


def test_a_score_equal_to_the_error_is_perfect(arrays):
    metrics = uncertainty_metrics(arrays | {"retracing": arrays["error_latent"]}, _config())
    assert metrics["retracing.latent.pearson"] == pytest.approx(1)
    assert metrics["retracing.latent.auroc_worst_quartile"] == 1.0


@pytest.mark.parametrize(
    "changes", [{"context": 1}, {"retracing_steps": [2]}, {"retracing_steps": [0]}, {"context": 5}]
)
def test_depths_that_do_not_fit_into_the_history_are_refused(changes):
    require_depths_fit(_config(), window=4)
    with pytest.raises(ConfigError, match="retracing depths"):
        require_depths_fit(_config(**changes), window=4)
