"""Noise by a counter: the hash against numpy's, uniform, independent of neighbours, and Gumbel's distribution."""

import itertools
import math

import numpy as np
import pytest
import tiny_models as tiny
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from whale.models.world.learned import LearnedWorld
from whale.models.world.noise import CHUNK, _places, gumbel, hashed, row_key

N, V = 64, 256


def noise(seed: int = 0, number: int = 0, rows: int = 1, size: tuple[int, int] = (N, V)) -> torch.Tensor:
    return gumbel([row_key(seed, number, row) for row in range(rows)], *size)


def words(count: int) -> torch.Tensor:
    keys = b"".join(row_key(seed, 0, 0) for seed in range(count))
    return torch.frombuffer(bytearray(keys), dtype=torch.int32).view(-1, 2)


def bits(count: int, keys: torch.Tensor) -> torch.Tensor:
    return hashed(_places(count, keys.device), keys)


def lowbias32(x: np.ndarray, word: np.ndarray) -> np.ndarray:
    x = x ^ x >> np.uint32(16)
    x = x * np.uint32(0x21F0AAAD) ^ word
    x = x ^ x >> np.uint32(15)
    x = x * np.uint32(0xD35A2D97)
    return x ^ x >> np.uint32(15)


@pytest.mark.parametrize("count", [1, 7, 8, 1000, 4099])  # whole vectors of a processor, and what is left over
def test_the_hash_is_the_published_one_in_wrapping_32_bit_arithmetic(count):
    keys = words(3)
    first, second = keys.numpy().view(np.uint32).T[:, :, None]
    places = lowbias32(np.arange(count, dtype=np.uint32), np.uint32(0))
    expected = lowbias32(places + first, second)
    assert np.array_equal(_places(count, keys.device).numpy().view(np.uint32), places)
    assert np.array_equal(bits(count, keys).numpy().view(np.uint32), expected)


def test_the_numbers_of_a_key_are_these():
    """Any change of key, hash or conversion alters every drawn rollout: a word in the CHANGELOG, then."""
    expected = [[0.4644176, -0.3883969, -0.7996012, 0.8120524], [2.177845, 3.969492, 0.9470931, 0.0148867]]
    torch.testing.assert_close(noise(3, 5, 2, (2, 2)).view(2, 4), torch.tensor(expected), rtol=0, atol=1e-6)


def test_the_distribution_is_gumbels():
    values = noise(rows=64).double().flatten()
    count = len(values)  # 1.05 M
    euler = 0.5772156649015329
    assert abs(values.mean() - euler) < 5 * math.pi / math.sqrt(6 * count)
    assert abs(values.var() / (math.pi**2 / 6) - 1) < 5 * math.sqrt(4.4 / count)  # kurtosis 5.4
    cdf = torch.exp(-torch.exp(-values.sort().values))
    distance = (cdf - (torch.arange(count) + 0.5) / count).abs().max()  # Kolmogorov and Smirnov
    assert distance < 1.95 / math.sqrt(count)  # p = .001
    assert values.isfinite().all() and values.max() > 12


def test_every_bit_of_the_hash_is_a_fair_coin_and_flips_by_each_bit_of_place_and_key():
    keys, places = words(16), torch.arange(4096, dtype=torch.int32)
    found = hashed(places, keys)

    def unfair(value: torch.Tensor) -> float:
        return max(abs((value >> place & 1).double().mean().item() - 0.5) for place in range(32))

    assert unfair(bits(4096, keys)) < 5 * 0.5 / math.sqrt(found.numel())
    for place in range(32):
        flip = torch.tensor(1 << place if place < 31 else -(2**31), dtype=torch.int32)
        other = torch.stack([keys[:, 0] ^ flip, keys[:, 1]], dim=1)  # the second word only keeps rows apart, below
        assert unfair(found ^ hashed(places ^ flip, keys)) < 0.02 and unfair(found ^ hashed(places, other)) < 0.02


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"seed": -1}, {"seed": 2**64}, {"number": 1}, {"number": -1}, {"seed": 1, "number": -1}],
    ids=str,
)  # fmt: skip
def test_neighbouring_seeds_and_frames_are_independent(other):
    one, two = noise(rows=16).flatten(), noise(**other, rows=16).flatten()
    assert_independent(one, two)


def test_rows_tokens_and_codes_are_independent():
    rows = noise(rows=17)
    assert_independent(rows[:-1].flatten(), rows[1:].flatten())
    assert_independent(rows[:, :-1].flatten(), rows[:, 1:].flatten())
    assert_independent(rows[:, :, :-1].flatten(), rows[:, :, 1:].flatten())


def assert_independent(one: torch.Tensor, two: torch.Tensor) -> None:
    """No linear relation, and every pair of sixteenths as often as any."""
    bound = 5 / math.sqrt(len(one))
    assert abs(torch.corrcoef(torch.stack([one, two]))[0, 1]) < bound
    uniform = [torch.exp(-torch.exp(-each.double())) for each in (one, two)]
    counts = torch.histogramdd(torch.stack(uniform, 1), [16, 16], range=[0.0, 1.0, 0.0, 1.0]).hist
    expected = len(one) / 256
    statistic = ((counts - expected) ** 2 / expected).sum().item()  # chi-square of 255 degrees
    assert abs(statistic - 255) < 5 * math.sqrt(2 * 255)


def test_no_two_rows_share_more_numbers_than_chance_gives_them():
    """Added words alone would have rows share whole stretches; one mixed into places as they are, clumps of them."""
    rows = [set(row.tolist()) for row in bits(2**16, words(24))]
    shared = np.array([len(one & two) for one, two in itertools.combinations(rows, 2)])
    spread = math.sqrt(1 / len(shared))  # each is Poisson of mean 1, variance 1
    assert abs(shared.mean() - 1) < 5 * spread and abs(shared.var() - 1) < 5 * math.sqrt(3) * spread
    assert shared.max() <= 10


def test_a_number_depends_on_its_key_token_and_code_only():
    many = CHUNK // (N * V) * 2 + 3  # rows beyond one chunk
    keys = [row_key(7, 1, row) for row in range(many)]
    whole = gumbel(keys, N, V)
    assert all(torch.equal(gumbel([keys[row]], N, V)[0], whole[row]) for row in (0, 1, many // 2, many - 1))
    assert torch.equal(gumbel(keys[::-1], N, V), whole.flip(0))
    assert torch.equal(gumbel(keys[:1], N // 2, V)[0], whole[0, : N // 2])


def test_a_seed_for_each_row_draws_as_row_zero_of_that_seed():
    world = LearnedWorld(tiny.tokenizer(), tiny.behavior(), tiny.dynamics(), tiny.WINDOW)
    frames = torch.zeros(3, 1)
    each = world.draw(frames, 0.5, [4, 9, 4], 2).noise
    assert torch.equal(each[0], each[2]) and not torch.equal(each[0], each[1])
    assert torch.equal(each[1], world.draw(frames[:1], 1.0, 9, 2).noise[0])
    assert each.shape == (3, *world.codes) and each.dtype == torch.float32


class Sent(TorchDispatchMode):
    """Numbers that went from one device to another."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if str(func) == "aten._to_copy.default" and args[0].device != out.device:
            self.count += out.numel()
        return out


def test_noise_is_made_where_the_frames_lie():
    """All that is sent there are the keys, two words a row."""
    world = LearnedWorld(tiny.tokenizer(), tiny.behavior(), tiny.dynamics(), tiny.WINDOW)
    with Sent() as sent:
        noise = world.draw(torch.zeros(3, 1, device="meta"), 1.0, 0, 0).noise
    assert noise.device.type == "meta" and sent.count == 2 * 3


@pytest.mark.gpu
def test_a_gpu_hashes_the_same_bits_and_its_noise_differs_in_the_last_bits_of_logarithms():
    keys = words(16)
    assert torch.equal(bits(2**16, keys.cuda()).cpu(), bits(2**16, keys))
    names = [row_key(0, 0, row) for row in range(16)]
    torch.testing.assert_close(gumbel(names, N, V, "cuda").cpu(), gumbel(names, N, V), rtol=1e-5, atol=1e-6)
