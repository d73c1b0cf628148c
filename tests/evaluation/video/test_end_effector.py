import numpy as np
import pytest

from whale.evaluation.measuring.rollouts.heldout import Windows
from whale.evaluation.video.end_effector import effector_metrics

STEPS = np.array([0.0, 0.1, 0.2, 0.3])


def windows(state: bool = True) -> Windows:
    """Four windows in which the effector moves 0.1 m a step along x; a pixel tells its place in centimetres."""
    place = np.broadcast_to(STEPS, (4, 4))
    frames = np.zeros((4, 4, 4, 4, 3), np.uint8)
    frames[:, :, 0, 0, 0] = np.rint(100 * place)
    states = np.zeros((4, 4, 7), np.float32)
    states[..., 0] = place
    return Windows(frames, np.zeros((4, 3, 7), np.float32), np.arange(4), list("abcd"), states if state else None)


def reader(off: float = 0.0):
    """A probe that reads the pixel, and errs by `off` along y."""

    def probe(frames: np.ndarray) -> np.ndarray:
        return np.stack([frames[..., 0, 0, 0] / 100, np.full(frames.shape[:-3], off), np.zeros(frames.shape[:-3])], -1)

    return probe


def measured(probe, imagined: np.ndarray, given: Windows) -> dict[str, object]:
    frames = {"full": imagined, "tokenizer": given.frames[:, 1:]}
    return effector_metrics(probe, frames, "full", given, [1, 3], np.random.default_rng(0), 100)


def test_frames_that_follow_score_zero_and_a_still_image_one():
    given = windows()
    follows, still = given.frames[:, 1:], np.repeat(given.frames[:, :1], 3, axis=1)
    assert measured(reader(), follows, given)["h3.ee"] == pytest.approx(0, abs=1e-6)
    found = measured(reader(), still, given)
    assert found["h3.ee"] == pytest.approx(1, abs=1e-6) and found["h1.ee"] == pytest.approx(1, abs=1e-6)
    assert found["h3.ee_still"] == found["h3.ee_error"] == pytest.approx(0.3)
    assert found["h3.ee.low"] <= found["h3.ee"] <= found["h3.ee.high"] and found["h3.ee_tokenizer"] < 1e-6


def test_a_probe_too_weak_at_a_horizon_gives_no_result_there():
    given = windows()
    found = measured(reader(0.03), given.frames[:, 1:], given)  # 0.3 of standing still at 1, 0.1 at 3
    assert found["h1.ee_floor"] == pytest.approx(0.3) and "h1.ee" not in found
    assert "too weak" in found["h1.ee_status"] and found["h1.ee_unjudged"] == pytest.approx(0.3)
    assert found["h3.ee_floor"] == found["h3.ee"] == pytest.approx(0.1) and found["h3.ee_status"] == "measured"


def test_without_a_recorded_state_it_is_said():
    given = windows(state=False)
    assert measured(reader(), given.frames[:, 1:], given) == {"ee_status": "no recorded state"}
    assert measured(None, given.frames[:, 1:], windows()) == {"ee_status": "no recorded state"}


def test_a_robot_that_does_not_move_is_not_judged():
    given = windows()
    given.state[...] = 0.0
    found = measured(reader(), given.frames[:, 1:], given)
    assert not np.isfinite(found["h3.ee_unjudged"]) and "h3.ee" not in found
