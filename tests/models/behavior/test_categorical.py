import math

import numpy as np
import pytest
import torch

from whale.models.behavior.categorical import (
    balanced_kl,
    information,
    kl_divergence,
    mix_uniform,
    mode,
    sample,
    straight_through,
    usage_entropy,
)


def random_log_probs(seed: int, *lead: int) -> torch.Tensor:
    logits = torch.randn(*lead, 16, 16, generator=torch.Generator().manual_seed(seed)) * 3
    return mix_uniform(logits, 0.01)


def test_kl_equals_a_float64_reference_is_zero_on_itself_and_never_negative():
    log_q, log_p = random_log_probs(0, 5), random_log_probs(1, 5)
    q, p = (np.exp(value.double().numpy()) for value in (log_q, log_p))
    reference = (q * np.log(q / p)).sum(axis=(-1, -2))
    np.testing.assert_allclose(kl_divergence(log_q, log_p).numpy(), reference, rtol=1e-5)
    assert kl_divergence(log_q, log_q).abs().max() == 0
    assert (kl_divergence(log_q, log_p) >= 0).all()


def test_each_side_of_the_balanced_kl_learns_with_its_own_weight_and_neither_below_what_is_free():
    log_q, log_p = (random_log_probs(seed, 3).requires_grad_() for seed in (0, 1))
    kl = kl_divergence(log_q, log_p)
    plain_q, plain_p = torch.autograd.grad(kl.sum(), (log_q, log_p))
    balanced = balanced_kl(log_q, log_p, to_prior=0.5, to_posterior=0.25, free_nats=1.0)
    assert (kl > 1).all()
    torch.testing.assert_close(balanced, 0.75 * kl)
    by_q, by_p = torch.autograd.grad(balanced.sum(), (log_q, log_p))
    torch.testing.assert_close((by_q, by_p), (0.25 * plain_q, 0.5 * plain_p))
    free = balanced_kl(log_q, log_p, to_prior=0.5, to_posterior=0.25, free_nats=1000.0)
    torch.testing.assert_close(free, torch.full_like(kl, 750.0))
    by_q, by_p = torch.autograd.grad(free.sum(), (log_q, log_p))
    assert not by_q.any() and not by_p.any()


def test_unimix_bounds_the_kl():
    certain = torch.full((16, 16), -1e9)
    certain[:, 0] = 1e9
    other = certain.roll(1, dims=-1)
    bound = 16 * math.log(16 / 0.01) * 1.01
    assert kl_divergence(mix_uniform(certain, 0.01), mix_uniform(other, 0.01)) < bound


def test_samples_follow_the_distribution_and_are_one_hot():
    log_probs = random_log_probs(2).expand(20_000, 16, 16)
    uniform = torch.rand(20_000, 16, generator=torch.Generator().manual_seed(3))
    drawn = sample(log_probs, uniform)
    assert torch.equal(drawn.sum(-1), torch.ones(20_000, 16))
    assert (drawn.mean(0) - log_probs[0].exp()).abs().max() < 4 * 0.5 / math.sqrt(20_000)


def test_a_sample_depends_on_its_own_uniform_only():
    log_probs, uniform = random_log_probs(4, 3), torch.rand(3, 16)
    torch.testing.assert_close(sample(log_probs, uniform)[1], sample(log_probs[1], uniform[1]))


def test_uniform_zero_and_almost_one_give_the_first_and_the_last_possible_class():
    log_probs = mix_uniform(torch.zeros(16, 16), 0.0)
    assert sample(log_probs, torch.full((16,), 1e-7)).argmax(-1).eq(0).all()
    assert sample(log_probs, torch.full((16,), 1 - 1e-7)).argmax(-1).eq(15).all()


def test_the_mode_is_the_most_likely_class_and_gradients_pass_straight_through():
    log_probs = random_log_probs(5).requires_grad_()
    one_hot = mode(log_probs)
    assert torch.equal(one_hot.argmax(-1), log_probs.argmax(-1))
    passed = straight_through(one_hot, log_probs)
    torch.testing.assert_close(passed, one_hot)
    weight = torch.randn(16, 16)
    (passed * weight).sum().backward()
    torch.testing.assert_close(log_probs.grad, weight * log_probs.exp().detach())


def test_information_is_what_z_says_of_its_origin_and_nothing_where_z_is_drawn_at_random():
    at_random = torch.full((8, 3, 4), 0.25).log()
    assert information(at_random).item() == pytest.approx(0, abs=1e-6)
    assert usage_entropy(at_random).item() == pytest.approx(math.log(4), abs=1e-6)  # which looks healthy
    always_the_same = torch.eye(4)[[1] * 8][:, None].expand(8, 3, 4).clamp_min(1e-30).log()
    assert information(always_the_same).item() == pytest.approx(0, abs=1e-6)
    each_its_own = torch.eye(4)[[0, 1, 2, 3]][:, None].expand(4, 3, 4).clamp_min(1e-30).log()
    assert information(each_its_own).item() == pytest.approx(3 * math.log(4), abs=1e-5)
    noisy = (0.5 * each_its_own.exp() + 0.125).log()  # .625 right, .125 each of three
    entropy = -(0.625 * math.log(0.625) + 3 * 0.125 * math.log(0.125))
    assert information(noisy).item() == pytest.approx(3 * (math.log(4) - entropy), abs=1e-5)
