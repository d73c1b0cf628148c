"""The second computations agree with the first ones, to which they owe nothing: operations and resizing."""

import cv2
import numpy as np
import pytest

from whale.audit.conversion.meaning import OPERATIONS
from whale.audit.conversion.pixels import decoded, difference, resized
from whale.data.spec.operations import OPERATIONS as FIRST
from whale.data.spec.operations import apply_operation
from whale.data.storage.images import encode, resize

RNG = np.random.default_rng(0)
QUATERNIONS = RNG.normal(size=(20, 4))
QUATERNIONS /= np.linalg.norm(QUATERNIONS, axis=1, keepdims=True)
ORDERS = ("xyz", "xzy", "yxz", "yzx", "zxy", "zyx")
CASES = [
    ("pick", {"start": 1, "stop": 3}, 4),
    ("fill", {"value": 2.0, "width": 5}, 3),
    ("scale", {"factor": 3.0, "offset": 1.0}, 3),
    ("scale", {"factor": [1.0, 2.0, 3.0], "offset": [0.0, 1.0, 2.0]}, 3),
    ("clip", {"low": -0.5, "high": 0.5}, 3),
    ("invert", {}, 2),
    ("binarize", {"open": 0.4, "closed": -0.4}, 2),
    ("relative_to_absolute", {"threshold": 0.6}, 2),
    ("relative_to_absolute", {"threshold": 9.0}, 2),
    ("difference", {}, 3),
    ("difference", {"wrap": True}, 3),
    ("difference", {"kind": "rotation"}, 3),
    ("difference", {"kind": "rotation"}, 4),
    ("difference", {"kind": "rotation", "form": "axis_angle"}, 3),
    ("difference", {"kind": "rotation", "form": "quat_wxyz"}, 4),
    ("to_euler", {"form": "quat_xyzw"}, 4),
    ("to_euler", {"form": "quat_wxyz"}, 4),
    ("to_euler", {"form": "axis_angle"}, 3),
    *[("to_euler", {"form": f"euler_{order}"}, 3) for order in ORDERS],
]


@pytest.mark.parametrize(("name", "arguments", "width"), CASES)
def test_both_ways_of_an_operation_agree(name, arguments, width):
    x_TD = QUATERNIONS if width == 4 else RNG.normal(size=(20, width))
    second, first = OPERATIONS[name](x_TD, **arguments), apply_operation(x_TD, name, arguments)
    undefined = 1 if name == "difference" else 0
    assert np.isnan(second).all(axis=1).sum() == undefined and len(second) == 20
    away = (second - first)[: 20 - undefined]
    np.testing.assert_allclose(away - 2 * np.pi * np.rint(away / (2 * np.pi)), 0.0, atol=1e-9)
    assert np.isnan(first[20 - undefined :]).all()


def test_every_operation_has_a_second_way():
    assert OPERATIONS.keys() == FIRST.keys() == {name for name, _, _ in CASES}


@pytest.mark.parametrize("size", [(64, 64), (48, 80), (33, 47), (16, 20), (20, 90), (90, 20), (32, 32)])
def test_resizing_by_matrices_is_the_stretch_of_ingest(size):
    image = cv2.GaussianBlur(RNG.integers(0, 255, (*size, 3), np.uint8), (3, 3), 0)
    assert np.abs(resized(image, 32).astype(int) - resize(image, 32)).max() <= 1


def test_decoders_agree_and_a_small_wrong_part_is_seen():
    image = cv2.GaussianBlur(RNG.integers(0, 255, (64, 64, 3), np.uint8), (9, 9), 0)
    again = decoded(encode(image, 95))
    assert difference(image, again)[0] < 2.0
    image[8:14, 8:14] = 255
    mean, block = difference(image, again)
    assert mean < 4.0 < 30.0 < block
    with pytest.raises(ValueError, match="no picture"):
        decoded(b"<html>")
