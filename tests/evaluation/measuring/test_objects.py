import numpy as np

from whale.evaluation.measuring.objects import areas, counted, hue_borders, matched, object_metrics
from whale.evaluation.measuring.rollouts.heldout import Windows

RED, ORANGE, BLUE, GREY = (230, 77, 61), (245, 158, 41), (51, 107, 209), (120, 120, 124)


def scene(*things, size=64):
    """Squares (color, x, y, side) on grey, with noise that JPEG would leave."""
    frame = np.full((size, size, 3), GREY, np.int16)
    for color, x, y, side in things:
        frame[y : y + side, x : x + side] = color
    frame += np.random.default_rng(0).integers(-4, 5, frame.shape).astype(np.int16)
    return frame.clip(0, 255).astype(np.uint8)


FULL = scene((RED, 5, 5, 8), (ORANGE, 30, 5, 8), (BLUE, 5, 40, 10))
BORDERS = hue_borders(FULL[None])


def kept(other) -> int:
    return matched(areas(FULL, BORDERS), areas(other, BORDERS), 64)


def test_colours_are_told_apart_and_grey_is_none():
    found = areas(FULL, BORDERS)
    assert len(found) == 3 and len(set(found.hue.tolist())) == 3
    np.testing.assert_allclose(found.center[found.size.argmax()], [9.5, 44.5], atol=0.5)
    assert len(areas(scene(), BORDERS)) == 0


def test_a_colour_that_ends_where_the_circle_of_hues_closes_is_one():
    frames = np.stack([scene(((230, 20, 20 + 10 * step), 5, 5, 20), (BLUE, 40, 40, 10)) for step in range(3)])
    borders = hue_borders(frames)
    hues = {areas(frame, borders).hue[areas(frame, borders).center[:, 0] < 30][0] for frame in frames}
    assert len(hues) == 1


def test_what_changes_colour_vanishes_moves_far_or_swells_is_not_kept():
    assert kept(FULL) == 3
    assert kept(scene((ORANGE, 5, 5, 8), (ORANGE, 30, 5, 8), (BLUE, 5, 40, 10))) == 2
    assert kept(scene((RED, 5, 5, 8), (BLUE, 5, 40, 10))) == 2
    assert kept(scene((RED, 5, 5, 8), (ORANGE, 42, 5, 8), (BLUE, 5, 40, 10))) == 2
    assert kept(scene((RED, 5, 5, 8), (ORANGE, 30, 5, 8), (BLUE, 5, 40, 16))) == 2
    assert kept(scene((RED, 9, 5, 8), (ORANGE, 30, 8, 7), (BLUE, 5, 40, 10))) == 3


def test_two_imagined_ones_do_not_both_match_one_recorded_and_are_added():
    two = scene((RED, 5, 5, 8), (RED, 5, 15, 8), (ORANGE, 30, 5, 8), (BLUE, 5, 40, 10))
    assert kept(two) == 3
    windows = Windows(np.stack([[FULL, FULL]]), np.zeros((1, 1, 7), np.float32), np.zeros(1, int), ["a+0"])
    frames = {"copy_last": FULL[None, None], "full": two[None, None]}
    found = object_metrics(BORDERS, frames, "full", windows, [1], np.random.default_rng(0), 100)
    assert found["h1.objects_kept"] == 1 and found["h1.objects_added"] == 1 / 3
    assert found["h1.objects_kept_copy_last"] == 1 and found["h1.objects_kept_above_copy_last"] == 0


def test_without_colour_there_is_a_status_and_no_number():
    grey = scene()
    windows = Windows(np.stack([[grey, grey]]), np.zeros((1, 1, 7), np.float32), np.zeros(1, int), ["a+0"])
    frames = {"copy_last": grey[None, None], "full": FULL[None, None]}
    found = object_metrics(BORDERS, frames, "full", windows, [1], np.random.default_rng(0), 100)
    assert found == {"h1.objects_status": "no coloured areas"}


def test_areas_are_counted_frame_by_frame():
    fewer = scene((RED, 5, 5, 8), (BLUE, 5, 40, 10))
    imagined = np.stack([[FULL, fewer], [FULL, FULL]])
    recorded, shown, kept = counted(BORDERS, np.stack([[FULL, FULL], [fewer, scene()]]), imagined)
    np.testing.assert_array_equal(recorded, [[3, 3], [2, 0]])
    np.testing.assert_array_equal(shown, [[3, 2], [3, 3]])
    np.testing.assert_array_equal(kept, [[3, 2], [2, 0]])
