import numpy as np

from whale.evaluation.video.stability import flicker


def test_a_token_that_changes_counts_where_its_patch_stands_still_and_the_frame_was_recorded():
    frames = np.full((2, 3, 8, 8, 3), 100, np.uint8)
    frames[0, 1, :4, :4] = 200  # patch 0 moves, and back
    tokens = np.zeros((2, 3, 4), np.int64)
    tokens[0, 1] = [1, 1, 0, 0]  # patch 0 rightly, patch 1 flickers there and back
    tokens[1, 2] = 5  # of a padded frame
    counted = np.array([[True, True], [True, False]])
    changed, still = flicker(tokens, frames, counted)
    assert changed.tolist() == [2, 0] and still.tolist() == [6, 4]
