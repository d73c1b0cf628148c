"""What makes imagining faster changes rounding only. Graphs and the compiler itself need a GPU: test_captured.py."""

import pytest
import tiny_models as tiny
import torch

from benchmarks.inference import compile_steps, round_matrices
from whale.models.world.learned import LearnedWorld
from whale.models.world.rollout import frames, rollout, tokens


def learned_dynamics():
    """Sure of its tokens: between two equally likely ones rounding alone would choose."""
    model, batch = tiny.dynamics(), tiny.token_batch(size=4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.9))
    for _ in range(120):
        loss, _ = model(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5
    return model.eval(), batch


def test_bfloat16_chooses_the_tokens_of_float32_under_teacher_forcing():
    model, batch = learned_dynamics()
    arguments = (batch["tokens"][:, :-1], batch["action"], batch["z_log_probs"].exp().flatten(2))
    with torch.inference_mode():
        expected = model.logits(*arguments).argmax(-1)
        round_matrices(model)
        with torch.autocast("cpu", torch.bfloat16):
            found = model.logits(*arguments).argmax(-1)
    assert (found == expected).float().mean() >= 0.99


def parts():
    return [part.eval() for part in (tiny.tokenizer(), tiny.behavior(), tiny.dynamics())]


def start():
    batch, horizon = tiny.pixel_batch(2), 2 * tiny.WINDOW + 1
    generator = torch.Generator().manual_seed(1)
    return batch["frames"][:, :1], torch.rand(2, horizon, tiny.ACTION, generator=generator) * 2 - 1, horizon


def test_rounded_matrices_compute_what_autocast_computes():
    plain, rounded = parts(), parts()
    for part in rounded:
        round_matrices(part)
    one, other = (
        rollout(LearnedWorld(*each, window=tiny.WINDOW, precision="bfloat16"), *start(), (frames, tokens))
        for each in (plain, rounded)
    )
    assert (one["tokens"] == other["tokens"]).float().mean() > 0.95
    assert (one["frames"].float() - other["frames"].float()).abs().mean() < 2


@pytest.mark.nightly
def test_compiled_steps_imagine_the_same_over_three_windows():
    plain, compiled = parts(), parts()
    for part in compiled:
        compile_steps(part, backend="eager")
    one, other = (rollout(LearnedWorld(*each, tiny.WINDOW), *start(), (frames, tokens)) for each in (plain, compiled))
    assert torch.equal(one["tokens"], other["tokens"]) and torch.equal(one["frames"], other["frames"])


def test_pixels_of_a_model_with_rounded_matrices_keep_their_256_values():
    model = tiny.tokenizer()
    round_matrices(model)
    pixels = model.pixels(torch.arange(256, dtype=torch.uint8).numpy())
    assert pixels.dtype == torch.float32 and len(pixels.unique()) == 256


def test_reserved_positions_stay_where_they_are():
    model, batch = tiny.tokenizer().eval(), tiny.pixel_batch(1)
    model.reserve(tiny.WINDOW + 1)
    address = model.encoder["trunk"].positions.data_ptr()
    expected = tiny.tokenizer().eval().encode(batch["frames"][:, :2] / 255)
    for length in (2, tiny.WINDOW + 1, 1):
        model.encode(batch["frames"][:, :length] / 255)
    assert model.encoder["trunk"].positions.data_ptr() == address
    assert torch.equal(model.encode(batch["frames"][:, :2] / 255), expected)
