"""Messages of openpi's protocol: arrays survive, and nothing but numbers and text ever comes out of one."""

import ast
import itertools
from pathlib import Path

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limited import run_limited

from whale.common.errors import BadDataError, BeyondLimitError
from whale.common.limits import MESSAGE_BYTES, MESSAGE_VALUES, NESTING
from whale.policies.messages import pack, unpack

ROOT = Path(__file__).parents[2]


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
    "an empty extension that would hide what follows": b"\x92\xc7\x00\x05\x9a" + b"\xdd\x00\x01\x86\xa0" * 10,
    "a fixed extension that would": b"\x92\xd4\x05\x00\x9a" + b"\xdd\x00\x01\x86\xa0" * 10,
    "a long empty extension that would": b"\x92\xc9\x00\x00\x00\x00\x05\x9a" + b"\xdd\x00\x01\x86\xa0" * 10,
    "a byte that begins nothing, and would": b"\x92\xc1\x9a" + b"\xdd\x00\x01\x86\xa0" * 10,
    "depth": b"\x91" * 5000 + b"\x00",
    "a level too many": b"\x91" * (NESTING + 1) + b"\x00",
    "a level too many, of maps": b"\x81\x00" * (NESTING + 1) + b"\x00",
    "a value too many": b"\xdd" + (MESSAGE_VALUES).to_bytes(4, "big") + b"\x90" * MESSAGE_VALUES,
    "lists in lists that all claim to be large": b"\xdd\x00\x01\x86\x00" * 1000,
    "many lists of empty lists": b"\xdd\x00\x00\x00\xff" + b"".join([b"\xdc\xff\xff" + b"\x90" * 65535] * 255),
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


@pytest.mark.parametrize("name", ["lists in lists that all claim to be large", "many lists of empty lists"])
def test_a_message_that_would_swell_takes_no_memory_and_no_time(tmp_path, name):
    """16 MB of empty lists take a gigabyte, 5 KB of lists in lists reserve nearly as much."""
    (tmp_path / "bomb").write_bytes(HOSTILE[name])
    imports = "from whale.policies.messages import unpack; bomb = open('bomb', 'rb').read()"
    said = run_limited(imports, 'unpack(bomb, "ws://here")', memory=32 << 20, seconds=5, cwd=tmp_path)
    assert said.startswith("BeyondLimitError: a message of too many values")
    for word in ("ws://here", "values so far", f"<= {MESSAGE_VALUES} values, {NESTING} levels", "remedy"):
        assert word in said


def test_as_many_values_and_levels_as_are_allowed_are_read():
    flat = b"\xdd" + (MESSAGE_VALUES - 1).to_bytes(4, "big") + b"\x00" * (MESSAGE_VALUES - 1)
    assert len(unpack(flat, "here")) == MESSAGE_VALUES - 1
    assert unpack(b"\x91" * NESTING + b"\x00", "here")[0]


def script_part(name: str) -> dict:
    """A function of scripts/serve_lerobot.py and its constants, without LeRobot, which that imports first."""
    tree = ast.parse((ROOT / "scripts/serve_lerobot.py").read_text())
    kept = [node for node in tree.body if isinstance(node, ast.Assign) or getattr(node, "name", None) == name]
    found = {"msgpack": msgpack, "np": np, "itertools": itertools}
    exec(compile(ast.Module(kept, []), "serve_lerobot.py", "exec"), found)
    return found


def test_the_script_that_serves_lerobots_policies_has_our_limit_and_reads_what_our_client_sends():
    found = script_part("unpacked")
    assert found["MAX_MESSAGE_BYTES"] == MESSAGE_BYTES
    sent = {"observation/image": np.zeros((4, 4, 3), np.uint8), "prompt": "go", "state": np.arange(3.0)}
    back = found["unpacked"](pack(sent))
    assert back["prompt"] == "go" and all(
        np.array_equal(back[key], sent[key]) for key in ("observation/image", "state")
    )


@pytest.mark.parametrize("name", ["many lists of empty lists", "lists in lists that all claim to be large", "objects"])
def test_and_it_refuses_a_message_that_swells(name):
    with pytest.raises(ValueError):
        script_part("unpacked")["unpacked"](HOSTILE[name])


PLAIN = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary()
)
TREES = st.recursive(PLAIN, lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside), max_leaves=20)


@settings(max_examples=60, deadline=None)
@given(TREES, st.sampled_from([0, 31, 32, 255, 256, 65_535, 65_536]))
def test_whatever_kind_of_value_stands_first_all_that_follows_is_counted(tree, length):
    """The count walks over every kind of header: behind it, a list that is too long is still found."""
    value = [tree, b"x" * length, "y" * length, [0] * (length % 300)]
    assert unpack(pack(value), "here") == value
    swollen = b"\x92" + pack(value) + b"\xdd" + MESSAGE_VALUES.to_bytes(4, "big")
    with pytest.raises(BeyondLimitError):
        unpack(swollen, "here")


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
