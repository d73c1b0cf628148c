"""loss = a + b log10(FLOP): closed forms of the line, its interval, its error on a size held out, and its verdict."""

import numpy as np
import pytest

from whale.common.errors import ConfigError
from whale.evaluation.scaling.fit import FAILS, HOLDS, LogLinear, fit_metrics

FLOPS = np.array([1.0e12, 3.0e12, 1.0e13, 4.0e13])
SIZES = [10, 20, 30, 40]
A, B = 4.0, -0.25


def on_the_line(flops=FLOPS):
    return A + B * np.log10(flops)


def test_points_on_a_line_give_its_coefficients_and_no_error_anywhere():
    found = fit_metrics(FLOPS, SIZES, on_the_line()[None])
    assert found["a"] == pytest.approx(A) and found["b"] == pytest.approx(B) and found["r2"] == pytest.approx(1)
    for name in ("worst_residual", "held_out_largest.error", "held_out.mean_error"):
        assert found[name] == pytest.approx(0, abs=1e-12)
    assert found["status"] == HOLDS and (found["num_models"], found["num_sizes"]) == (4, 4)


def test_the_standard_error_is_that_of_the_textbook():
    x, y = np.log10(FLOPS), on_the_line() + np.array([0.01, -0.02, 0.03, -0.01])
    design = np.stack([np.ones(4), x], axis=1)
    (a, b), (squares,), *_ = np.linalg.lstsq(design, y, rcond=None)
    variance = squares / 2 * np.linalg.inv(design.T @ design)[1, 1]
    found = fit_metrics(FLOPS, SIZES, y[None])
    assert [found[name] for name in ("a", "b", "b_standard_error")] == pytest.approx([a, b, variance**0.5])


def test_no_change_is_the_loss_of_the_nearest_known_size():
    found = fit_metrics(FLOPS, SIZES, on_the_line()[None])
    steps = B * np.diff(np.log10(FLOPS))  # what each size gains over the one before it
    assert found["held_out_largest.error_no_change"] == pytest.approx(-steps[-1])
    # nearest to the sizes in turn: the second, the first, the second (0.52 decades; the fourth: 0.60), the third
    assert found["held_out.mean_error_no_change"] == pytest.approx(np.abs(steps[[0, 0, 1, 2]]).mean())


def test_a_largest_size_above_the_line_of_the_others_is_an_error_of_that_much():
    losses = on_the_line()
    losses[-1] += 0.3  # the gain from 30 to 40 is 0.15: now the loss rises
    found = fit_metrics(FLOPS, SIZES, losses[None])
    assert found["held_out_largest.error"] == pytest.approx(-0.3)
    assert found["status"].startswith(FAILS) and "held out, the largest size" in found["status"]


def test_models_of_one_size_are_held_out_together():
    flops = np.repeat(FLOPS, 2) * np.tile([1.0, 1.5], 4)  # the second of each size was trained longer
    losses = on_the_line(flops)
    losses[[-2, -1]] += (0.1, 0.3)
    found = fit_metrics(flops, np.repeat(SIZES, 2), losses[None])
    assert found["held_out_largest.error"] == pytest.approx(-0.2)  # if one stayed in, the line would bend to it


def test_the_interval_covers_the_true_slope_in_nineteen_of_twenty_worlds():
    rng, covered, worlds, episodes = np.random.default_rng(0), 0, 300, 64
    for _ in range(worlds):
        noise_EM = rng.normal(0, 0.2, (episodes, len(FLOPS)))
        drawn = rng.multinomial(episodes, np.full(episodes, 1 / episodes), size=400)
        weights = np.concatenate([np.ones((1, episodes)), drawn]) / episodes
        found = fit_metrics(FLOPS, SIZES, on_the_line() + weights @ noise_EM)
        covered += found["b.low"] <= B <= found["b.high"]
    assert 0.90 <= covered / worlds <= 0.98


def test_what_episodes_share_moves_the_line_up_and_not_its_slope():
    shift_R1 = np.random.default_rng(0).normal(0, 1, (100, 1))
    shift_R1[0] = 0
    line = LogLinear.fitted(FLOPS, on_the_line() + shift_R1)
    np.testing.assert_allclose(line.b, B, atol=1e-12)
    np.testing.assert_allclose(line.a, A + shift_R1[:, 0], atol=1e-10)


@pytest.mark.parametrize(
    ("losses", "why"),
    [(-on_the_line(), "does not fall"), (on_the_line() * [1, 1, 1, 1.2], "held out"), ([3, 3, 3, 3], "does not fall")],
)
def test_a_line_that_says_nothing_is_called_so(losses, why):
    assert why in fit_metrics(FLOPS, SIZES, np.atleast_2d(losses))["status"]


def test_a_slope_whose_interval_holds_zero_does_not_hold():
    noise = np.random.default_rng(0).normal(0, 1, (200, 4))
    noise[0] = 0
    found = fit_metrics(FLOPS, SIZES, on_the_line() + noise)
    assert found["b"] < 0 < found["b.high"] and "interval of b holds 0" in found["status"]


def test_models_of_equal_cost_have_no_line():
    with pytest.raises(ConfigError, match="unlike FLOP"):
        LogLinear.fitted(np.full(3, 1e12), np.ones((1, 3)))
