import math

import pytest
import tiny_models as tiny
import torch

from whale.training.loop.optimizer import OptimizationConfig, learning_rate, make_optimizer

FIXED = {"weight_decay": 0.1, "grad_clip": 1.0, "save_every": 10, "precision": "float32", "ema_decay": 0.0}


def config(**changes) -> OptimizationConfig:
    values = {"batch_size": 4, "training_steps": 110, "warmup_steps": 10, "max_lr": 1e-3, "min_lr": 1e-4}
    return OptimizationConfig(**(values | FIXED | changes))


@pytest.mark.parametrize(("step", "rate"), [(0, 1e-4), (9, 1e-3), (10, 1e-3), (60, 5.5e-4), (110, 1e-4), (999, 1e-4)])
def test_the_rate_warms_up_linearly_and_decays_as_a_cosine(step, rate):
    assert learning_rate(step, config()) == pytest.approx(rate)


def test_equal_maximum_and_minimum_give_a_constant_rate_after_warm_up():
    rates = {learning_rate(step, config(min_lr=1e-3)) for step in range(10, 110)}
    assert max(rates) - min(rates) < 1e-15


def test_only_matrices_decay():
    model = tiny.tokenizer()
    decaying, other = make_optimizer(model, config()).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert all(parameter.ndim == 2 for parameter in decaying["params"]) and decaying["weight_decay"] == 0.1
    assert "quantizer.codebook" in {names[id(parameter)] for parameter in other["params"]}
    assert other["weight_decay"] == 0.0
    assert len(decaying["params"]) + len(other["params"]) == len(names)


def test_the_second_moment_decays_as_the_paper_prints_it():
    assert make_optimizer(tiny.dynamics(), config()).defaults["betas"] == (0.9, 0.9)


def test_one_step_of_the_optimizer_equals_adamw_by_hand():
    parameter = torch.nn.Parameter(torch.tensor([[2.0]]))
    model = torch.nn.Module()
    model.weight = parameter
    optimizer = make_optimizer(model, config())
    (3 * parameter).sum().backward()
    optimizer.step()
    by_hand = 2.0 * (1 - 1e-3 * 0.1) - 1e-3 * 3.0 / (math.sqrt(9.0) + 1e-8)
    assert parameter.item() == pytest.approx(by_hand)
