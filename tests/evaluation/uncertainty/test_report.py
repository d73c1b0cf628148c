import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch

from whale.common.errors import ConfigError, MismatchError
from whale.evaluation.measuring import efflite0
from whale.evaluation.measuring.efflite0 import PercepEffLite0
from whale.evaluation.measuring.feature_networks import NetworkFile
from whale.evaluation.measuring.groups import Group
from whale.evaluation.measuring.rollouts.heldout import read_windows
from whale.evaluation.numbers.metrics import flattened, folded, written
from whale.evaluation.uncertainty.calibration import Calibrated
from whale.evaluation.uncertainty.correlation import Resampling
from whale.evaluation.uncertainty.estimation.decoding import Decoding
from whale.evaluation.uncertainty.measurement import SCORES, EvaluateUncertaintyConfig, measure, require_depths_fit
from whale.evaluation.uncertainty.report import (
    calibration_entry,
    curves,
    filter_metrics,
    grouped_metrics,
    rollout_errors,
    uncertainty_metrics,
    uncertainty_protocol,
)

SAMPLED = Decoding(mode="sample", temperature=1.0, samples=2)


def _config(**changes) -> EvaluateUncertaintyConfig:
    values = {
        "seed": 0, "model": "full", "ensemble": ["without_z"], "pretrain_splits": ["train"],
        "finetune_splits": ["train"], "max_episodes": 6, "windows_per_episode": 3, "starts": "keyed", "context": 2,
        "horizon": 5, "decoding": SAMPLED, "retracing_steps": [1], "mc_rollouts": 2, "neighbour_episodes": 2,
        "lpips": None, "percep_efflite0": None, "state_episodes": 3, "filmstrips": 1, "resamples": 100, "batch_size": 4,
    }  # fmt: skip
    return EvaluateUncertaintyConfig(**(values | changes))


@pytest.fixture(scope="module")
def windows(dataset):
    return read_windows(dataset, "train", 7, 6, 3, "keyed")


@pytest.fixture(scope="module")
def measured(stack, dataset, windows):
    return measure(stack, dataset, windows, _config())


@pytest.fixture(scope="module")
def metrics(measured):
    return uncertainty_metrics(measured, _config(), [measured])


def test_every_score_is_defined_at_every_imagined_frame_and_never_negative(measured, windows):
    for arrays, steps in ((measured.scored["sample"], 5), (measured.scored["argmax"], 5), (measured.one_step, 2)):
        missing = set(SCORES) - arrays.keys()
        assert missing == (set() if steps == 5 else {"cumulative_entropy", "mc_variance", "step"})
        for score in arrays:
            assert arrays[score].shape == (len(windows), steps)
            assert np.isfinite(arrays[score]).all() and (arrays[score] >= 0).all()


def test_batches_and_company_change_no_score(stack, dataset, windows, measured):
    """Tokens are drawn by the window's name; float sums of other batches flip few of them."""
    one = measure(stack, dataset, windows, _config(batch_size=7))
    for mode, arrays in one.scored.items():
        assert np.isclose(arrays["entropy"], measured.scored[mode]["entropy"], rtol=1e-4).mean() > 0.9


def test_both_decodings_are_measured_and_that_of_the_config_stands_first(stack, dataset, windows, measured, metrics):
    assert list(measured.scored) == ["sample", "argmax"]
    cold = uncertainty_metrics(measure(stack, dataset, windows, _config(decoding=SAMPLED.by("argmax"))), _config())
    key = "retracing.latent.within_step.pearson"
    assert cold[key] == metrics[f"argmax.{key}"] and cold[f"sample.{key}"] == metrics[key] != cold[key]


def test_frames_of_the_one_step_block_are_those_of_rollouts_that_start_there(stack, dataset):
    """Half a horizon later, by argmax: the first frame of a window that begins there."""
    config = _config(decoding=SAMPLED.by("argmax"))
    whole = read_windows(dataset, "train", 9, 6, 1)
    found, other = (
        measure(
            stack,
            dataset,
            replace(whole, frames=whole.frames[:, at : at + 7], actions=whole.actions[:, at : at + 6]),
            config,
        )
        for at in (0, 2)
    )
    for name in ("error_pixel", "disagreement", "moved", "action", "entropy", "neighbour"):
        np.testing.assert_allclose(found.one_step[name][:, 0], found.main[name][:, 0], rtol=1e-4)
        np.testing.assert_allclose(found.one_step[name][:, 1], other.main[name][:, 0], rtol=1e-4)


def test_metrics_hold_three_levels_with_intervals_for_every_score(metrics):
    for score in ("retracing", "entropy", "ensemble", "moved"):
        for error in ("latent", "pixel"):
            for level in ("", "within_step.", "per_rollout."):
                name = f"{score}.{error}.{level}pearson"
                assert metrics[f"{name}.low"] <= metrics[name] <= metrics[f"{name}.high"]
    assert np.isnan(metrics["step.latent.per_rollout.pearson"])  # the step says nothing about a whole rollout
    assert metrics["step.latent.auroc"] == 0.5 and metrics["filter.moved.latent.100"] == pytest.approx(1)
    assert "unavailable" in metrics["percep_efflite0.status"]
    assert "unavailable" in metrics["lpips.status"] and "ensemble.status" not in metrics
    assert metrics["filter.random.latent"] == pytest.approx(metrics["latent.error"])
    assert 0 < metrics["filter.random.objects"] <= 1  # an untrained model loses coloured squares
    for block in ("teacher_forced", "decoding", "conformal", "summary", "argmax"):
        assert [name for name in metrics if name.startswith(f"{block}.")], block


def test_a_filter_by_lost_objects_counts_their_share_in_the_last_frame_of_those_that_show_any():
    """Three rollouts: one lost one of two areas, one lost none of four; the third never had any."""
    arrays = {
        "error_latent": np.ones((3, 2)),
        "objects": np.array([[9.0, 2.0], [9.0, 4.0], [9.0, 0.0]]),
        "objects_lost": np.array([[9.0, 1.0], [9.0, 0.0], [9.0, 0.0]]),
        "moved": np.array([[2.0, 2.0], [1.0, 1.0], [0.0, 0.0]]),
    }
    np.testing.assert_equal(rollout_errors(arrays)["objects"], [0.5, 0.0, np.nan])
    found = filter_metrics(arrays, Resampling(np.ones((1, 3))))
    assert found["random.objects"] == 0.25
    assert (found["moved.objects.50"], found["moved.objects.100"], found["best.objects.50"]) == (0.0, 1.0, 0.0)
    kept_all = filter_metrics(arrays | {"objects_lost": np.zeros((3, 2))}, Resampling(np.ones((1, 3))))
    assert "objects.status" in kept_all and "moved.objects.50" not in kept_all


def test_correlation_within_a_task_is_that_of_its_windows_alone_and_their_mean_stands_beside(measured):
    halves = [Group("task", "a", np.arange(6)), Group("task", "b", np.arange(6, len(measured.episode)))]
    found = grouped_metrics(replace(measured, groups=halves), _config())
    for half in halves:
        x, y = (measured.main[name][half.rows].ravel() for name in ("entropy", "error_latent"))
        assert found[f"{half.prefix}.entropy.latent.pearson"] == pytest.approx(np.corrcoef(x, y)[0, 1])
    mean = [found[f"task.{name}.moved.latent.per_rollout.pearson"] for name in "ab"]
    assert found["task.mean.moved.latent.per_rollout.pearson"] == pytest.approx(np.mean(mean))
    lead = found["task.mean.retracing.latent.minus_entropy.pearson"]
    both = [found[f"task.mean.{score}.latent.pearson"] for score in ("retracing", "entropy")]
    assert (
        lead == pytest.approx(both[0] - both[1])
        and found["task.mean.retracing.latent.minus_entropy.pearson.low"] <= lead
    )
    assert grouped_metrics(measured, _config()) == {}  # these episodes name neither task nor policy


def test_the_lead_over_a_rival_is_the_difference_of_the_two(metrics):
    for level in ("pearson", "within_step.spearman", "per_rollout.pearson"):
        for block in ("", "argmax."):
            ours, theirs = (metrics[f"{block}{score}.latent.{level}"] for score in ("retracing", "moved"))
            name = f"{block}retracing.latent.minus_moved.{level}"
            assert metrics[name] == pytest.approx(ours - theirs)
            assert metrics[f"{name}.low"] <= metrics[name] <= metrics[f"{name}.high"]


def test_numbers_fold_for_readers_and_unfold_to_the_same_names(metrics):
    flat = written(metrics)
    nested = folded(flat)
    assert flattened(nested) == flat and nested["retracing"]["latent"]["within_step"]["pearson"] is not None
    assert len([key for key, value in nested.items() if not isinstance(value, dict)]) < 8
    assert set(nested["summary"]) >= {"retracing_per_rollout", "entropy_per_rollout", "moved_per_rollout"}


def test_what_is_not_configured_is_unavailable_and_never_zero(stack, dataset, windows):
    config = _config(ensemble=[], state_episodes=0, mc_rollouts=0, neighbour_episodes=0)
    metrics = written(uncertainty_metrics(measure(stack, dataset, windows, config), config))
    for name in ("ensemble", "state", "mc_variance", "neighbour"):
        assert "unavailable" in metrics[f"{name}.status"]
        assert not [key for key in metrics if key.startswith(f"{name}.") and key != f"{name}.status"]
    with pytest.raises(ValueError, match="no variance"):
        _config(mc_rollouts=1)


def test_a_score_equal_to_the_error_is_perfect(measured):
    main = measured.main | {"retracing": measured.main["error_latent"]}
    metrics = uncertainty_metrics(type(measured)(**(vars(measured) | {"scored": {"sample": main}})), _config())
    assert metrics["retracing.latent.pearson"] == pytest.approx(1)
    assert metrics["retracing.latent.within_step.spearman"] == pytest.approx(1)
    assert metrics["retracing.latent.auroc"] == 1.0
    assert metrics["filter.retracing.latent.25"] == metrics["filter.best.latent.25"] < 1


def test_the_calibration_names_the_checkpoint_by_the_digests_of_its_weights(stack, measured, models_dir):
    entry = json.loads(json.dumps(calibration_entry(stack, "pretrain", [measured, measured], _config())))
    for part, folder in (("tokenizer", "tokenizer"), ("dynamics", "dynamics/full")):
        expected = hashlib.sha256((models_dir / folder / "model.safetensors").read_bytes()).hexdigest()
        assert entry["checkpoint"][part]["weights"] == expected
    assert set(entry["methods"]) == set(SCORES) and entry["decoding"] == "sample"
    method = entry["methods"]["retracing"]
    assert method["num_pairs"] == 2 * measured.main["retracing"].size
    assert method["num_episodes"] == 2 * len(np.unique(measured.episode))  # of two robots, none in common
    assert Calibrated.from_json(method).bound(measured.main["retracing"]).shape == measured.main["retracing"].shape


def test_curves_end_at_the_mean_error(measured):
    drawn = curves(measured.main, measured.episode)
    np.testing.assert_allclose(drawn["risk.retracing"][-1], measured.main["error_latent"].mean())
    assert drawn["kept.latent.retracing"][-1] == pytest.approx(1)


def test_the_protocol_names_decoding_starts_and_what_frames_are_imagined_from(stack, dataset):
    drawn, cold = (uncertainty_protocol(stack, dataset, "train", _config(), mode) for mode in ("sample", "argmax"))
    forced = uncertainty_protocol(stack, dataset, "train", _config(), "sample", "recorded")
    before = drawn.partition("|model=")[0].split("|")
    assert {"decoding=sample", "temperature=1.0", "samples=2", "starts=keyed", "windows=3", "given=context"} <= set(
        before
    )
    assert "decoding=argmax" in cold.split("|") and "given=recorded" in forced.split("|")


@pytest.mark.parametrize(
    "changes", [{"context": 1}, {"retracing_steps": [2]}, {"retracing_steps": [0]}, {"context": 5}]
)
def test_depths_that_do_not_fit_into_the_history_are_refused(changes):
    require_depths_fit(_config(), window=4)
    with pytest.raises(ConfigError, match="retracing depths"):
        require_depths_fit(_config(**changes), window=4)


def test_an_unknown_member_of_an_ensemble_is_named(stack, dataset, windows):
    with pytest.raises(ConfigError, match="nobody"):
        measure(stack, dataset, windows, _config(ensemble=["nobody"]))


def test_retracing_takes_percep_efflite0_as_its_distance_and_says_so(stack, dataset, windows, tmp_path, monkeypatch):
    """With random weights in the place of the pinned ones: D is at most 4, and the error is measured in it, too."""
    torch.manual_seed(0)
    path = tmp_path / "percep-efflite0.safetensors"
    path.write_bytes(safetensors.torch.save(PercepEffLite0().state_dict()))
    few = windows.take(slice(0, 4))
    alone = _config(ensemble=[], mc_rollouts=0, neighbour_episodes=0, state_episodes=0)
    config = alone.model_copy(update={"percep_efflite0": str(path)})
    with pytest.raises(MismatchError, match="pinned"):
        measure(stack, dataset, few, config)
    monkeypatch.setattr(efflite0, "WEIGHTS_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    found, before = (measure(stack, dataset, few, each).main for each in (config, alone))
    assert not np.allclose(found["disagreement"], before["disagreement"])
    for name in ("disagreement", "error_percep_efflite0"):
        assert ((found[name] >= 0) & (found[name] <= 4)).all() and found[name].any()
    for name in ("entropy", "error_latent", "error_pixel"):
        np.testing.assert_array_equal(found[name], before[name])
    assert "error_percep_efflite0" not in before
    ours, plain = (uncertainty_protocol(stack, dataset, "train", each, "sample") for each in (config, alone))
    assert "|distance=percep-efflite0-44a4126c2acbe185|" in ours and "|distance=tokenizer|" in plain
    assert calibration_entry(stack, "pretrain", [], config)["distance"] == "percep-efflite0-44a4126c2acbe185"


def test_retracing_has_one_distance():
    lpips = NetworkFile(path="weights/lpips.safetensors", sha256="0" * 64)
    with pytest.raises(ValueError, match="one distance"):
        _config(lpips=lpips, percep_efflite0="weights/percep-efflite0.safetensors")
