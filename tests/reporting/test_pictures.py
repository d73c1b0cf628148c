import cv2
import numpy as np
from PIL import Image, ImageSequence

from whale.reporting.pictures import EMPTY, GAP, WARM, filmstrip, gif, png, side_by_side


def _frames(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 8, 6, 3), dtype=np.uint8)


def test_png_is_lossless():
    image = _frames(1)[0]
    decoded = cv2.imdecode(np.frombuffer(png(image), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decoded[:, :, ::-1], image)


def test_a_filmstrip_places_each_frame_after_the_lead_and_leaves_gaps_transparent():
    frames = _frames(3)
    strip = filmstrip(frames, lead=1)
    assert strip.shape == (8, 4 * (6 + GAP) - GAP, 4)
    assert (strip[:, : 6 + GAP, 3] == 0).all()
    np.testing.assert_array_equal(strip[:, 2 * (6 + GAP) : 2 * (6 + GAP) + 6, :3], frames[1])


def test_the_bar_is_as_long_as_the_level_and_absent_where_undefined():
    frames = _frames(3)
    movie = side_by_side(frames, frames, np.array([0.0, 0.5, np.nan]), scale=1)
    bar = movie[:, -1]
    assert [(row == WARM).all(axis=-1).sum() for row in bar] == [0, 7, 0]
    assert (bar[2] == EMPTY).all()


def test_a_gif_keeps_every_frame_of_few_colours_exactly_and_its_bytes():
    frames = np.stack([np.full((8, 8, 3), level, np.uint8) for level in (0, 90, 255)])
    payload = gif(frames)
    assert payload == gif(frames)
    import io

    read = [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(Image.open(io.BytesIO(payload)))]
    np.testing.assert_array_equal(read, frames)
