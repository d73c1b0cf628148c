import hashlib

import numpy as np
import pytest
import safetensors.torch
import torch
from video_config import video_config

from whale.common.errors import ConfigError
from whale.evaluation.measuring import efflite0
from whale.evaluation.measuring.efflite0 import PercepEffLite0
from whale.evaluation.measuring.rollouts.fidelity import psnr
from whale.evaluation.measuring.rollouts.heldout import read_segments, read_windows
from whale.evaluation.measuring.rollouts.imagination import predictor
from whale.evaluation.measuring.rollouts.reconstruction import reconstruct
from whale.evaluation.numbers.metrics import save_arrays, written
from whale.evaluation.numbers.protocol import require_comparable
from whale.evaluation.uncertainty.estimation.decoding import Decoding
from whale.evaluation.video.likelihood import from_other_episode, policy_nll, token_likelihood
from whale.evaluation.video.perceptual import load_feature_networks
from whale.evaluation.video.video import fit_baselines, rollout_scores
from whale.evaluation.video.video_report import evaluate_split

CONFIG = video_config()

NETWORKS = load_feature_networks(None, None, None)


@pytest.fixture(scope="module")
def result(stack, dataset):
    return evaluate_split(stack, dataset, "train", fit_baselines(dataset, 32, CONFIG), NETWORKS, CONFIG)


def test_evaluating_twice_gives_the_same_numbers_and_bytes(stack, dataset, result, tmp_path):
    again = evaluate_split(stack, dataset, "train", fit_baselines(dataset, 32, CONFIG), NETWORKS, CONFIG)
    assert written(again.metrics) == written(result.metrics)
    save_arrays(tmp_path / "a.npz", result.arrays)
    save_arrays(tmp_path / "b.npz", again.arrays)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_only_the_models_that_are_named_are_measured_and_each_as_among_all(stack, dataset, result):
    chosen = stack.only(["full", "an entry of the other role"])
    found = evaluate_split(chosen, dataset, "train", fit_baselines(dataset, 32, CONFIG), NETWORKS, CONFIG).metrics
    assert not [key for key in found if "without_z" in key]
    kept = [key for key in found if key.startswith("dynamics.full")]
    assert len(kept) > 20 and written({key: found[key] for key in kept}) == written(
        {k: result.metrics[k] for k in kept}
    )
    assert stack.only(None) is stack
    with pytest.raises(ConfigError, match="no such trained dynamics"):
        stack.only(["w256"])
    silent, named = CONFIG.deciding_values(), CONFIG.model_copy(update={"models": ["full"]}).deciding_values()
    assert "models" not in silent and named == silent | {"models": ["full"]}


def test_every_group_says_how_it_was_measured(result):
    groups = ["tokenizer", "policy", "z", "dynamics.full.actions"]
    groups += [f"dynamics.{name}{part}" for name in ("full", "without_z") for part in ("", ".rollout")]
    for group in groups:
        assert "data=blocks/train" in str(result.metrics[f"{group}.protocol"])


def test_an_untrained_dynamics_is_near_ln_v_and_its_nll_is_the_slow_one(stack, dataset, result):
    assert abs(float(result.metrics["dynamics.without_z.nll"]) - np.log(32)) < 1.0
    segments = read_segments(dataset, "train", 6)
    slow = []
    for index in range(len(segments.tokens)):
        tokens = torch.from_numpy(segments.tokens[index : index + 1])
        actions = torch.from_numpy(segments.actions[index : index + 1])
        with torch.inference_mode():
            logits = stack.dynamics["without_z"].logits(tokens[:, :-1], actions, torch.zeros(1, 4, 256))
        log_probs = logits.double().log_softmax(-1).gather(-1, tokens[:, 1:, :, None])[0, :, :, 0]
        slow += list(-log_probs.mean(-1).numpy()[segments.valid[index]])
    np.testing.assert_allclose(result.metrics["dynamics.without_z.nll"], np.mean(slow), rtol=1e-5)


def test_without_z_the_likelihood_does_not_depend_on_z(stack, dataset):
    segments = read_segments(dataset, "train", 3, with_frames=False)
    args = (segments.tokens, segments.actions)
    other = -np.random.default_rng(0).exponential(size=segments.z_log_probs.shape).astype(np.float32)
    for name, is_same in (("without_z", True), ("full", False)):
        left = token_likelihood(stack.dynamics[name], *args, segments.z_log_probs, 8).nll
        right = token_likelihood(stack.dynamics[name], *args, other, 8).nll
        assert np.array_equal(left, right) == is_same


def test_the_policy_is_scored_alike_in_batches_of_any_size(stack, dataset):
    segments = read_segments(dataset, "train", 6)
    mask = ~dataset.normalizer.dead
    whole, parts = (
        policy_nll(
            stack.behavior, segments.frames, segments.actions, mask, segments.valid, segments.episode, batch_size
        )
        for batch_size in (len(segments.actions), 2)
    )
    assert len(segments.actions) > 4 and whole.keys() == parts.keys()
    for name, nll in whole.items():
        np.testing.assert_allclose(parts[name], nll, rtol=1e-4, atol=1e-4, err_msg=name)


def test_the_first_imagined_frame_of_a_rollout_is_the_argmax_of_teacher_forcing(stack, dataset):
    windows = read_windows(dataset, "train", 5, 3, 1)
    scores = rollout_scores(stack, dataset, windows, CONFIG)
    images = torch.from_numpy(windows.frames).float() / 255
    actions = torch.from_numpy(dataset.normalized(windows.actions))
    with torch.inference_mode():
        tokens = stack.tokenizer.encode(images[:, :1])
        logits = stack.dynamics["without_z"].logits(tokens, actions[:, :1], torch.zeros(len(images), 1, 256))
        decoded = stack.tokenizer.decode(torch.cat([tokens, logits.argmax(-1)], dim=1))[:, 1]
    expected = (decoded * 255).round().to(torch.uint8).numpy()
    np.testing.assert_array_equal(scores.frames["without_z"][:, 0], expected)
    np.testing.assert_array_equal(scores.psnr["without_z"][:, 0], psnr(windows.frames[:, 1], expected))


def test_batch_size_changes_no_imagined_frame(stack, dataset):
    windows = read_windows(dataset, "train", 5, 6, 1)
    world = stack.world("full", dataset)
    one, many = (predictor(world, size)(windows.frames[:, :1], windows.actions, 4) for size in (1, 64))
    assert np.abs(one.astype(int) - many).max() <= 1


def test_reconstruction_keeps_shape_and_type(stack, dataset):
    frames = read_windows(dataset, "train", 5, 2, 1).frames
    image = reconstruct(stack.tokenizer, frames, batch_size=1)
    assert image.shape == frames.shape and image.dtype == np.uint8


def test_no_segment_gets_actions_of_its_own_episode():
    episode = np.array([0, 0, 1, 1, 1, 2])
    source = from_other_episode(episode)
    assert sorted(source) == list(range(6))
    assert (episode[source] != episode).all()


def test_what_could_not_be_measured_is_null_and_floats_have_six_digits():
    assert written({"b": float("nan"), "a": 1.23456789, "c": 3, "d": "x"}) == {
        "a": 1.23457,
        "b": None,
        "c": 3,
        "d": "x",
    }


def test_drawn_rollouts_of_each_window_count_alike_and_say_so_behind_the_models_name(stack, dataset, result):
    drawn = CONFIG.model_copy(update={"decoding": Decoding(mode="sample", temperature=1.0, samples=2)})
    found = evaluate_split(stack, dataset, "train", fit_baselines(dataset, 32, drawn), NETWORKS, drawn).metrics
    group = "dynamics.full.rollout"
    assert found[f"{group}.num_windows"] == 2 * result.metrics[f"{group}.num_windows"]
    assert found[f"{group}.h4.psnr_copy_last"] == pytest.approx(result.metrics[f"{group}.h4.psnr_copy_last"])
    assert found[f"{group}.h4.psnr"] != result.metrics[f"{group}.h4.psnr"]
    ours, cold = (str(metrics[f"{group}.protocol"]) for metrics in (found, result.metrics))
    assert ours.endswith("|decoding=sample|temperature=1.0|samples=2") and cold.endswith("|decoding=argmax")
    require_comparable(ours, cold)
    assert found["dynamics.full.nll"] == result.metrics["dynamics.full.nll"]  # teacher forcing draws nothing


def test_percep_efflite0_stands_beside_the_still_image_and_the_tokenizer_and_in_the_protocol(
    stack, dataset, result, tmp_path, monkeypatch
):
    """With random weights in the place of the pinned ones."""
    torch.manual_seed(0)
    path = tmp_path / "percep-efflite0.safetensors"
    path.write_bytes(safetensors.torch.save(PercepEffLite0().state_dict()))
    monkeypatch.setattr(efflite0, "WEIGHTS_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    config = CONFIG.model_copy(update={"percep_efflite0": str(path)})
    networks = load_feature_networks(config.lpips, config.i3d, config.percep_efflite0)
    found = evaluate_split(stack, dataset, "train", fit_baselines(dataset, 32, config), networks, config).metrics
    group = "dynamics.full.rollout"
    for at in ("", "h1.", "h4."):
        key = f"{group}.{at}percep_efflite0"
        mine, still, floor = (float(found[f"{key}{of}"]) for of in ("", "_copy_last", "_tokenizer"))
        assert found[f"{key}.low"] <= mine <= found[f"{key}.high"] and min(mine, floor) > 0 <= still
        assert found[f"{key}_below_copy_last"] == pytest.approx(still - mine)
        assert found[f"{key}_below_copy_last.low"] <= still - mine <= found[f"{key}_below_copy_last.high"]
    assert f"{group}.percep_efflite0.status" not in found
    ours, before = (str(metrics[f"{group}.protocol"]) for metrics in (found, result.metrics))
    assert "|percep-efflite0=44a4126c2acbe185|" in ours and "percep" not in before
    with pytest.raises(ConfigError, match="unlike protocols"):
        require_comparable(ours, before)
    others = [key for key in result.metrics if "percep" not in key and not key.endswith("rollout.protocol")]
    assert written({key: found[key] for key in others}) == written({key: result.metrics[key] for key in others})


def test_without_weights_percep_efflite0_is_null_and_says_so(result):
    assert result.metrics["dynamics.full.rollout.percep_efflite0"] is None
    assert "unavailable" in str(result.metrics["dynamics.full.rollout.percep_efflite0.status"])
    assert not [key for key in result.metrics if "percep_efflite0_" in key]
