import threading

import numpy as np
import pytest

from whale.data.decoded_frames import DecodedFrames

FRAMES, SIDE = 10, 4
EPISODE_BYTES = FRAMES * SIDE * SIDE * 3


class Episode:
    """Frames whose every pixel says which frame of which episode it is; counts what is decoded."""

    def __init__(self, number: int = 0):
        self.number, self.decoded = number, []

    def expected(self, start: int, stop: int) -> np.ndarray:
        values = np.arange(start, stop, dtype=np.uint8) + np.uint8(self.number * FRAMES)
        return np.broadcast_to(values[:, None, None, None], (stop - start, SIDE, SIDE, 3))

    def __call__(self, first: int, into: np.ndarray) -> None:
        self.decoded += range(first, first + len(into))
        into[...] = self.expected(first, first + len(into))


def read(frames: DecodedFrames, episode: Episode, start: int, stop: int) -> None:
    out = np.zeros((stop - start, SIDE, SIDE, 3), np.uint8)
    frames.read_into(episode.number, FRAMES, start, out, episode)
    np.testing.assert_array_equal(out, episode.expected(start, stop))


def test_a_frame_is_decoded_once():
    frames, episode = DecodedFrames(EPISODE_BYTES), Episode()
    for start, stop in [(2, 5), (2, 5), (3, 4), (4, 7), (0, 10), (0, 10)]:
        read(frames, episode, start, stop)
    assert sorted(set(episode.decoded)) == list(range(FRAMES))
    assert episode.decoded[:5] == [2, 3, 4, 5, 6]  # of frames 4 to 6, two were missing
    assert len(episode.decoded) == 5 + FRAMES  # between frames 0 and 9, all are decoded in one go


@pytest.mark.parametrize(("limit", "num_kept"), [(0, 0), (EPISODE_BYTES - 1, 0), (2 * EPISODE_BYTES + 5, 2)])
def test_only_as_many_episodes_as_fit_are_kept_and_those_stay(limit, num_kept):
    frames, episodes = DecodedFrames(limit), [Episode(number) for number in range(4)]
    for _ in range(3):
        for episode in episodes:
            read(frames, episode, 0, FRAMES)
    times = [len(episode.decoded) // FRAMES for episode in episodes]
    assert times == [1] * num_kept + [3] * (4 - num_kept)


def test_what_failed_to_decode_is_tried_again():
    frames, episode = DecodedFrames(EPISODE_BYTES), Episode()

    def damaged(first: int, into: np.ndarray) -> None:
        into[...] = 255
        raise ValueError("damaged")

    read(frames, episode, 0, 3)
    with pytest.raises(ValueError, match="damaged"):
        frames.read_into(0, FRAMES, 2, np.empty((4, SIDE, SIDE, 3), np.uint8), damaged)
    read(frames, episode, 0, 8)


def test_many_threads_read_the_same_frames():
    frames, episode = DecodedFrames(EPISODE_BYTES), Episode()
    rng = np.random.default_rng(0)
    windows = [sorted(rng.choice(FRAMES + 1, 2, replace=False)) for _ in range(200)]
    failures: list[BaseException] = []

    def work(mine: list) -> None:
        try:
            for start, stop in mine:
                read(frames, episode, int(start), int(stop))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(windows[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
