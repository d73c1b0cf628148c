import copy
import math

import numpy as np
import pytest
import torch

from whale.evaluation.measuring.rollouts.heldout import read_segments, read_windows
from whale.evaluation.measuring.rollouts.imagination import predictor
from whale.evaluation.measuring.rollouts.stack import Stack
from whale.evaluation.video.action_following import (
    ALTERATIONS,
    DIMENSIONS,
    Following,
    action_following,
    imagined_divergence,
)


def _settings() -> Following:
    return Following(max_episodes=6, resamples=100, batch_size=8, rng=np.random.default_rng(0))


@pytest.fixture(scope="module")
def segments(dataset):
    return read_segments(dataset, "train", 6)


def test_alterations_reverse_stop_and_exchange_actions_in_raw_units():
    raw = np.random.default_rng(0).normal(size=(4, 3, 7))
    raw[..., 6] = [1.0, 0.0, 1.0]
    episode = np.arange(4)
    np.testing.assert_array_equal(ALTERATIONS["negated"](raw, episode)[..., :6], -raw[..., :6])
    np.testing.assert_array_equal(ALTERATIONS["negated"](raw, episode)[..., 6], 1 - raw[..., 6])
    assert (ALTERATIONS["zeroed"](raw, episode)[..., :6] == 0).all()
    np.testing.assert_array_equal(ALTERATIONS["zeroed"](raw, episode)[..., 6], raw[..., 6])
    np.testing.assert_array_equal(ALTERATIONS["permuted"](raw, episode), raw[[2, 3, 0, 1]])


def _deaf(stack: Stack) -> Stack:
    """The same models with every way an action could take closed: in the dynamics and in the prior."""
    dynamics, behavior = copy.deepcopy(stack.dynamics["full"]), copy.deepcopy(stack.behavior)
    for layer in (dynamics.action, behavior.prior_encoder.action):
        torch.nn.init.zeros_(layer.weight)
    return Stack(stack.tokenizer, behavior, {"full": dynamics}, stack.digests, stack.weights)


def test_a_model_that_does_not_listen_scores_one_half_and_has_no_gap_in_any_dimension(stack, dataset, segments):
    metrics = action_following(_deaf(stack), "full", dataset, segments, _settings())
    assert metrics["score"] == 0.5
    gaps = [value for name, value in metrics.items() if name.endswith("changed_nll_gap")]
    assert len(gaps) == len(ALTERATIONS) + int((~dataset.normalizer.dead).sum()) and not np.any(gaps)


def test_a_model_that_listens_is_told_apart(stack, dataset, segments):
    metrics = action_following(stack, "full", dataset, segments, _settings())
    assert metrics["score"] != 0.5 and metrics["permuted.changed_nll_gap"] != 0
    assert {name.split(".")[0] for name in metrics} >= {DIMENSIONS[i] for i in np.flatnonzero(~dataset.normalizer.dead)}


def test_the_nll_of_changed_tokens_is_the_slow_one(stack, dataset, segments):
    from whale.evaluation.video.likelihood import token_likelihood

    found = token_likelihood(
        stack.dynamics["without_z"], segments.tokens, segments.actions, segments.z_log_probs, 3
    ).changed_nll
    tokens, actions = torch.from_numpy(segments.tokens[:1]), torch.from_numpy(segments.actions[:1])
    with torch.inference_mode():
        logits = stack.dynamics["without_z"].logits(tokens[:, :-1], actions, torch.zeros(1, 4, 256)).double()
    for step in range(4):
        changed = tokens[0, step + 1] != tokens[0, step]
        target = tokens[0, step + 1][changed]
        slow = -logits[0, step][changed].log_softmax(-1).gather(-1, target[:, None]).mean()
        assert found[0, step] == pytest.approx(float(slow), rel=1e-5) or math.isnan(found[0, step])


def test_imagined_frames_of_a_model_that_does_not_listen_do_not_move(dataset, stack):
    windows = read_windows(dataset, "train", 5, 6, 1)
    predict = predictor(_deaf(stack).world("full", dataset), 8)
    followed = predict(windows.frames[:, :1], windows.actions, 4)
    metrics = imagined_divergence(predict, windows, followed, [1, 4], _settings())
    assert len(metrics) == 3 * 2 * 2 * 3 and not any(metrics.values())


def test_divergence_is_the_mean_absolute_difference_in_levels(dataset):
    windows = read_windows(dataset, "train", 5, 6, 1)

    def predict(frames, actions, horizon):
        return np.full((len(frames), horizon, *frames.shape[2:]), 7, np.uint8)

    followed = np.full((len(windows), 4, *windows.frames.shape[2:]), 4, np.uint8)
    assert imagined_divergence(predict, windows, followed, [2], _settings())["negated.h2.divergence"] == 3.0
