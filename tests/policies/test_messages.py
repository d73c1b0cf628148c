"""Messages of openpi's protocol: arrays survive, and nothing but numbers and text ever comes out of one."""

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whale.common.errors import BadDataError
from whale.common.limits import MESSAGE_BYTES
from whale.policies.messages import pack, unpack


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8", "bool", "float16", ">f4"])
def test_arrays_of_numbers_come_back_as_they_were(dtype):
    value = {"a": np.arange(24).reshape(2, 3, 4).astype(dtype), "text": "pick", "b": [np.float32(1.5), 2, None]}
    found = unpack(pack(value), "here")
    assert np.array_equal(found["a"], value["a"]) and found["a"].dtype == value["a"].dtype
    assert found["text"] == "pick" and found["b"] == [1.5, 2, None]


def test_the_bytes_are_those_of_openpis_own_client():
    client = pytest.importorskip("openpi_client.msgpack_numpy", reason="openpi-client pins numpy<2")
    value = {"image": np.zeros((2, 2, 3), np.uint8), "prompt": "x", "n": np.float32(3)}
    assert client.packb(value) == pack(value)
    assert np.array_equal(client.unpackb(pack(value))["image"], value["image"])


def array(**changes) -> bytes:
    fields = {b"__ndarray__": True, b"data": b"\0" * 8, b"dtype": "<f4", b"shape": [2]}
    return msgpack.packb(fields | {key.encode(): value for key, value in changes.items()})


HOSTILE = {
    "objects": array(dtype="|O"),
    "objects of objects": array(dtype="O"),
    "fields": array(dtype="i4,O"),
    "text": array(dtype="<U2"),
    "a type that is no text": array(dtype=[["a", "O"]]),
    "a shape that lies": array(shape=[3]),
    "a shape that multiplies to nothing": array(shape=[0, 2**40]),
    "a negative shape": array(shape=[-1]),
    "a huge shape": array(shape=[2**62]),
    "too many axes": array(shape=[1] * 40),
    "data that are no bytes": array(data="12345678"),
    "nothing": b"",
    "no message": b"\xc1",
    "half a message": array()[:-3],
    "two messages": array() + array(),
    "an extension": msgpack.packb(msgpack.ExtType(5, b"cos\nsystem\n")),
    "depth": b"\x91" * 5000 + b"\x00",
    "a map that claims to be huge": b"\xdf\xff\xff\xff\xff",
    "a list that claims to be huge": b"\xdd\xff\xff\xff\xff",
    "bytes that claim to be huge": b"\xc6\xff\xff\xff\xff",
    "text that is no utf-8": b"\xa2\xff\xfe",
    "a number of objects": msgpack.packb({b"__npgeneric__": True, b"data": "x", b"dtype": "<f4"}),
    "an unhashable key": b"\x81\x90\x00",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_message_is_refused_with_its_source(name):
    with pytest.raises(BadDataError, match="ws://here"):
        unpack(HOSTILE[name], "ws://here")


def test_a_message_that_is_too_large_is_not_even_read():
    with pytest.raises(BadDataError, match="too large"):
        unpack(b"\0" * (MESSAGE_BYTES + 1), "here")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_give_plain_values_or_an_error_of_ours(payload):
    try:
        found = unpack(payload, "here")
    except BadDataError:
        return
    assert isinstance(found, int | float | bool | str | bytes | list | dict | np.ndarray | np.generic | None.__class__)


@pytest.mark.parametrize("value", [object(), {"a": np.array([object()])}, np.array(["x"]), {1j: 2}])
def test_what_is_no_number_or_text_is_not_sent(value):
    with pytest.raises(BadDataError, match="cannot be sent"):
        pack(value)
