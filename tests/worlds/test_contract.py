"""Every public mistake with actions is refused or warned of, and the message names it."""

import warnings

import numpy as np
import pytest
import tiny_world

from whale.common.errors import ConfigError, RefusedError
from whale.worlds.adapters import RobotActions
from whale.worlds.contract import ActionContract, ActionWarning


@pytest.fixture(scope="module")
def contract() -> ActionContract:
    return ActionContract(tiny_world.ROBOT, tiny_world.contract(), tiny_world.statistics())


@pytest.fixture(scope="module")
def raw() -> np.ndarray:
    return tiny_world.recorded_actions(64, seed=9)


def test_recorded_actions_pass_in_silence(contract, raw):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(20):
            actions = tiny_world.recorded_actions(32, seed)
            assert contract.enforce(contract.as_raw(actions), recorded=actions) == []


def test_a_slower_or_a_faster_policy_is_no_mistake(contract, raw):
    for factor in (0.4, 0.0, 2.5):
        assert not contract.inspect(raw * ([factor] * 6 + [1.0]))


def scaled(raw, translation=1.0, rotation=1.0):
    return raw * np.array([translation] * 3 + [rotation] * 3 + [1.0])


def normalised(contract, raw):
    return contract.normalizer.normalize(raw)


GRAVE = {
    "55 x too small": (lambda c, a: scaled(a, 1 / 55, 1 / 55), "times too small"),
    "normalised": (lambda c, a: normalised(c, a), r"normalised to \[-1, 1\]"),
    "normalised twice": (lambda c, a: normalised(c, normalised(c, a)), "normalised twice"),
    "normalised by mean and deviation": (
        lambda c, a: np.c_[(a[:, :6] - c.profile.mean) / c.profile.std, a[:, 6:]], "mean and deviation"),
    "un-normalised twice": (lambda c, a: c.normalizer.denormalize(a), "un-normalised twice"),
    "degrees": (lambda c, a: scaled(a, 1, 180 / np.pi), "degrees"),
    "millimetres": (lambda c, a: scaled(a, 1000, 1), "millimetres"),
    "centimetres": (lambda c, a: scaled(a, 100, 1), "centimetres"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", GRAVE)
def test_a_wrong_scale_is_refused_and_named(contract, raw, mistake):
    make, said = GRAVE[mistake]
    with pytest.raises(RefusedError, match=said) as refused:
        contract.enforce(contract.as_raw(make(contract, raw)), place=mistake)
    assert "found:" in str(refused.value) and "expected:" in str(refused.value) and "remedy:" in str(refused.value)


def test_the_factor_of_a_wrong_scale_is_told(contract, raw):
    with pytest.raises(RefusedError, match=r"actions are 5[0-9](\.\d)? times too small"):
        contract.enforce(scaled(raw, 1 / 55, 1 / 55))


def test_commands_for_another_rate_are_refused_where_it_is_said_and_warned_of_where_not(contract, raw):
    contract.require_rate(3.05)
    with pytest.raises(RefusedError, match=r"(?s)rate.*15 Hz.*3 Hz.*from_robot\(rate_hz=15\)"):
        contract.require_rate(15.0)
    with pytest.warns(ActionWarning, match=r"too small.*another rate"):
        contract.enforce(scaled(raw, 1 / 5, 1 / 5))


@pytest.mark.parametrize("size", [6, 8, 14])
def test_another_number_of_dimensions_is_refused(contract, size):
    with pytest.raises(RefusedError, match=r"(?s)number of action dimensions.*x, y, z, roll"):
        contract.as_raw(np.zeros((4, size)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(contract, raw, bad):
    broken = raw.copy()
    broken[5, 2] = bad
    with pytest.raises(RefusedError, match=r"not finite[\s\S]*\[5, 2\]"):
        contract.as_raw(broken)


def test_a_gripper_of_another_range_is_refused_with_its_adapter(contract, raw):
    with pytest.raises(RefusedError, match=r"(?s)gripper.*minus_one_to_one"):
        contract.as_raw(np.c_[raw[:, :6], raw[:, 6] * 2 - 1])


def test_an_inverted_gripper_is_warned_of_by_its_first_uses(contract, raw):
    with pytest.warns(ActionWarning, match=r"(?s)gripper looks inverted.*one_is_closed"):
        contract.enforce(np.c_[raw[:, :6], 1 - raw[:, 6]], recorded=raw)


def noisy(raw, seed=1):
    """Another policy of the same mind: the recorded motion, and as much of its own."""
    return raw + np.c_[tiny_world.recorded_actions(len(raw), seed)[:, :6] * 0.8, np.zeros(len(raw))]


@pytest.mark.parametrize("order", [(1, 0, 2), (2, 1, 0), (1, 2, 0)])
def test_exchanged_axes_are_warned_of_where_recorded_actions_are_known(contract, raw, order):
    own = noisy(raw)
    with pytest.warns(ActionWarning, match="axes look exchanged"):
        contract.enforce(own[:, [*order, 3, 4, 5, 6]], recorded=raw)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        contract.enforce(own, recorded=raw)


def test_a_mirrored_axis_frame_is_warned_of(contract, raw):
    with pytest.warns(ActionWarning, match="mirrored"):
        contract.enforce(noisy(raw) * [-1, -1, -1, 1, 1, 1, 1], recorded=raw)


def test_a_policy_that_names_its_dimensions_otherwise_is_refused(contract):
    contract.require_layout(tiny_world.NAMES)
    with pytest.raises(RefusedError, match=r"(?s)order of action dimensions.*from_robot"):
        contract.require_layout(("y", "x", *tiny_world.NAMES[2:]))


ADAPTERS = {
    "degrees": ({"rotation": "deg"}, lambda c, a: scaled(a, 1, 180 / np.pi)),
    "millimetres": ({"translation": "mm"}, lambda c, a: scaled(a, 1000, 1)),
    "closed is one": ({"gripper": "one_is_closed"}, lambda c, a: np.c_[a[:, :6], 1 - a[:, 6]]),
    "minus one": ({"gripper": "minus_one_to_one"}, lambda c, a: np.c_[a[:, :6], a[:, 6] * 2 - 1]),
    "millimetres open": ({"gripper": (0.0, 85.0)}, lambda c, a: np.c_[a[:, :6], a[:, 6] * 85]),
    "order": ({"order": tiny_world.NAMES[::-1]}, lambda c, a: a[:, ::-1]),
    "z-scores": ({"normalised": "mean_std"}, lambda c, a: np.c_[(a[:, :6] - c.profile.mean) / c.profile.std, a[:, 6:]]),
    "a fifth of the rate": ({"rate_hz": 0.6}, lambda c, a: np.c_[a[::5, :6] * 5, a[::5, 6]]),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_declared_adapter_undoes_what_was_declared(contract, raw, name):
    declared, mistake = ADAPTERS[name]
    steady = np.repeat(raw[:12], 5, axis=0) if "rate_hz" in declared else raw
    adapted = RobotActions(contract, **declared)(mistake(contract, steady))
    assert np.allclose(adapted, steady, atol=1e-5)


def test_normalised_actions_come_back_within_the_clip(contract, raw):
    inside = np.clip(raw, contract.normalizer.low.astype(np.float32), contract.normalizer.high.astype(np.float32))
    adapted = RobotActions(contract, normalised="q01_q99")(normalised(contract, inside))
    assert np.allclose(adapted, inside, atol=1e-5)


def test_a_faster_robots_steps_add_up(contract, raw):
    adapted = RobotActions(contract, rate_hz=15.0)(
        np.c_[np.repeat(raw[:4, :6] / 5, 5, axis=0), np.repeat(raw[:4, 6], 5)]
    )
    assert np.allclose(adapted, raw[:4], atol=1e-6)
    with pytest.raises(ConfigError, match="multiple of 5"):
        RobotActions(contract, rate_hz=15.0)(raw[:7])


@pytest.mark.parametrize("declared", ["one_is_open", "one_is_closed", "minus_one_to_one", (0.0, 85.0)])
def test_a_gripper_declared_wrongly_is_refused_and_not_read_as_open(contract, raw, declared):
    with pytest.raises(RefusedError, match="not an opening in"):
        RobotActions(contract, gripper=declared)(np.c_[raw[:, :6], raw[:, 6] * 255])


def test_what_rounding_puts_beside_closed_and_open_is_closed_and_open(contract, raw):
    off = (raw[:, 6] * 2 - 1) * 255.1 / 255
    adapted = RobotActions(contract, gripper=(-1.0, 1.0))(np.c_[raw[:, :6], off])
    assert set(adapted[:, 6]) == {0.0, 1.0}


@pytest.mark.parametrize("same", [(1.0, 1.0), (0.0, np.nan)])
def test_a_gripper_whose_closed_is_its_open_is_refused(contract, same):
    with pytest.raises(ConfigError, match="closed and open"):
        RobotActions(contract, gripper=same)


@pytest.mark.parametrize("wrong", [{"rotation": "turns"}, {"order": ["x"]}, {"gripper": "up"}, {"rate_hz": 4.0}])
def test_an_adapter_that_does_not_exist_is_refused(contract, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        RobotActions(contract, **wrong)
