"""A small anti-aliased rasteriser: signed-distance shapes, painted onto many frames at once.

A shape's coverage is 1 inside, 0 outside and falls linearly over `edge` pixels across its border: a lens in soft
focus. Small shapes touch only a window around their centre, so that a frame costs what its shapes cover.

Shapes: F frames, H W pixels, C = 3 channels as planes (F, C, H, W) float32 in [0, 1]; h w a window. Points are (F, 2)
as x, y in pixels, y downwards, pixel centres at integers.
"""

import numpy as np

# Share of the image's height over which a border fades. Sharp borders cost a small tokenizer 2 to 3 dB.
SOFTNESS = 1 / 10


def coverage(distance: np.ndarray, edge: float) -> np.ndarray:
    """Signed distance in pixels (negative inside) -> opacity in [0, 1]."""
    return np.clip(0.5 - distance / np.float32(edge), 0.0, 1.0)


def capsule_distance(x: np.ndarray, y: np.ndarray, start_F2: np.ndarray, end_F2: np.ndarray, radius: float):
    """Signed distance to a thick line with round ends, at offsets x (.., w) and y (.., h, 1) of the frame's origin."""
    start, along = _spread(start_F2), _spread(end_F2 - start_F2)
    length = along[0] ** 2 + along[1] ** 2 + np.float32(1e-6)
    dx, dy = x - start[0], y - start[1]
    share = np.clip((dx * (along[0] / length) + dy * (along[1] / length)), 0.0, 1.0)
    return np.sqrt((dx - share * along[0]) ** 2 + (dy - share * along[1]) ** 2) - np.float32(radius)


def ellipse_distance(x: np.ndarray, y: np.ndarray, center_F2: np.ndarray, radii: tuple[float, float]):
    """Approximate signed distance to an axis-aligned ellipse (exact on its border, and for a circle)."""
    center = _spread(center_F2)
    scaled = np.sqrt(((x - center[0]) / np.float32(radii[0])) ** 2 + ((y - center[1]) / np.float32(radii[1])) ** 2)
    return (scaled - 1.0) * np.float32(min(radii))


def box_distance(x: np.ndarray, y: np.ndarray, center_F2: np.ndarray, half: tuple[float, float], corner: float):
    """Signed distance to an upright box with rounded corners of this radius."""
    center = _spread(center_F2)
    out_x = np.abs(x - center[0]) - np.float32(half[0] - corner)
    out_y = np.abs(y - center[1]) - np.float32(half[1] - corner)
    outside = np.sqrt(np.maximum(out_x, 0.0) ** 2 + np.maximum(out_y, 0.0) ** 2)
    return outside + np.minimum(np.maximum(out_x, out_y), 0.0) - np.float32(corner)


def _spread(point_F2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    point = np.asarray(point_F2, np.float32)
    return point[:, 0, None, None], point[:, 1, None, None]


class Canvas:
    """F frames under the brush; later strokes cover earlier ones."""

    def __init__(self, background_CHW: np.ndarray, num_frames: int):
        self.planes_FCHW = np.repeat(background_CHW[None].astype(np.float32), num_frames, axis=0)
        self.height, self.width = background_CHW.shape[1:]
        self.edge = SOFTNESS * self.height

    def paint(self, shape, center_F2: np.ndarray, reach: float, color: tuple, alpha: np.ndarray | float = 1.0) -> None:
        """Blend `color` where `shape(x, y)`, a signed distance, is inside; nothing beyond `reach` px of the center.

        alpha: opacity, one number or one per frame (0 leaves that frame as it was).
        """
        if not np.any(alpha):
            return
        rows_h, columns_w = self._window(center_F2, reach)
        x_Fw, y_Fh = columns_w.astype(np.float32)[:, None, :], rows_h.astype(np.float32)[:, :, None]
        opacity_Fhw = coverage(shape(x_Fw, y_Fh), self.edge) * np.asarray(alpha, np.float32).reshape(-1, 1, 1)
        flat_Fhw = rows_h[:, :, None] * self.width + columns_w[:, None, :]
        frame_F = np.arange(len(center_F2))[:, None, None]
        planes = self.planes_FCHW.reshape(len(center_F2), 3, -1)
        for channel in range(3):
            under_Fhw = planes[frame_F, channel, flat_Fhw]
            planes[frame_F, channel, flat_Fhw] = under_Fhw + opacity_Fhw * (np.float32(color[channel]) - under_Fhw)

    def paint_everywhere(self, distance_FHW: np.ndarray, color: tuple) -> None:
        """Blend `color` over whole frames, for shapes too large for a window."""
        opacity_FHW = coverage(distance_FHW, self.edge)
        for channel in range(3):
            plane_FHW = self.planes_FCHW[:, channel]
            plane_FHW += opacity_FHW * (np.float32(color[channel]) - plane_FHW)

    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """x (1, 1, W) and y (1, H, 1) of every pixel centre."""
        x, y = np.arange(self.width, dtype=np.float32), np.arange(self.height, dtype=np.float32)
        return x[None, None, :], y[None, :, None]

    def to_uint8(self) -> np.ndarray:
        """(F, H, W, C) uint8."""
        return np.ascontiguousarray(np.moveaxis(np.rint(self.planes_FCHW * 255.0).astype(np.uint8), 1, 3))

    def _window(self, center_F2: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
        """Row and column indices (F, h), (F, w) around each centre, shifted to lie inside the frame."""
        size = 2 * int(np.ceil(reach + self.edge / 2)) + 3
        spans = []
        for axis, limit in ((1, self.height), (0, self.width)):
            first = np.rint(np.clip(center_F2[:, axis], -1e4, 1e4)).astype(np.int64) - size // 2
            first = np.clip(first, 0, max(limit - size, 0))
            spans.append(first[:, None] + np.arange(min(size, limit)))
        return spans[0], spans[1]
