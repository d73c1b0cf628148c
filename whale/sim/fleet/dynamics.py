"""One step of the table-top world: a deterministic state machine in numpy, batched over scenes.

A step runs, in this order:
  1. motion in SUBSTEPS equal parts: the effector moves axis by axis, an axis that would enter the wall or leave the
     workspace stays (so the arm slides along); a held object or lid follows; free objects are pushed out of the way;
  2. gripper: the opening follows its command, at most GRIPPER_RATE per step, and stops on a held object;
  3. rotation: roll, pitch and yaw add up; roll and pitch are limited, yaw wraps;
  4. grasp or release: closed fingers take the nearest object in reach, or the lid's handle; open ones let go;
  5. free things: objects fall, the ball flies and rolls with friction and may drop into the bin, the lid falls to
     the side it leans to.
Away from contact and limits the pose is the sum of the actions, which is what retracing (Eq. 5) relies on; the wall
makes the outcome depend on the path.

Shapes: B batch, K objects, A = 7 action: dx dy dz (m), droll dpitch dyaw (rad), gripper command (1 = open).
"""

import numpy as np

from whale.sim.fleet import state as table
from whale.sim.fleet.state import SceneState

SUBSTEPS = 4
GRIPPER_RATE, HOLD_OPENING = 0.6, 0.35
EFFECTOR_RADIUS, BETWEEN_FINGERS = 0.018, 0.034
GRASP_REACH, HANDLE_REACH, HANDLE_SLIP = 0.036, 0.05, 0.09
CARRY_OFFSET = 0.02  # the fingertips hold an object this far above its bottom
FALL, LID_FALL, ROLL_FRICTION, KICK = 0.06, 0.25, 0.6, 0.7


def step(state: SceneState, action_BA: np.ndarray) -> SceneState:
    """The scenes one step later; the input is not changed. Actions are in canonical units (module docstring)."""
    new = state.copy()
    action_BA = np.asarray(action_BA, np.float64)
    for _ in range(SUBSTEPS):
        before_B2 = new.pose[:, :2].copy()
        new.pose[:, :3] = _advance(new.pose[:, :3], action_BA[:, :3] / SUBSTEPS, new.wall_x)
        _carry(new)
        _push(new, new.pose[:, :2] - before_B2)
    _move_gripper(new, action_BA[:, 6])
    _rotate(new, action_BA[:, 3:6])
    _release(new, state)
    _grasp(new)
    _kick_ball(new, state)
    _fall(new)
    _move_ball(new, state.held)
    _settle_lid(new)
    return new


def _move_gripper(state: SceneState, command_B: np.ndarray) -> None:
    floor_B = np.where(state.held != table.NOTHING, HOLD_OPENING, 0.0)
    target_B = np.clip(command_B, floor_B, 1.0)
    state.gripper += np.clip(target_B - state.gripper, -GRIPPER_RATE, GRIPPER_RATE)


def inside_wall(position_B3: np.ndarray, wall_x_B: np.ndarray, margin: float) -> np.ndarray:
    """(B,) bool: is a body of this half-width inside the wall?"""
    x_B, y_B, z_B = position_B3[:, 0], position_B3[:, 1], position_B3[:, 2]
    across_B = np.abs(x_B - wall_x_B) < table.WALL_HALF_THICKNESS + margin
    return across_B & (y_B > table.WALL_Y[0] - margin) & (y_B < table.WALL_Y[1] + margin) & (z_B < table.WALL_HEIGHT)


def _advance(position_B3: np.ndarray, delta_B3: np.ndarray, wall_x_B: np.ndarray) -> np.ndarray:
    """Move axis by axis; a blocked axis keeps its value."""
    moved_B3 = position_B3.copy()
    for axis in range(3):
        tried_B3 = moved_B3.copy()
        wanted_B = tried_B3[:, axis] + delta_B3[:, axis]
        tried_B3[:, axis] = np.clip(wanted_B, table.WORKSPACE_LOW[axis], table.WORKSPACE_HIGH[axis])
        blocked_B = inside_wall(tried_B3, wall_x_B, EFFECTOR_RADIUS)
        moved_B3 = np.where(blocked_B[:, None], moved_B3, tried_B3)
    return moved_B3


def _carry(state: SceneState) -> None:
    rows_B = np.nonzero((state.held >= 0) & (state.held < table.NUM_OBJECTS))[0]
    state.objects[rows_B, state.held[rows_B]] = state.pose[rows_B, :3] - [0.0, 0.0, CARRY_OFFSET]
    rows_B = np.nonzero(state.held == table.LID)[0]
    hinge_y_B = state.bin_position[rows_B, 1] + table.BIN_HALF
    rise_B = np.maximum(state.pose[rows_B, 2] - table.BIN_HEIGHT, 0.0)
    angle_B = np.arctan2(rise_B, hinge_y_B - state.pose[rows_B, 1])
    state.lid[rows_B] = np.clip(angle_B / table.LID_ANGLE, 0.0, 1.0)


def _push(state: SceneState, motion_B2: np.ndarray) -> None:
    """Free objects that the fingers run into give way, half along the motion and half along the contact normal."""
    offset_BK2 = state.objects[:, :, :2] - state.pose[:, None, :2]
    distance_BK = np.sqrt((offset_BK2**2).sum(-1)) + 1e-9
    depth_BK = table.OBJECT_RADIUS + EFFECTOR_RADIUS - distance_BK
    between_BK = (state.gripper > 0.5)[:, None] & (
        distance_BK < np.where(table.GRASPABLE, BETWEEN_FINGERS, table.OBJECT_RADIUS)
    )
    low_BK = state.pose[:, 2:3] < state.objects[:, :, 2] + table.OBJECT_HEIGHT
    contact_BK = (depth_BK > 0) & low_BK & ~between_BK & (state.held[:, None] != np.arange(table.NUM_OBJECTS))
    contact_BK[:, table.BALL] &= ~state.ball_in_bin
    contact_BK[:, table.PLATE] &= state.held == table.NOTHING  # what is put down on the plate does not push it
    speed_B1 = np.sqrt((motion_B2**2).sum(-1, keepdims=True))
    heading_B12 = (motion_B2 / np.maximum(speed_B1, 1e-9))[:, None]
    normal_BK2 = offset_BK2 / distance_BK[..., None]
    along_BK = np.maximum((normal_BK2 * heading_B12).sum(-1), 0.0)[..., None]
    way_BK2 = normal_BK2 + along_BK * heading_B12
    way_BK2 /= np.maximum(np.sqrt((way_BK2**2).sum(-1, keepdims=True)), 1e-9)
    shift_BK2 = np.where(contact_BK, depth_BK, 0.0)[..., None] * way_BK2
    _place(state, state.objects[:, :, :2] + shift_BK2, contact_BK)


def _place(state: SceneState, wanted_BK2: np.ndarray, which_BK: np.ndarray) -> None:
    """Move objects on the table, unless the wall is there; the bin and the table's edge hold them back."""
    for k in np.nonzero(which_BK.any(axis=0))[0]:
        wanted_B3 = np.concatenate([wanted_BK2[:, k], state.objects[:, k, 2:]], axis=1)
        away_B2 = wanted_B3[:, :2] - state.bin_position
        distance_B = np.sqrt((away_B2**2).sum(-1)) + 1e-9
        overlap_B = np.maximum(table.BIN_HALF + table.OBJECT_RADIUS[k] - distance_B, 0.0) * (
            wanted_B3[:, 2] < table.BIN_HEIGHT
        )
        wanted_B3[:, :2] += away_B2 / distance_B[:, None] * overlap_B[:, None]
        wanted_B3[:, :2] = np.clip(wanted_B3[:, :2], table.WORKSPACE_LOW[:2], table.WORKSPACE_HIGH[:2])
        free_B = which_BK[:, k] & ~inside_wall(wanted_B3, state.wall_x, table.OBJECT_RADIUS[k])
        state.objects[:, k] = np.where(free_B[:, None], wanted_B3, state.objects[:, k])


def _rotate(state: SceneState, turn_B3: np.ndarray) -> None:
    state.pose[:, 3:5] = np.clip(state.pose[:, 3:5] + turn_B3[:, :2], -table.TILT_LIMIT, table.TILT_LIMIT)
    yaw_B = state.pose[:, 5] + turn_B3[:, 2]
    inside_B = (yaw_B > -np.pi) & (yaw_B <= np.pi)
    state.pose[:, 5] = np.where(inside_B, yaw_B, np.pi - (np.pi - yaw_B) % (2 * np.pi))


def _release(state: SceneState, before: SceneState) -> None:
    slip_B3 = state.pose[:, :3] - table.lid_handle(state.bin_position, state.lid)
    slipped_B = (state.held == table.LID) & ((slip_B3**2).sum(-1) > HANDLE_SLIP**2)
    let_go_B = (state.held != table.NOTHING) & ((state.gripper > 0.5) | slipped_B)
    thrown_B1 = (let_go_B & (state.held == table.BALL))[:, None]
    state.ball_velocity = np.where(thrown_B1, state.pose[:, :2] - before.pose[:, :2], state.ball_velocity)
    state.held = np.where(let_go_B, table.NOTHING, state.held)


def _grasp(state: SceneState) -> None:
    closing_B = (state.held == table.NOTHING) & (state.gripper < 0.5)
    offset_BK3 = state.objects - state.pose[:, None, :3]
    distance_BK = np.sqrt((offset_BK3[..., :2] ** 2).sum(-1))
    height_BK = -offset_BK3[..., 2]  # of the fingertips above the object's bottom
    reach_BK = table.GRASPABLE & (distance_BK < GRASP_REACH) & (height_BK > -0.01) & (height_BK < table.OBJECT_HEIGHT)
    reach_BK[:, table.BALL] &= ~state.ball_in_bin
    nearest_B = np.where(reach_BK, distance_BK, np.inf).argmin(axis=1)
    state.held = np.where(closing_B & reach_BK.any(axis=1), nearest_B, state.held)
    gap_B3 = state.pose[:, :3] - table.lid_handle(state.bin_position, state.lid)
    takes_lid_B = closing_B & (state.held == table.NOTHING) & ((gap_B3**2).sum(-1) < HANDLE_REACH**2)
    state.held = np.where(takes_lid_B, table.LID, state.held)
    state.gripper = np.where(state.held != table.NOTHING, np.maximum(state.gripper, HOLD_OPENING), state.gripper)
    _carry(state)


def _kick_ball(state: SceneState, before: SceneState) -> None:
    """A pushed ball keeps part of its speed."""
    moved_B2 = state.objects[:, table.BALL, :2] - before.objects[:, table.BALL, :2]
    was_free_B = (before.held != table.BALL) & (state.held != table.BALL) & (moved_B2 != 0.0).any(axis=1)
    state.ball_velocity = np.where(was_free_B[:, None], KICK * moved_B2, state.ball_velocity)


def _fall(state: SceneState) -> None:
    free_BK = state.held[:, None] != np.arange(table.NUM_OBJECTS)
    free_BK[:, table.BALL] = False  # the ball has its own rule
    drop_BK = np.where(free_BK, np.minimum(state.objects[..., 2], FALL), 0.0)
    state.objects[..., 2] -= drop_BK
    _place(state, state.objects[:, :, :2].copy(), drop_BK > 0)  # nothing comes to rest inside the bin's sides


def _move_ball(state: SceneState, held_before_B: np.ndarray) -> None:
    free_B = (
        (state.held != table.BALL)
        & (held_before_B != table.BALL)
        & ~state.ball_in_bin
        & (state.objects[:, table.BALL, 0] < table.ABSENT_LIMIT)
    )
    height_B = state.objects[:, table.BALL, 2].copy()
    wanted_B2 = state.objects[:, table.BALL, :2] + state.ball_velocity
    over_B = np.sqrt(((wanted_B2 - state.bin_position) ** 2).sum(-1)) < table.BIN_HALF + 0.012
    drops_B = free_B & over_B & (state.lid > 0.5) & (height_B > 0.0) & (height_B - FALL < table.BIN_HEIGHT + 0.02)
    rolls_B = free_B & ~drops_B
    state.objects[:, table.BALL, 2] = np.where(rolls_B, np.maximum(height_B - FALL, 0.0), height_B)
    which_BK = np.zeros(state.objects.shape[:2], bool)
    which_BK[:, table.BALL] = rolls_B
    wanted_BK2 = state.objects[:, :, :2].copy()
    wanted_BK2[:, table.BALL] = wanted_B2
    before_B2 = state.objects[:, table.BALL, :2].copy()
    _place(state, wanted_BK2, which_BK)
    moved_B2 = state.objects[:, table.BALL, :2] - before_B2
    keep_B1 = np.where(height_B > FALL, 1.0, ROLL_FRICTION)[:, None]  # no friction in the air
    state.ball_velocity = np.where(rolls_B[:, None], keep_B1 * moved_B2, 0.0)
    state.ball_velocity[np.abs(state.ball_velocity).max(axis=1) < 0.004] = 0.0
    state.ball_in_bin |= drops_B
    bottom_B3 = np.concatenate([state.bin_position, np.full((len(free_B), 1), 0.01)], axis=1)
    state.objects[:, table.BALL] = np.where(state.ball_in_bin[:, None], bottom_B3, state.objects[:, table.BALL])


def _settle_lid(state: SceneState) -> None:
    fallen_B = np.clip(state.lid + np.where(state.lid > 0.5, LID_FALL, -LID_FALL), 0.0, 1.0)
    state.lid = np.where(state.held == table.LID, state.lid, fallen_B)
