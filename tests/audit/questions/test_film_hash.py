"""The code of a film on episodes of simulated robots: copies of one are near, other episodes of its scene are not."""

import cv2
import numpy as np
import pytest
import simplejpeg

from whale.audit.questions.film_hash import CODE_BYTES, NEAR, cell_means, distances, film_code, frame_numbers
from whale.sim.fleet.collect import FleetConfig, generate_episodes
from whale.sim.fleet.robots import ROBOTS

SMALL = FleetConfig(
    train_episodes=12, val_episodes=1, test_episodes=1, min_steps=12, max_steps=16, train_shards=1,
    unseen_episodes_per_task=3, unseen_test_episodes_per_task=1, unseen_novel_episodes=1, unseen_min_steps=12,
    unseen_max_steps=16,
)  # fmt: skip


def bright(image, factor, offset):
    return np.clip(image * factor + offset, 0, 255).round().astype(np.uint8)


def encoded(image, quality):
    return simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=quality))


def resized(image, height, width):
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


COPIES = {
    "JPEG 40": lambda image: encoded(image, 40),
    "40 levels brighter": lambda image: bright(image, 1.0, 40),
    "15 % brighter": lambda image: bright(image, 1.15, 0),
    "30 % darker": lambda image: bright(image, 0.7, 0),
    "half the size": lambda image: resized(image, image.shape[0] // 2, image.shape[1] // 2),
    "another shape": lambda image: resized(image, 48, 48),
    "twice the size": lambda image: resized(image, 2 * image.shape[0], 2 * image.shape[1]),
    "all of it": lambda image: encoded(bright(resized(image, 48, 48), 1.1, 10), 60),
}


@pytest.fixture(scope="module", params=["fleet_absolute", "fleet_planar", "fleet_unseen"])
def films(request) -> list[list[np.ndarray]]:
    """Twelve episodes of one robot, the frames that a code looks at."""
    found = []
    for each in generate_episodes(ROBOTS[request.param], "train", SMALL, seed=0):
        (frames,) = [value for value in each["steps"]["observation"].values() if getattr(value, "ndim", 0) == 4]
        found.append([frames[number] for number in frame_numbers(len(frames))])
    return found


def test_copies_of_an_episode_are_near_and_other_episodes_of_the_robot_are_not(films):
    codes = np.stack([film_code(each) for each in films])
    for number, code in enumerate(codes):
        to = distances(code, codes)
        assert to[number] == 0 and np.delete(to, number).min() > NEAR
    for name, alter in COPIES.items():
        for number, frames in enumerate(films):
            to = distances(film_code([alter(each) for each in frames]), codes)
            assert to.argmin() == number and to[number] <= NEAR, f"{name}: {to[number]:.3f}"


def test_another_motion_in_the_same_scene_is_not_near(films):
    """Backwards, every frame is one of the same episode; mirrored, the scene itself is another."""
    codes = np.stack([film_code(each) for each in films])
    for number, frames in enumerate(films):
        assert distances(film_code(frames[::-1]), codes)[number] > NEAR
        assert distances(film_code([each[:, ::-1] for each in frames]), codes)[number] > NEAR


def test_cells_are_means_of_equal_parts_of_any_image():
    image = np.random.default_rng(0).uniform(0, 255, (24, 40))
    blocks = image.reshape(8, 3, 8, 5).mean(axis=(1, 3))
    np.testing.assert_allclose(cell_means(image, 8, 8), blocks)
    for height, width in ((5, 7), (9, 31)):
        odd = np.random.default_rng(1).uniform(0, 255, (height, width))
        assert cell_means(odd, 8, 9).mean() == pytest.approx(odd.mean())


def test_a_film_without_structure_has_an_empty_code_and_frames_cover_the_episode():
    code = film_code([np.full((16, 16, 3), 7, np.uint8)] * 8)
    assert code.shape == (CODE_BYTES,) and not code.any() and distances(code, code[None]) == 0
    assert frame_numbers(1) == [0] * 8 and frame_numbers(8) == list(range(8))
    assert frame_numbers(100)[0] == 0 and frame_numbers(100)[-1] == 99
