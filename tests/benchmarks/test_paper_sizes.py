"""Every network of the paper at its size, on `meta`: shapes, parameters and memory, without a number being computed."""

from pathlib import Path

import pytest
import torch

from benchmarks.paper_sizes import GIGABYTE, NAMES, measured

ROOT = Path(__file__).resolve().parents[2]
CARD = 141e9  # bytes of an H200


@pytest.mark.nightly
@pytest.mark.parametrize("profile", ["whale-st-64", "whale-st-256", "whale-x"])
@pytest.mark.parametrize("name", NAMES)
def test_a_micro_batch_of_eight_of_every_paper_size_fits_an_h200(profile, name):
    """float32 throughout, nothing recomputed: what bfloat16 or recomputation need is less."""
    for row in measured(profile, name, 8):
        assert row["loss_shape"] == () and row["gradients"] == row["parameters"]
        assert row["state_gb"] == pytest.approx(16 * row["parameters"] / GIGABYTE)
        assert row["state_gb"] + row["kept_gb"] < CARD / GIGABYTE, row


@pytest.mark.nightly
def test_what_is_kept_grows_with_the_batch_and_not_with_anything_else():
    four, eight = (measured("whale-x", "train_dynamics", size)[0] for size in (4, 8))
    assert eight["parameters"] == four["parameters"]
    assert eight["kept_gb"] == pytest.approx(2 * four["kept_gb"], rel=0.02)


def test_bytes_kept_by_a_block_stay_within_their_budget():
    """Per token and unit of width, in float32; what a change adds to each block of each model shows here."""
    from benchmarks.paper_sizes import bytes_kept, without_initial_numbers
    from whale.models.trunk.st_transformer import STBlock

    with without_initial_numbers(), torch.device("meta"):
        block, x = STBlock(512, 8, 1.0), torch.empty(2, 16, 256, 512, requires_grad=True)
    per_value = bytes_kept(lambda: block(x)) / x.numel()
    assert per_value < 150  # 145.3 measured on 2026-12-01
