"""Draw scenes: a camera, a palette and a state give uint8 frames.

The projection is oblique: depth and height both move a point up the image, so one picture shows x, y and z; a soft
shadow on the table tells them apart. Far things are painted first. Flat colours and soft edges on purpose: a small
tokenizer must be able to learn this world in a minute.

Shapes: F frames (any batch of scenes), H W image, C = 3.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from whale.sim.fleet import state as table
from whale.sim.fleet.raster import Canvas, box_distance, capsule_distance, ellipse_distance
from whale.sim.fleet.state import SceneState

CHUNK = 32  # frames painted together: their planes stay in the processor's cache

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Camera:
    """Where a robot's camera looks from: `zoom` in widths of the 0.64 m table, offsets in shares of the image."""

    height: int
    width: int
    zoom: float = 1.0
    offset: tuple[float, float] = (0.0, 0.0)
    mirror: bool = False
    depth: float = 0.78  # pixels up per metre of y, relative to x
    lift: float = 0.62  # pixels up per metre of z, relative to x

    @property
    def scale(self) -> float:
        """Pixels per metre along x."""
        return self.zoom * self.width / 0.64

    @property
    def stretch(self) -> float:
        """Vertical pixels per horizontal pixel: all robots show the same table, whatever their image's shape."""
        return self.height / self.width

    def project(self, position_F3: np.ndarray) -> np.ndarray:
        """(F, 3) metres -> (F, 2) pixels."""
        side = -1.0 if self.mirror else 1.0
        x = (0.5 + self.offset[0]) * self.width - 0.5 + side * self.scale * position_F3[:, 0]
        up = self.depth * position_F3[:, 1] + self.lift * position_F3[:, 2]
        y = (0.64 + self.offset[1]) * self.height - 0.5 - self.scale * self.stretch * up
        return np.stack([x, y], axis=1)


@dataclass(frozen=True)
class Palette:
    """What differs between robots; objects look alike everywhere."""

    backdrop: Color
    table: Color
    arm: Color
    joint: Color


COLORS: dict[int, Color] = {
    table.BOTTLE: (0.20, 0.62, 0.36),
    table.BALL: (0.90, 0.30, 0.24),
    table.BLOCK: (0.20, 0.42, 0.82),
    table.PLATE: (0.97, 0.97, 0.95),
    table.CUP: (0.62, 0.36, 0.72),
    table.CONE: (0.96, 0.62, 0.16),
}
FINGER: Color = (0.28, 0.29, 0.33)
BIN_SIDE, BIN_INSIDE, BIN_LID, HANDLE = (0.50, 0.37, 0.26), (0.24, 0.18, 0.14), (0.66, 0.50, 0.34), (0.16, 0.17, 0.20)
WALL_SIDE, WALL_TOP = (0.44, 0.47, 0.53), (0.56, 0.60, 0.66)
SHADOW, SHADOW_ALPHA = (0.18, 0.16, 0.16), 0.18
ARM_BASE, ARM_LINK = (0.0, 0.34, 0.30), 0.40  # where the arm is mounted, and the length of each of its two links


def render(state: SceneState, camera: Camera, palette: Palette) -> np.ndarray:
    """(F, H, W, 3) uint8 RGB, one frame per scene of the batch; a pure function of its arguments."""
    background_CHW = _background(camera, palette)
    frames = [
        _Painter(state.select(slice(start, start + CHUNK)), camera, palette, background_CHW).frames()
        for start in range(0, len(state.gripper), CHUNK)
    ]
    return np.concatenate(frames) if frames else np.zeros((0, camera.height, camera.width, 3), np.uint8)


def _background(camera: Camera, palette: Palette) -> np.ndarray:
    """(C, H, W): a backdrop above the table, both with a slight vertical gradient."""
    edge = camera.project(np.array([[0.0, 0.27, 0.0]]))[0, 1]
    rows_H1 = np.arange(camera.height, dtype=np.float32)[:, None]
    is_table_H1 = np.clip((rows_H1 - edge) / 2.0 + 0.5, 0.0, 1.0)
    light_H1 = 0.94 + 0.06 * rows_H1 / camera.height
    planes = [(b + (t - b) * is_table_H1) * light_H1 for b, t in zip(palette.backdrop, palette.table, strict=True)]
    return np.stack([np.repeat(plane, camera.width, axis=1) for plane in planes]).astype(np.float32)


class _Painter:
    """Paints one chunk of scenes; each method paints one thing, `frames` says in which order."""

    def __init__(self, state: SceneState, camera: Camera, palette: Palette, background_CHW: np.ndarray):
        self.state, self.camera, self.palette = state, camera, palette
        self.canvas = Canvas(background_CHW, len(state.gripper))
        self.sx, self.sy = camera.scale, camera.scale * camera.stretch  # pixels per metre
        self.mean = float(np.sqrt(self.sx * self.sy))

    def frames(self) -> np.ndarray:
        self._plate()
        self._bin_inside()
        self._ball(self.state.ball_in_bin)
        self._bin_front()
        self._lid()
        self._wall()
        self._shadows()
        self._cone()
        self._cup()
        self._block()
        self._bottle()
        self._ball(~self.state.ball_in_bin)
        self._arm()
        self._hand()
        return self.canvas.to_uint8()

    def _point(self, position_F3: np.ndarray, offset: tuple = (0.0, 0.0, 0.0)) -> np.ndarray:
        return self.camera.project(position_F3 + np.asarray(offset))

    def _ellipse(self, center_F2: np.ndarray, radii: tuple[float, float], color: Color, alpha=1.0) -> None:
        """Radii in metres, along the image's axes."""
        radii_px = (radii[0] * self.sx, radii[1] * self.sy)
        shape = partial(ellipse_distance, center_F2=center_F2, radii=radii_px)
        self.canvas.paint(shape, center_F2, max(radii_px) + 1, color, alpha)

    def _box(self, center_F2: np.ndarray, half: tuple[float, float], corner: float, color: Color, alpha=1.0) -> None:
        half_px = (half[0] * self.sx, half[1] * self.sy)
        corner_px = min(corner * self.mean, *half_px)
        shape = partial(box_distance, center_F2=center_F2, half=half_px, corner=corner_px)
        self.canvas.paint(shape, center_F2, max(half_px) + 1, color, alpha)

    def _capsule(self, start_F2: np.ndarray, end_F2: np.ndarray, radius: float, color: Color, alpha=1.0) -> None:
        shape = partial(capsule_distance, start_F2=start_F2, end_F2=end_F2, radius=radius * self.mean)
        reach = float(np.abs(end_F2 - start_F2).max()) / 2 + radius * self.mean + 1
        self.canvas.paint(shape, (start_F2 + end_F2) / 2, reach, color, alpha)

    def _present(self, k: int) -> np.ndarray:
        return (self.state.objects[:, k, 0] < table.ABSENT_LIMIT).astype(np.float32)

    def _plate(self) -> None:
        center_F2, alpha = self._point(self.state.objects[:, table.PLATE]), self._present(table.PLATE)
        self._ellipse(
            self._point(self.state.objects[:, table.PLATE], (0, -0.012, 0)), (0.072, 0.056), SHADOW, 0.25 * alpha
        )
        self._ellipse(center_F2, (0.070, 0.054), COLORS[table.PLATE], alpha)
        self._ellipse(center_F2, (0.044, 0.033), (0.84, 0.87, 0.90), alpha)

    def _bin_center(self) -> np.ndarray:
        flat = np.zeros((len(self.state.gripper), 1))
        return np.concatenate([self.state.bin_position, flat], axis=1)

    def _bin_inside(self) -> None:
        low_F2 = self._point(self._bin_center(), (0, 0.012, table.BIN_HEIGHT))
        self._box(self._point(self._bin_center(), (0, -0.03, 0)), (0.078, 0.045), 0.04, SHADOW, 0.25)
        self._box(low_F2, (0.068, 0.046), 0.014, BIN_SIDE)
        self._box(low_F2, (0.056, 0.036), 0.010, BIN_INSIDE)

    def _bin_front(self) -> None:
        self._box(
            self._point(self._bin_center(), (0, -table.BIN_HALF, table.BIN_HEIGHT / 2)), (0.068, 0.036), 0.012, BIN_SIDE
        )

    def _lid(self) -> None:
        """A thick bar from the hinge to the handle, as wide as the bin: its screen height follows the angle."""
        hinge_F3 = self._bin_center() + np.array([0.0, table.BIN_HALF, table.BIN_HEIGHT])
        handle_F3 = table.lid_handle(self.state.bin_position, self.state.lid)
        hinge_F2, handle_F2 = self.camera.project(hinge_F3), self.camera.project(handle_F3)
        middle_F2 = (hinge_F2 + handle_F2) / 2
        half_F = np.maximum(np.abs(hinge_F2 - handle_F2)[:, 1] / 2, 0.014 * self.sy).astype(np.float32)[:, None, None]
        x_F, y_F = middle_F2[:, 0, None, None].astype(np.float32), middle_F2[:, 1, None, None].astype(np.float32)
        half_x = np.float32(0.070 * self.sx)

        def shape(x, y):
            return np.maximum(np.abs(x - x_F) - half_x, np.abs(y - y_F) - half_F)

        self.canvas.paint(shape, middle_F2, max(float(half_F.max()), float(half_x)) + 1, BIN_LID)
        self._box(handle_F2, (0.026, 0.013), 0.012, HANDLE)

    def _wall(self) -> None:
        alpha = (self.state.wall_x < table.ABSENT_LIMIT).astype(np.float32)
        along = (table.WALL_Y[0] + table.WALL_Y[1]) / 2
        foot_F3 = np.stack(
            [self.state.wall_x, np.full_like(self.state.wall_x, table.WALL_Y[0]), 0 * self.state.wall_x], 1
        )
        half_y = self.camera.depth * (table.WALL_Y[1] - table.WALL_Y[0]) / 2
        top_F2 = self._point(foot_F3, (0, along - table.WALL_Y[0], table.WALL_HEIGHT))
        self._box(top_F2, (table.WALL_HALF_THICKNESS + 0.006, half_y), 0.008, WALL_TOP, alpha)
        front_F2 = self._point(foot_F3, (0, 0, table.WALL_HEIGHT / 2))
        half_z = self.camera.lift * table.WALL_HEIGHT / 2
        self._box(front_F2, (table.WALL_HALF_THICKNESS + 0.006, half_z), 0.006, WALL_SIDE, alpha)

    def _shadows(self) -> None:
        for k in (table.BOTTLE, table.BALL, table.BLOCK, table.CUP, table.CONE):
            floor_F3 = self.state.objects[:, k] * [1.0, 1.0, 0.0]
            hidden = self.state.ball_in_bin if k == table.BALL else False
            alpha = SHADOW_ALPHA * self._present(k) * ~np.asarray(hidden)
            self._ellipse(self._point(floor_F3, (0.006, 0, 0)), (0.046, 0.028), SHADOW, alpha)
        floor_F3 = self.state.pose[:, :3] * [1.0, 1.0, 0.0]
        self._ellipse(self._point(floor_F3), (0.060, 0.036), SHADOW, 0.9 * SHADOW_ALPHA)

    def _bottle(self) -> None:
        at, alpha = self.state.objects[:, table.BOTTLE], self._present(table.BOTTLE)
        self._capsule(self._point(at, (0, 0, 0.10)), self._point(at, (0, 0, 0.15)), 0.015, (0.14, 0.44, 0.26), alpha)
        self._capsule(self._point(at, (0, 0, 0.022)), self._point(at, (0, 0, 0.09)), 0.034, COLORS[table.BOTTLE], alpha)

    def _block(self) -> None:
        at, alpha = self.state.objects[:, table.BLOCK], self._present(table.BLOCK)
        self._box(self._point(at, (0, 0, 0.052)), (0.038, 0.040), 0.010, COLORS[table.BLOCK], alpha)
        self._box(self._point(at, (0, 0.0, 0.094)), (0.038, 0.016), 0.010, (0.42, 0.60, 0.92), alpha)

    def _ball(self, shown_F: np.ndarray) -> None:
        alpha = self._present(table.BALL) * shown_F
        self._ellipse(
            self._point(self.state.objects[:, table.BALL], (0, 0, 0.05)), (0.040, 0.040), COLORS[table.BALL], alpha
        )
        shine_F2 = self._point(self.state.objects[:, table.BALL], (-0.010, 0, 0.072))
        self._ellipse(shine_F2, (0.016, 0.014), (0.98, 0.60, 0.52), alpha)

    def _cup(self) -> None:
        at, alpha = self.state.objects[:, table.CUP], self._present(table.CUP)
        self._box(self._point(at, (0, 0, 0.05)), (0.034, 0.036), 0.016, COLORS[table.CUP], alpha)
        self._ellipse(self._point(at, (0, 0, 0.10)), (0.034, 0.016), (0.80, 0.62, 0.88), alpha)

    def _cone(self) -> None:
        at, alpha = self.state.objects[:, table.CONE], self._present(table.CONE)
        self._ellipse(self._point(at), (0.040, 0.026), COLORS[table.CONE], alpha)
        self._capsule(self._point(at, (0, 0, 0.02)), self._point(at, (0, 0, 0.13)), 0.018, COLORS[table.CONE], alpha)

    def _arm(self) -> None:
        """Two links in the image plane; the elbow bends outwards as far as the links' length asks."""
        wrist_F3 = self.state.pose[:, :3] + [0.0, 0.0, 0.13]
        base_F2 = self.camera.project(np.broadcast_to(ARM_BASE, wrist_F3.shape))
        wrist_F2 = self.camera.project(wrist_F3)
        gap_F2 = (wrist_F2 - base_F2) / [self.sx, self.sy]
        length_F = np.sqrt((gap_F2**2).sum(-1)) + 1e-6
        bend_F = np.sqrt(np.maximum(ARM_LINK**2 / 4 - length_F**2 / 4, 0.03**2))
        normal_F2 = np.stack([gap_F2[:, 1], -gap_F2[:, 0]], axis=1) / length_F[:, None]
        elbow_F2 = base_F2 + (gap_F2 / 2 + normal_F2 * bend_F[:, None]) * [self.sx, self.sy]
        x, y = self.canvas.grid()
        self.canvas.paint_everywhere(capsule_distance(x, y, base_F2, elbow_F2, 0.052 * self.mean), self.palette.arm)
        self.canvas.paint_everywhere(capsule_distance(x, y, elbow_F2, wrist_F2, 0.042 * self.mean), self.palette.arm)
        self._ellipse(elbow_F2, (0.040, 0.040), self.palette.joint)

    def _hand(self) -> None:
        """Palm and two fingers: apart by the opening, turned by yaw; tilt shortens them."""
        tip_F3, (roll_F, pitch_F, yaw_F) = self.state.pose[:, :3], self.state.pose[:, 3:].T
        palm_F2 = self._point(tip_F3, (0, 0, 0.10))
        wrist_F2 = self._point(tip_F3, (0, 0, 0.13))
        spread_F = (0.012 + 0.042 * self.state.gripper) * np.cos(roll_F)
        side_F3 = np.stack([np.cos(yaw_F), np.sin(yaw_F), 0.4 * np.sin(roll_F)], axis=1) * spread_F[:, None]
        drop_F3 = np.stack([0 * pitch_F, 0 * pitch_F, 0.085 * (1.0 - np.cos(pitch_F))], axis=1)
        for sign in (-1.0, 1.0):
            knuckle_F2 = self._point(tip_F3 + sign * side_F3, (0, 0, 0.09))
            self._capsule(palm_F2, knuckle_F2, 0.017, FINGER)
            self._capsule(knuckle_F2, self._point(tip_F3 + sign * side_F3 + drop_F3), 0.014, FINGER)
        self._capsule(palm_F2, wrist_F2, 0.034, self.palette.joint)
