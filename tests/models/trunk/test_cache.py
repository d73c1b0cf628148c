import pytest
import torch

from whale.models.trunk.cache import TemporalCache
from whale.models.trunk.st_transformer import STTransformer, STTransformerConfig

BATCH, FRAMES, TOKENS, WIDTH = 2, 7, 4, 16


def trunk() -> STTransformer:
    torch.manual_seed(0)
    return STTransformer(STTransformerConfig(num_layers=4, num_heads=2, d_model=WIDTH)).double().eval()


def frames(seed: int = 1, batch: int = BATCH) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, FRAMES, TOKENS, WIDTH, generator=generator, dtype=torch.float64)


@torch.no_grad()
def extended(model: STTransformer, x: torch.Tensor, cuts: list[int]) -> tuple[torch.Tensor, TemporalCache]:
    """`x` fed piece by piece."""
    cache, parts = model.empty_cache(len(x), TOKENS, FRAMES), []
    for start, stop in zip([0, *cuts], [*cuts, x.shape[1]], strict=True):
        out, cache = model.extend(x[:, start:stop], cache)
        parts.append(out)
    return torch.cat(parts, dim=1), cache


@pytest.mark.parametrize("cuts", [[], [1, 2, 3, 4, 5, 6], [3], [1, 5]])
def test_extending_by_any_pieces_is_the_whole_pass(cuts):
    model, x = trunk(), frames()
    torch.testing.assert_close(extended(model, x, cuts)[0], model(x), rtol=0, atol=1e-12)


@torch.no_grad()
def test_two_continuations_of_one_cache_do_not_disturb_each_other():
    model, x, other = trunk(), frames(), frames(2)
    _, past = extended(model, x[:, :4], [])
    other = torch.cat([x[:, :4], other[:, 4:]], dim=1)
    one, first = model.extend(x[:, 4:5], past)
    two, second = model.extend(other[:, 4:5], past)
    torch.testing.assert_close(model.extend(x[:, 5:6], first)[0], model(x)[:, 5:6], rtol=0, atol=1e-12)
    torch.testing.assert_close(model.extend(other[:, 5:6], second)[0], model(other)[:, 5:6], rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.cat([one, two]), torch.cat([model(x)[:, 4:5], model(other)[:, 4:5]]))


@torch.no_grad()
def test_a_cache_that_is_cut_back_continues_as_if_the_rest_had_not_been():
    model, x, other = trunk(), frames(), frames(2)
    _, long = extended(model, x, [])
    other = torch.cat([x[:, :3], other[:, 3:]], dim=1)
    torch.testing.assert_close(model.extend(other[:, 3:], long.cut(3))[0], model(other)[:, 3:], rtol=0, atol=1e-12)
    torch.testing.assert_close(long.layers[0].keys, extended(model, x, [])[1].layers[0].keys)


@torch.no_grad()
def test_rows_are_taken_and_stacked():
    model, x = trunk(), frames(batch=3)
    _, past = extended(model, x[:, :4], [])
    swapped = TemporalCache.stack([past.take(slice(2, 3)), past.take(slice(0, 2))])
    rows = [2, 0, 1]
    torch.testing.assert_close(model.extend(x[rows, 4:], swapped)[0], model(x)[rows, 4:], rtol=0, atol=1e-12)


@torch.no_grad()
def test_dropping_the_oldest_entry_is_not_the_shorter_window():
    """Why the cache offers no eviction: deep keys still contain the dropped frame."""
    model, x = trunk(), frames()
    _, past = extended(model, x[:, :-1], [])
    for layer in past.layers:
        layer.room[:, :, :, :, :-1] = layer.room[:, :, :, :, 1:].clone()
    evicted, _ = model.extend(x[:, -1:], past.cut(FRAMES - 2))
    shorter = model(x[:, 1:])[:, -1:]
    assert (evicted - shorter).std() > 0.01 * shorter.std()


def test_the_memory_is_what_the_documents_say():
    cache = trunk().empty_cache(BATCH, TOKENS, FRAMES)
    assert cache.num_bytes == 2 * 2 * BATCH * TOKENS * FRAMES * WIDTH * 8  # keys and values x pairs x ... x float64


def test_under_autocast_a_gpu_keeps_keys_and_values_in_its_precision(monkeypatch):
    """Half the memory and no conversion in each step; a CPU keeps what it kept, to the byte."""
    model = STTransformer(STTransformerConfig(num_layers=4, num_heads=2, d_model=WIDTH))
    with torch.autocast("cpu", torch.bfloat16):
        assert {layer.room.dtype for layer in model.empty_cache(1, TOKENS, 3).layers} == {torch.float32}
    model.to("meta")
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *kind: True)
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda *kind: torch.bfloat16)
    there = model.empty_cache(1, TOKENS, 3)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *kind: False)
    here = model.empty_cache(1, TOKENS, 3)
    assert {layer.room.dtype for layer in there.layers} == {torch.bfloat16}
    assert there.num_bytes * 2 == here.num_bytes
