import pickle
import struct
import zlib

import cv2
import numpy as np
import pytest
import simplejpeg

from whale.data.storage.images import ImageError, canonical_frame, decode, encode, image_size

SETTINGS = {"resolution": 32, "quality": 95}


def picture(height=32, width=32):
    ramp = np.linspace(0, 200, height)[:, None, None] * np.ones((1, width, 1))
    return np.concatenate([ramp, 0.5 * ramp, 255 - ramp], axis=2).astype(np.uint8)


def png(image):
    return cv2.imencode(".png", image[:, :, ::-1])[1].tobytes()


def test_a_jpeg_that_fits_keeps_its_bytes():
    data = encode(picture(), 80)
    assert canonical_frame(data, hw=[32, 32], **SETTINGS) == data


@pytest.mark.parametrize("height, width", [(64, 48), (16, 20), (32, 64)])
def test_other_sizes_are_stretched_to_a_square(height, width):
    out = canonical_frame(png(picture(height, width)), hw=[height, width], **SETTINGS)
    assert image_size(out) == (32, 32)
    assert np.abs(decode(out).astype(int) - picture()).max() < 20


def test_bgr_frames_come_out_rgb():
    out = canonical_frame(png(picture()[:, :, ::-1]), hw=[32, 32], channels="bgr", **SETTINGS)
    assert np.abs(decode(out).astype(int) - picture()).max() < 8


def test_rotated_frames_come_out_upright():
    out = canonical_frame(png(picture()[::-1, ::-1]), hw=[32, 32], rotate=180, **SETTINGS)
    assert np.abs(decode(out).astype(int) - picture()).max() < 8


def test_equal_input_gives_equal_bytes():
    data = png(picture(50, 40))
    assert canonical_frame(data, hw=[50, 40], **SETTINGS) == canonical_frame(data, hw=[50, 40], **SETTINGS)


def bomb(side):
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + bytes(20)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a" + bytes(50),
        encode(picture(), 90)[:40],
        encode(picture(), 90)[:-2],
        png(picture())[:-30],
        simplejpeg.encode_jpeg(picture()[:, :, :1].copy(), colorspace="GRAY", colorsubsampling="Gray"),
        cv2.imencode(".png", np.zeros((8, 8, 3), np.uint16))[1].tobytes(),
        bomb(60_000),
        bomb(0),
    ],
    ids=["empty", "gif", "cut header", "cut end", "cut png", "grey", "16 bit", "bomb", "0 x 0"],
)
def test_what_is_no_whole_8_bit_colour_image_is_a_decode_error(data):
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert caught.value.reason == "decode_error"


def test_another_size_than_the_spec_promises_is_a_shape_mismatch():
    with pytest.raises(ImageError) as caught:
        canonical_frame(encode(picture(), 90), hw=[64, 64], **SETTINGS)
    assert caught.value.reason == "shape_mismatch"


def test_an_image_error_survives_the_trip_between_processes():
    error = ImageError("broken", found=1)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_jpeg_that_passes_through_is_refused_exactly_when_it_does_not_decode():
    rng = np.random.default_rng(11)
    good = simplejpeg.encode_jpeg(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8), quality=90)
    mutants = [good[: int(cut)] for cut in rng.integers(20, len(good), 60)]
    for _ in range(240):
        damaged = bytearray(good)
        for position in rng.integers(0, len(good), int(rng.integers(1, 4))):
            damaged[int(position)] ^= int(rng.integers(1, 256))
        mutants.append(bytes(damaged))
    options = {"resolution": 32, "quality": 95, "hw": (32, 32)}
    verdicts = []
    for data in [good, *mutants]:
        decodes = outcome(lambda data=data: decode(data))
        passes = outcome(lambda data=data: canonical_frame(data, **options))
        if image_size_or_none(data) == (32, 32):
            assert passes == decodes
            verdicts.append(decodes)
    assert verdicts[0] and verdicts.count(False) > 50


def outcome(act) -> bool:
    try:
        act()
    except ImageError:
        return False
    return True


def image_size_or_none(data):
    try:
        return image_size(data)
    except ImageError:
        return None
