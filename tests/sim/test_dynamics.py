"""The table-top world: closed forms of motion, contact and falling."""

import numpy as np

from whale.sim.fleet.dynamics import EFFECTOR_RADIUS, step
from whale.sim.fleet.state import (
    ABSENT,
    BALL,
    BLOCK,
    BOTTLE,
    LID,
    NOTHING,
    NUM_OBJECTS,
    PLATE,
    VECTOR_SIZE,
    WALL_HALF_THICKNESS,
    SceneState,
    lid_handle,
)


def empty_table(num_scenes: int = 1, tip=(0.0, -0.1, 0.12), wall_x: float = ABSENT) -> SceneState:
    objects = np.zeros((num_scenes, NUM_OBJECTS, 3))
    objects[..., :2] = ABSENT
    return SceneState(
        pose=np.tile([*tip, 0.0, 0.0, 0.0], (num_scenes, 1)),
        gripper=np.ones(num_scenes),
        held=np.full(num_scenes, NOTHING),
        objects=objects,
        ball_velocity=np.zeros((num_scenes, 2)),
        ball_in_bin=np.zeros(num_scenes, bool),
        lid=np.zeros(num_scenes),
        bin_position=np.tile([0.2, 0.1], (num_scenes, 1)),
        wall_x=np.full(num_scenes, wall_x),
    )


def run(state: SceneState, actions) -> SceneState:
    for action in np.atleast_2d(actions):
        state = step(state, np.tile(action, (len(state.gripper), 1)))
    return state


def move(x=0.0, y=0.0, z=0.0, gripper=1.0) -> list[float]:
    return [x, y, z, 0.0, 0.0, 0.0, gripper]


def test_without_contact_the_pose_is_the_sum_of_the_actions():
    action_TA = np.random.default_rng(0).uniform(-0.02, 0.02, (5, 7))
    end = run(empty_table(), action_TA)
    np.testing.assert_allclose(end.pose[0] - empty_table().pose[0], action_TA[:, :6].sum(0), atol=1e-12)


def test_step_does_not_change_its_input():
    state = empty_table()
    state.objects[0, BLOCK] = [0.04, -0.1, 0.0]
    before_BV = state.to_vector()
    run(state, move(0.05, 0.0, -0.05, 0.0))
    np.testing.assert_array_equal(state.to_vector(), before_BV)


def test_a_scene_evolves_alone_as_in_a_batch():
    rng = np.random.default_rng(1)
    batch = empty_table(4, tip=(0.0, -0.1, 0.03))
    batch.objects[:, BLOCK] = [0.05, -0.1, 0.0]
    action_B7 = rng.uniform(-0.06, 0.06, (4, 7))
    together = step(batch, action_B7).to_vector()
    alone = np.concatenate([step(batch.select(slice(b, b + 1)), action_B7[b : b + 1]).to_vector() for b in range(4)])
    np.testing.assert_array_equal(together, alone)


def test_the_wall_blocks_low_motion_and_lets_high_motion_pass():
    low = run(empty_table(tip=(-0.1, 0.1, 0.05), wall_x=0.0), [move(0.06)] * 4)
    high = run(empty_table(tip=(-0.1, 0.1, 0.15), wall_x=0.0), [move(0.06)] * 4)
    assert low.pose[0, 0] <= -WALL_HALF_THICKNESS - EFFECTOR_RADIUS
    np.testing.assert_allclose(high.pose[0, 0], 0.14)


def test_retracing_ends_in_the_same_pose_without_a_wall_and_elsewhere_with_one():
    over_the_wall_TA = np.array([move(z=0.06), move(0.06, z=0.06), move(0.06), move(0.06, z=-0.06), move(z=-0.06)])
    mean_TA = np.tile(over_the_wall_TA.mean(0), (5, 1))
    free, wall = (empty_table(tip=(-0.09, 0.1, 0.05), wall_x=x) for x in (ABSENT, 0.0))
    np.testing.assert_allclose(run(free, over_the_wall_TA).pose, run(free, mean_TA).pose, atol=1e-12)
    assert run(wall, over_the_wall_TA).pose[0, 0] - run(wall, mean_TA).pose[0, 0] > 0.1


def test_closed_fingers_push_an_object_ahead_and_high_ones_pass_over_it():
    state = empty_table(tip=(-0.1, -0.1, 0.02))
    state.gripper[:] = 0.0
    state.objects[0, PLATE] = [0.0, -0.1, 0.0]
    pushed = run(state, [move(0.05, gripper=0.0)] * 4)
    assert pushed.objects[0, PLATE, 0] > pushed.pose[0, 0] + 0.05
    state.pose[0, 2] = 0.15
    np.testing.assert_array_equal(run(state, [move(0.05, gripper=0.0)] * 4).objects, state.objects)


def test_a_grasped_object_follows_and_falls_when_released():
    state = empty_table(tip=(0.0, -0.1, 0.03))
    state.objects[0, BOTTLE] = [0.01, -0.1, 0.0]
    grasped = run(state, [move(gripper=0.0), move(0.05, z=0.06, gripper=0.0)])
    assert grasped.held[0] == BOTTLE
    np.testing.assert_allclose(grasped.objects[0, BOTTLE, :2], grasped.pose[0, :2])
    dropped = run(grasped, [move()] * 3)
    assert dropped.held[0] == NOTHING and dropped.objects[0, BOTTLE, 2] == 0.0


def test_the_lid_follows_the_handle_and_stays_open_past_the_middle():
    state = empty_table()
    state.pose[:, :3] = lid_handle(state.bin_position, state.lid)
    state = run(state, move(gripper=0.0))
    assert state.held[0] == LID
    for opening in (0.2, 0.4, 0.6, 0.8):
        target_3 = lid_handle(state.bin_position, np.array([opening]))[0]
        state = run(state, [*(target_3 - state.pose[0, :3]), 0.0, 0.0, 0.0, 0.0])
        np.testing.assert_allclose(state.lid[0], opening, atol=0.02)
    assert run(state, [move()] * 3).lid[0] == 1.0


def test_a_ball_let_go_in_motion_flies_on_into_the_open_bin_but_not_into_a_closed_one():
    state = empty_table(tip=(0.08, 0.1, 0.15))
    state.held[:], state.gripper[:] = BALL, 0.35
    state.objects[0, BALL] = [0.08, 0.1, 0.13]
    for lid, caught in ((1.0, True), (0.0, False)):
        state.lid[:] = lid
        assert run(state, [move(0.06), move(), move()]).ball_in_bin[0] == caught


def test_the_state_vector_restores_the_state():
    state = run(empty_table(3), [move(0.05, 0.02, -0.03, 0.0)] * 2)
    vector_BV = state.to_vector()
    assert vector_BV.shape == (3, VECTOR_SIZE)
    restored = SceneState.from_vector(vector_BV)
    np.testing.assert_array_equal(restored.to_vector(), vector_BV)
    assert restored.held.dtype == state.held.dtype and restored.ball_in_bin.dtype == bool
