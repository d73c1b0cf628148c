"""A drive is the world's own rollout, one step at a time, and a step back forgets what came after."""

from dataclasses import replace

import numpy as np
import pytest
import tiny_models
import tiny_world

import whale
from whale.common.errors import ConfigError, RefusedError
from whale.common.limits import DRIVE_STEPS
from whale.models.world.learned import LearnedWorld
from whale.play.drive import FEWEST, Drive, motion
from whale.play.messages import Step
from whale.policies.behavior import behavior
from whale.policies.protocol import from_callable

STILL = {"by": "keys", "axes": [0.0] * 6}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    found = tiny_world.write_bundle(tmp_path_factory.mktemp("world"), seen=True)
    return whale.load(found, checking="off")


def drive_of(world, number=0, **contenders):
    return Drive(world, world.starts[number], contenders)


def step(drive, **values):
    return drive.step(Step.parse({"do": "step", "drive": 1, **values}, file="test"))


def test_recorded_actions_give_the_frames_and_uncertainties_of_imagine(world):
    start = world.starts[0]
    for doubt in ("entropy", "retracing"):
        drive = drive_of(world)
        moments = [step(drive, by="recorded", doubt=doubt) for _ in range(10)]
        expected = world.imagine(start.frames, start.actions, horizon=10, uncertainty=doubt)
        assert np.array_equal([each.frame for each in moments], expected.frames)
        np.testing.assert_allclose([each.uncertainty for each in moments], expected.uncertainty, atol=1e-6)


def test_drawn_frames_are_the_same_for_the_same_seed_and_step_and_others_for_another(world):
    def drawn(seed):
        drive = Drive(world, world.starts[0], {}, seed)
        return drive, [step(drive, by="recorded", frames="drawn", doubt="retracing") for _ in range(6)]

    drive, first = drawn(0)
    likely = [step(other, by="recorded").frame for other in [drive_of(world)] for _ in range(6)]
    assert not np.array_equal([each.frame for each in first], likely)
    assert not np.array_equal([each.frame for each in first], [each.frame for each in drawn(1)[1]])
    drive.rewind(2)
    again = [step(drive, by="recorded", frames="drawn", doubt="retracing") for _ in range(4)]
    assert np.array_equal([each.frame for each in again], [each.frame for each in first[2:]])
    assert [each.uncertainty for each in again] == pytest.approx([each.uncertainty for each in first[2:]])


@pytest.mark.parametrize("z", ["frozen", "off"])
def test_a_z_is_set_as_imagine_sets_it_beyond_the_window_too(world, z):
    start, drive = world.starts[1], drive_of(world, 1)
    frames = [step(drive, by="recorded", z=z).frame for _ in range(10)]
    assert np.array_equal(frames, world.imagine(start.frames, start.actions, horizon=10, z=z).frames)


def test_a_drawn_z_is_a_code_by_its_number_and_differs_from_another(world):
    codes = []
    for number in (0, 0, 1):
        drive = drive_of(world)
        codes.append(step(drive, **STILL, z="drawn", z_seed=number).state.fixed_z.reshape(16, 16).numpy())
    assert np.array_equal(codes[0], codes[1]) and not np.array_equal(codes[0], codes[2])
    assert all(np.array_equal(each.sum(axis=1), np.ones(16)) and each.max() == 1 for each in codes)


def test_back_at_an_inferred_z_the_window_is_inferred_again(world):
    drive = drive_of(world)
    for number in range(7):
        step(drive, by="recorded", z="off" if number < 6 else "prior")
    assert drive.moments[-1].state.fixed_z is None and drive.moments[-1].state.z[:, -1].any()


def test_a_step_back_leads_to_the_same_frames_again_and_to_others_by_other_actions(world):
    drive = drive_of(world)
    first = [step(drive, by="recorded", doubt="entropy") for _ in range(9)]
    for to in (7, 3, 0):
        assert np.array_equal(drive.rewind(to).frame, ([world.starts[0].frames[-1]] + [e.frame for e in first])[to])
        again = [step(drive, by="recorded", doubt="entropy") for _ in range(9 - to)]
        assert [each.uncertainty for each in again] == pytest.approx([each.uncertainty for each in first[to:]])
        assert np.array_equal([each.frame for each in again], [each.frame for each in first[to:]])
    drive.rewind(3)
    left = step(drive, by="keys", axes=[1.0, 0, 0, 0, 0, 0]).action
    drive.rewind(3)
    right = step(drive, by="keys", axes=[-1.0, 0, 0, 0, 0, 0]).action
    assert left[0] == pytest.approx(motion(world)[0]) and right[0] == pytest.approx(-motion(world)[0])


def test_the_recorded_frame_stands_beside_and_ends_with_its_episode(world):
    drive, start = drive_of(world), world.starts[0]
    assert np.array_equal(drive.recorded(), start.frames[-1])
    for number in range(len(start.actions)):
        step(drive, by="recorded")
        assert np.array_equal(drive.recorded(), start.following[number])
    with pytest.raises(ConfigError, match="recorded actions end"):
        step(drive, by="recorded")
    step(drive, **STILL)
    assert drive.recorded() is None


def test_a_policy_drives_as_it_does_in_trials_and_begins_again_after_somebody_else(world):
    own = behavior("behavior", world.model.behavior, world.contract.normalizer, world.window)
    drive = drive_of(world, behavior=own)
    actor = own.begin([tiny_beginning(world)])
    for _ in range(3):
        seen = observation(world, drive)
        assert np.array_equal(step(drive, by="behavior").action, actor.act([seen], [0])[0][0].astype(np.float32))
    step(drive, **STILL)
    fresh = own.begin([tiny_beginning(world)])
    seen = observation(world, drive)
    assert np.array_equal(step(drive, by="behavior").action, fresh.act([seen], [0])[0][0].astype(np.float32))


def tiny_beginning(world):
    from whale.policies.protocol import Beginning

    return Beginning(0, 0, world.starts[0].frames[-1], world.starts[0].instruction)


def observation(world, drive):
    from whale.policies.protocol import Observation

    return Observation(drive.moments[-1].frame, world.starts[0].instruction, drive.steps)


def test_a_policy_in_degrees_is_noticed_and_one_of_another_layout_refused(world):
    actions = iter(tiny_world.recorded_actions(100) * [1, 1, 1, 57.3, 57.3, 57.3, 1])
    drive = drive_of(world, odd=from_callable("odd", lambda _: next(actions)[None]),
                     short=from_callable("short", lambda _: np.zeros((1, 6))))  # fmt: skip
    for _ in range(FEWEST):
        assert drive.notice() == ""
        step(drive, by="odd")
    assert "rotations look like degrees" in drive.notice()
    with pytest.raises(RefusedError, match="action dimensions"):
        step(drive, by="short")
    with pytest.raises(ConfigError, match="no such policy"):
        step(drive, by="nobody")
    with pytest.raises(ConfigError, match="one axis"):
        step(drive, by="keys", axes=[0.0])


def test_the_limit_is_the_calibrated_one_of_the_step_and_method(world):
    drive = drive_of(world)
    assert drive.limit() is None
    for number in (1, 2, 3):
        step(drive, **STILL, doubt="entropy")
        assert drive.limit() == pytest.approx(world.trust_limit(0.8, "entropy").at(number))
    step(drive, **STILL)
    assert drive.limit() is None


def test_a_full_drive_says_so(world, monkeypatch):
    drive = drive_of(world)
    drive.moments += drive.moments[:1] * DRIVE_STEPS
    with pytest.raises(ConfigError, match="full"):
        step(drive, **STILL)


def test_a_world_that_remembers_more_than_its_window_drives_as_it_imagines(world):
    model = LearnedWorld(world.model.tokenizer, tiny_models.behavior(memory=12).eval(), world.model.dynamics,
                         world.window, normalize=world.model.normalize)  # fmt: skip
    longer, start = replace(world, model=model), world.starts[2]
    drive = drive_of(longer, 2)
    frames = [step(drive, by="recorded").frame for _ in range(13)]
    assert np.array_equal(frames, longer.imagine(start.frames, start.actions, horizon=13).frames)
