import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whale.common.errors import ConfigError
from whale.data.segments.grid import (
    SegmentConfig,
    SegmentIndex,
    cut_actions,
    grid_digest,
    grid_of,
    normalize_actions,
    pad_frames,
    segment_num_frames,
    segment_starts,
)

grids = st.sampled_from([(8, 2), (16, 2), (8, 1), (8, 8), (1, 1), (6, 3)])
small = settings(max_examples=60, deadline=None, derandomize=True)


def test_starts_are_phase_after_phase_and_the_tail_keeps_two_frames():
    assert segment_starts(18, window=8, phases=2).tolist() == [0, 8, 16, 4, 12]
    assert segment_starts(17, window=8, phases=2).tolist() == [0, 8, 4, 12]
    assert segment_starts(1, window=8, phases=2).tolist() == []
    assert segment_starts(0, window=8, phases=2).tolist() == []


@small
@given(st.integers(0, 60), grids)
def test_every_transition_occurs_once_in_phase_0_and_at_most_once_per_phase(num_frames, grid):
    window, phases = grid
    starts = segment_starts(num_frames, window, phases)
    lengths = segment_num_frames(num_frames, starts, window)
    phase_of = starts // (window // phases) % phases
    for phase in range(phases):
        chosen = [(s, n) for s, n, p in zip(starts, lengths, phase_of, strict=True) if p == phase]
        transitions = [t for s, n in chosen for t in range(s, s + n - 1)]
        assert len(set(transitions)) == len(transitions)
        if phase == 0:
            assert sorted(transitions) == list(range(max(num_frames - 1, 0)))


@small
@given(st.lists(st.integers(0, 40), max_size=8), grids)
def test_the_index_numbers_segments_as_a_loop_over_episodes_does(lengths, grid):
    config = SegmentConfig(window=grid[0], phases=grid[1])
    index = SegmentIndex(lengths, config)
    slow = [(e, int(s)) for e, f in enumerate(lengths) for s in segment_starts(f, *grid)]
    assert [index.start_of(i) for i in range(index.num_segments)] == slow
    assert index.num_frames().tolist() == [min(grid[0] + 1, lengths[e] - s) for e, s in slow]
    assert index.frames_left().tolist() == [lengths[e] - s for e, s in slow]
    with pytest.raises(IndexError):
        index.locate(len(slow))


def test_padding_repeats_the_last_frame_and_is_masked():
    frames = np.arange(3)[:, None]
    assert pad_frames(frames, 5)[:, 0].tolist() == [0, 1, 2, 2, 2]
    action_FA = np.ones((3, 7), np.float32)
    action_TA, valid_T = cut_actions(action_FA, np.array([True, False, True]), start=0, window=4)
    assert valid_T.tolist() == [True, False, False, False], "the last frame has no successor"
    assert action_TA[3].tolist() == [0.0] * 7 and action_TA.dtype == np.float32


def test_a_full_segment_keeps_every_valid_action():
    _, valid_T = cut_actions(np.ones((9, 7)), np.ones(9, bool), start=0, window=8)
    assert valid_T.all()


def test_an_invalid_nan_does_not_reach_a_model():
    action = np.full((2, 7), np.nan, np.float32)
    action[0] = 0.5
    normalized = normalize_actions(lambda a: 2 * a, action, np.array([True, False]))
    assert normalized.tolist() == [[1.0] * 7, [0.0] * 7] and normalized.dtype == np.float32


def test_the_grid_digest_depends_on_the_cut_and_the_episodes():
    cuts = [SegmentConfig(window=8, phases=2), SegmentConfig(window=8, phases=1), SegmentConfig(window=4, phases=2)]
    digests = {grid_digest(grid_of(cut, shards)) for cut in cuts for shards in ("a", "b")}
    assert len(digests) == 6


def test_phases_that_do_not_divide_the_window_are_refused():
    with pytest.raises(ConfigError, match="not a multiple"):
        SegmentConfig.parse({"window": 8, "phases": 3}, file="params.yaml")
