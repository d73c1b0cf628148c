"""The rasteriser against a slow reference, and what must be seen in a frame."""

from dataclasses import replace

import numpy as np
import pytest

from whale.sim.fleet.dynamics import step
from whale.sim.fleet.raster import Canvas, box_distance, capsule_distance, coverage, ellipse_distance
from whale.sim.fleet.render import CHUNK, render
from whale.sim.fleet.robots import ROBOTS
from whale.sim.fleet.state import SceneState
from whale.sim.fleet.tasks import TASKS, sample_scene


def scene(task: str = "move_bottle", seed: int = 0) -> SceneState:
    return sample_scene(TASKS[task], np.random.default_rng(seed))


def look(state: SceneState, name: str = "fleet_relabel") -> np.ndarray:
    return render(state, ROBOTS[name].camera, ROBOTS[name].palette)


def test_a_circle_covers_its_area_and_blends_only_at_its_edge():
    canvas = Canvas(np.zeros((3, 40, 40), np.float32), 1)
    center_F2 = np.array([[19.3, 20.6]])
    canvas.paint(lambda x, y: ellipse_distance(x, y, center_F2, (9.0, 9.0)), center_F2, 10, (1.0, 1.0, 1.0))
    plane_HW = canvas.planes_FCHW[0, 0]
    y, x = np.mgrid[:40, :40]
    distance_HW = np.hypot(x - 19.3, y - 20.6) - 9.0
    assert plane_HW.sum() == pytest.approx(np.pi * 81, rel=0.03)  # a fading edge adds a little
    assert (plane_HW[distance_HW > canvas.edge / 2] == 0).all() and (
        plane_HW[distance_HW < -canvas.edge / 2] == 1
    ).all()
    assert plane_HW.min() >= 0 and plane_HW.max() <= 1


@pytest.mark.parametrize("shape", ["capsule", "box"])
def test_windowed_paint_equals_painting_the_whole_frame(shape):
    center_F2 = np.array([[3.0, 5.0], [20.0, 31.5], [60.0, -9.0]])  # inside, at the border, outside
    distance = {
        "capsule": lambda x, y: capsule_distance(x, y, center_F2 - 3.0, center_F2 + 3.0, 2.5),
        "box": lambda x, y: box_distance(x, y, center_F2, (5.0, 3.0), 1.0),
    }[shape]
    windowed, whole = (Canvas(np.full((3, 32, 40), 0.5, np.float32), 3) for _ in range(2))
    windowed.paint(distance, center_F2, 7.0, (1.0, 0.2, 0.0))
    whole.paint_everywhere(distance(*whole.grid()), (1.0, 0.2, 0.0))
    np.testing.assert_allclose(windowed.planes_FCHW, whole.planes_FCHW, atol=1e-6)


def test_coverage_is_half_on_the_border():
    np.testing.assert_allclose(coverage(np.array([-2.0, 0.0, 2.0], np.float32), edge=2.0), [1.0, 0.5, 0.0])


def test_frames_do_not_depend_on_the_batch_they_are_drawn_in():
    states = SceneState.stack([scene(seed=seed) for seed in range(CHUNK + 3)])
    alone_FHWC = np.concatenate([look(states.select(slice(f, f + 1))) for f in range(CHUNK + 3)])
    np.testing.assert_array_equal(look(states), alone_FHWC)


def test_an_opening_gripper_changes_pixels_near_the_fingers_only():
    open_state, closed = scene(), scene()
    closed.gripper[:] = 0.0
    changed_HW = np.abs(look(open_state)[0].astype(int) - look(closed)[0]).max(-1) > 30
    assert changed_HW.sum() >= 15
    tip_2 = ROBOTS["fleet_relabel"].camera.project(closed.pose[:, :3])[0]
    y, x = np.nonzero(changed_HW)
    assert np.hypot(x - tip_2[0], y - tip_2[1]).max() < 16


def test_a_full_step_moves_the_gripper_by_three_to_eight_pixels():
    state = scene()
    moved = step(state, np.array([[0.05, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]]))
    for robot in ROBOTS.values():
        points = [robot.camera.project(s.pose[:, :3])[0] for s in (state, moved)]
        assert 3.0 < np.abs(points[1] - points[0]).max() * 64 / robot.camera.width < 8.0


def test_a_larger_picture_shows_the_same_table():
    robot = ROBOTS["fleet_relabel"]
    camera = replace(robot.camera, height=128, width=128)
    large_HWC = render(scene(), camera, robot.palette)[0].astype(float)
    small_HWC = large_HWC.reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(small_HWC - look(scene())[0]).mean() < 4.0
