from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rlds_bytes import encode_example

from whale.data.ingest.sources.tf_example import ExampleError, parse_example

FEATURES = {
    "steps/action": np.array([1.5, -2.0, 3.25], np.float32),
    "steps/is_first": np.array([1, 0, -1, 300, 2**62, -(2**63)], np.int64),
    "steps/present/xyz": [b"", b"\xff\x00", b"text"],
}


def test_every_kind_of_list_comes_back():
    parsed = parse_example(encode_example(FEATURES))
    np.testing.assert_array_equal(parsed["steps/action"], FEATURES["steps/action"])
    np.testing.assert_array_equal(parsed["steps/is_first"], FEATURES["steps/is_first"])
    assert parsed["steps/present/xyz"] == FEATURES["steps/present/xyz"]


def test_unpacked_lists_mean_the_same_as_packed_ones():
    ints = bytes([0x08, 5, 0x08, 0xAC, 0x02])  # two fields 1 of wire type varint: 5, 300
    floats = b"".join(b"\x0d" + np.float32(x).tobytes() for x in (1.0, 2.0))  # two fields 1 of wire type fixed32

    def field(number, data):
        return bytes([number << 3 | 2, len(data)]) + data

    entries = b"".join(
        field(1, field(1, name) + field(2, field(kind, values)))
        for name, kind, values in ((b"i", 3, ints), (b"f", 2, floats))
    )
    parsed = parse_example(field(1, entries))
    assert parsed["i"].tolist() == [5, 300]
    assert parsed["f"].tolist() == [1.0, 2.0]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(encode_example(FEATURES)) - 1), st.integers(1, 255))
def test_a_damaged_message_is_parsed_or_refused_but_never_crashes(position, flip):
    data = bytearray(encode_example(FEATURES))
    data[position] ^= flip
    with suppress(ExampleError):
        parse_example(bytes(data))


def test_a_length_beyond_the_message_is_refused():
    with pytest.raises(ExampleError, match="beyond"):
        parse_example(b"\x0a\xff\xff\xff\xff\x0f" + b"x" * 10)


def test_integers_agree_with_a_slow_reference():
    values = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, 500)
    values[::3] >>= 40
    np.testing.assert_array_equal(parse_example(encode_example({"x": values}))["x"], values)
