"""MaskGIT decoding: what is hidden, what is revealed when, and that nothing hidden leaks."""

import math

import pytest
import tiny_models as tiny
import torch

from whale.models.dynamics.maskgit import MASKED, decode, hidden
from whale.models.world.noise import gumbel, row_key

B, N, V = 2, 16, 8


def logits(seed: int = 0) -> torch.Tensor:
    return torch.randn(B, N, V, generator=torch.Generator().manual_seed(seed))


def test_one_pass_is_the_argmax_and_never_asks_again():
    assert torch.equal(decode(logits(), pytest.fail, 1, None, 1.0), logits().argmax(-1))


@pytest.mark.parametrize("passes", [2, 3, 8])
def test_the_most_confident_tokens_are_kept_by_the_cosine_schedule(passes):
    asked = []

    def again(revealed):
        asked.append(revealed.clone())
        return logits(len(asked))

    found = decode(logits(), again, passes, None, 1.0)
    masked = [int((revealed == MASKED).sum(-1)[0]) for revealed in asked]
    assert masked == [math.floor(N * math.cos(math.pi * s / (2 * passes))) for s in range(1, passes)]
    for earlier, later in zip(asked, [*asked[1:], found], strict=True):
        kept = earlier != MASKED
        assert torch.equal(later[kept], earlier[kept])  # what is revealed stays
    confidence = logits().log_softmax(-1).amax(-1)
    first = asked[0]
    for row in range(B):
        if (first[row] == MASKED).any():
            assert confidence[row][first[row] != MASKED].min() >= confidence[row][first[row] == MASKED].max()


def test_noise_draws_and_the_same_noise_draws_the_same():
    noise = gumbel([row_key(5, 0, row) for row in range(B)], N, V)
    one, two = (decode(logits(), lambda revealed: logits(1), 4, noise, 1.0) for _ in range(2))
    assert torch.equal(one, two)
    assert (one != decode(logits(), lambda revealed: logits(1), 4, None, 1.0)).any()


def test_every_frame_hides_at_least_one_token_and_shares_vary():
    uniform = torch.rand(64, generator=torch.Generator().manual_seed(0))
    share = hidden(torch.zeros(64, 4, N, dtype=torch.int64), uniform).float().mean(-1)
    assert share.min() >= 1 / N
    assert abs(share.mean().item() - 2 / math.pi) < 0.08  # the mean of cos(pi u / 2), rounded up to whole tokens
    assert torch.equal(hidden(torch.zeros(1, 4, N), uniform[3:4])[0], hidden(torch.zeros(64, 4, N), uniform)[3])


@torch.no_grad()
def test_a_hidden_target_changes_neither_logits_nor_the_loss_of_others():
    model, batch = tiny.dynamics(sampler="maskgit"), tiny.token_batch()
    tokens, targets, z = batch["tokens"][:, :-1], batch["tokens"][:, 1:], torch.zeros(3, tiny.WINDOW, 256)
    is_hidden = hidden(targets, batch["uniform"][:, 0, 0])
    plain, other = (
        model.logits(tokens, batch["action"], z, torch.where(is_hidden, MASKED, shown))
        for shown in (targets, torch.where(is_hidden, (targets + 1) % tiny.NUM_CODES, targets))
    )
    assert torch.equal(plain, other)
    revealed = model.logits(tokens, batch["action"], z, targets)
    assert (revealed - plain).abs().max() > 1e-4


@torch.no_grad()
def test_nothing_revealed_is_the_parallel_prediction():
    model, batch = tiny.dynamics(sampler="maskgit"), tiny.token_batch()
    tokens, z = batch["tokens"][:, :-1], torch.zeros(3, tiny.WINDOW, 256)
    nothing = torch.full_like(tokens, MASKED)
    assert torch.equal(model.logits(tokens, batch["action"], z), model.logits(tokens, batch["action"], z, nothing))
