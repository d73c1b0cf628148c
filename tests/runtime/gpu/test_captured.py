"""On a GPU: graphs and compiled steps imagine what plain calls imagine."""

import pytest
import tiny_models as tiny
import torch

from whale.common.errors import ConfigError
from whale.models.world.world_model import WorldModel
from whale.runtime.gpu.captured import CapturedRollout
from whale.runtime.gpu.inference import compile_steps

pytestmark = pytest.mark.gpu

HORIZON = 3 * tiny.WINDOW + 1


def world() -> WorldModel:
    parts = [part.to("cuda").eval() for part in (tiny.tokenizer(), tiny.behavior(), tiny.dynamics())]
    return WorldModel(*parts, window=tiny.WINDOW)


def start(given: int = 1, seed: int = 0, size: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 256, (size, given, 16, 16, 3), dtype=torch.uint8, generator=generator)
    actions = torch.rand(size, given - 1 + HORIZON, tiny.ACTION, generator=generator) * 2 - 1
    return frames.to("cuda"), actions.to("cuda")


def assert_equal(one, other):
    assert torch.equal(one.tokens, other.tokens) and torch.equal(one.frames, other.frames)
    torch.testing.assert_close(one.entropy, other.entropy)


@pytest.mark.parametrize("given", [1, tiny.WINDOW // 2, tiny.WINDOW])
@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_captured_rollout_is_the_rollout_also_the_second_time(given, temperature):
    model = world()
    captured = CapturedRollout(model, 2, given, temperature)
    for seed in (0, 1):
        frames, actions = start(given, seed)
        expected = model.rollout(frames, actions, HORIZON, temperature=temperature, seed=seed)
        assert_equal(captured.rollout(frames, actions, HORIZON, seed=seed), expected)


def test_another_shape_is_refused():
    captured = CapturedRollout(world(), 2)
    with pytest.raises(ConfigError, match="2 rows of 1 frames"):
        captured.rollout(*start(size=3), HORIZON)


def test_compiled_steps_imagine_the_same():
    plain, compiled = world(), world()
    for part in (compiled.tokenizer, compiled.behavior, compiled.dynamics):
        compile_steps(part)
    frames, actions = start()
    assert_equal(compiled.rollout(frames, actions, HORIZON), plain.rollout(frames, actions, HORIZON))
