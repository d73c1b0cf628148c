import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from whale.data.loading.decoded_frames import DecodedFrames

FRAMES, SHAPE = 10, (4, 4, 3)


class Episode:
    """Frames whose every pixel says which frame of which episode it is; counts what is decoded."""

    def __init__(self, number: int = 0):
        self.number, self.decoded = number, []
        self.num_at_work = self.most_at_work = 0

    def expected(self, start: int, stop: int) -> np.ndarray:
        values = np.arange(start, stop, dtype=np.uint8) + np.uint8(self.number * FRAMES)
        return np.broadcast_to(values[:, None, None, None], (stop - start, *SHAPE))

    def __call__(self, first: int, into: np.ndarray) -> None:
        self.num_at_work += 1
        self.most_at_work = max(self.most_at_work, self.num_at_work)
        self.decoded += range(first, first + len(into))
        into[...] = 255  # as a decoder that clears its output first
        time.sleep(0.001)
        into[...] = self.expected(first, first + len(into))
        self.num_at_work -= 1


def read(frames: DecodedFrames, episode: Episode, start: int, stop: int) -> bool:
    """Whether frames start..stop-1 are kept; if so they are right."""
    place = frames.place(episode.number, FRAMES, start, stop, episode)
    if place is None:
        return False
    out = np.zeros((stop - start, *SHAPE), np.uint8)
    frames.copy(place + np.arange(stop - start), out)
    np.testing.assert_array_equal(out, episode.expected(start, stop))
    return True


def test_a_frame_is_decoded_once():
    frames, episode = DecodedFrames(FRAMES, SHAPE), Episode()
    for start, stop in [(2, 5), (2, 5), (3, 4), (7, 8), (4, 9), (0, 10), (0, 10)]:
        assert read(frames, episode, start, stop)
    assert episode.decoded == [2, 3, 4, 7, 5, 6, 8, 0, 1, 9]


@pytest.mark.parametrize(("capacity", "num_kept"), [(0, 0), (FRAMES - 1, 0), (2 * FRAMES + 5, 2)])
def test_only_as_many_episodes_as_fit_are_kept_and_those_stay(capacity, num_kept):
    frames, episodes = DecodedFrames(capacity, SHAPE), [Episode(number) for number in range(4)]
    for _ in range(3):
        assert [read(frames, episode, 0, FRAMES) for episode in episodes] == [True] * num_kept + [False] * (
            4 - num_kept
        )
    assert [len(episode.decoded) for episode in episodes] == [FRAMES] * num_kept + [0] * (4 - num_kept)
    assert frames.nbytes == capacity * 48


def test_what_failed_to_decode_is_tried_again():
    frames, episode = DecodedFrames(FRAMES, SHAPE), Episode()

    def damaged(first: int, into: np.ndarray) -> None:
        into[...] = 255
        raise ValueError("damaged")

    read(frames, episode, 0, 3)
    with pytest.raises(ValueError, match="damaged"):
        frames.place(0, FRAMES, 2, 6, damaged)
    assert read(frames, episode, 0, 8)


def test_frames_of_several_episodes_are_copied_at_once_and_may_repeat():
    frames, episodes = DecodedFrames(3 * FRAMES, SHAPE), [Episode(number) for number in range(3)]
    first = [frames.place(each.number, FRAMES, 4, 8, each) for each in episodes]
    out = np.zeros((2, 3, *SHAPE), np.uint8)
    frames.copy(np.array([[first[2], first[2] + 1, first[2] + 1], [first[0] + 3, first[1], first[1] + 2]]), out)
    assert out[..., 0, 0, 0].tolist() == [[24, 25, 25], [7, 14, 16]]


def test_many_threads_read_the_same_frames_and_each_is_decoded_once():
    frames, episodes = DecodedFrames(2 * FRAMES, SHAPE), [Episode(0), Episode(1)]
    rng = np.random.default_rng(0)
    windows = [sorted(rng.choice(FRAMES + 1, 2, replace=False).tolist()) for _ in range(400)]
    begin = threading.Barrier(4)

    def work(mine: list) -> bool:
        begin.wait()
        return all(read(frames, episodes[i % 2], *window) for i, window in enumerate(mine))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, [windows[i::4] for i in range(4)]))
    for episode in episodes:
        assert sorted(episode.decoded) == list(range(FRAMES)) and episode.most_at_work == 1
