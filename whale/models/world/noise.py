"""Gumbel noise by a counter: any number of any frame by itself, on the device that asks, the same on every device.

A generator on the CPU would have to make all numbers of a frame in order and send them to the GPU: 16.8 million of 32
rows of 1,024 tokens among 512 codes. Here a number is a hash of its place: 32-bit integer operations, which all
devices compute alike, then a float by rounding to nearest, and two logarithms, whose last bits are the device's.

The hash is lowbias32 of C. Wellons' hash-prospector, bijective: once of the place in the row, which is kept, then of
that and the row's key. One word of the key is added, one mixed in after the first product: without the first hash and
the second word a row's numbers would be those of another row in other order.
Shapes: B rows, N tokens, V codes, P = N * V places.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

CHUNK = 2**17  # numbers at once on a CPU: they stay in its cache


def row_key(seed: int, number: int, row: int) -> bytes:
    """The 8 bytes that the noise of a row of frame `number` is drawn by; any integers."""
    return hashlib.blake2b(f"{seed}|{number}|{row}".encode(), digest_size=8).digest()


def gumbel(keys: Sequence[bytes], tokens: int, codes: int, device: torch.device | str = "cpu") -> Tensor:
    """Standard Gumbel noise float32 [B, N, V] on `device`, a key per row: argmax(logits + noise) draws by softmax.

    A number depends on its row's key, its token and its code, and on nothing else in the batch. Between -2.9 and 22.2.
    """
    words_B2 = torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.int32).view(-1, 2)
    words_B2 = words_B2.to(device, non_blocking=True)  # nobody waits: so few bytes are read before this returns
    places_P = _places(tokens * codes, words_B2.device)
    rows = max(CHUNK // len(places_P), 1) if words_B2.device.type == "cpu" else len(keys)
    if len(keys) <= rows:
        return _gumbel(hashed(places_P, words_B2)).view(-1, tokens, codes)
    return torch.cat([_gumbel(hashed(places_P, piece)) for piece in words_B2.split(rows)]).view(-1, tokens, codes)


@lru_cache(maxsize=4)
def _places(count: int, device: torch.device) -> Tensor:
    return _mixed(torch.arange(count, dtype=torch.int32, device=device), 0)


def hashed(places_P: Tensor, words_B2: Tensor) -> Tensor:
    """32 bits int32 [B, P] for each place int32 and each key of two words."""
    return _mixed(places_P + words_B2[:, :1], words_B2[:, 1:])


def _mixed(bits: Tensor, word: Tensor | int) -> Tensor:
    """lowbias32 in place, `word` mixed in. torch's product of int32 wraps."""
    shifted = torch.empty_like(bits)
    _fold(bits, 16, shifted).mul_(0x21F0AAAD).bitwise_xor_(word)
    _fold(bits, 15, shifted).mul_(0xD35A2D97 - 2**32)
    return _fold(bits, 15, shifted)


def _fold(bits: Tensor, count: int, shifted: Tensor) -> Tensor:
    """bits ^= bits >>> count; torch's own shift keeps the sign."""
    torch.bitwise_right_shift(bits, count, out=shifted).bitwise_and_(2 ** (32 - count) - 1)
    return bits.bitwise_xor_(shifted)


def _gumbel(bits: Tensor) -> Tensor:
    """In place: 31 bits as a number u in (0, 1), finest near 0, where the large ones come from: -log(-log(1 - u))."""
    u = bits.bitwise_and_(2**31 - 1).to(torch.float32)  # rounded to nearest, by every device
    minus_u = torch.rsub(u, -(2.0**-32), alpha=2.0**-31).clamp_min_(2.0**-24 - 1)
    return minus_u.log1p_().neg_().log_().neg_()
