"""On a GPU: graphs, compiled steps and bfloat16 imagine what plain calls imagine."""

import pytest
import tiny_models as tiny
import torch

from whale.errors import ConfigError
from whale.models.captured import CapturedRollout
from whale.models.inference import compile_steps, round_matrices
from whale.models.world_model import WorldModel

pytestmark = pytest.mark.gpu

HORIZON = 3 * tiny.WINDOW + 1


def world(precision="float32", **changes) -> WorldModel:
    parts = [part.to("cuda").eval() for part in (tiny.tokenizer(), tiny.behavior(), tiny.dynamics(**changes))]
    return WorldModel(*parts, window=tiny.WINDOW, precision=precision)


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


def test_the_device_imagines_what_the_processor_imagines():
    on_gpu, frames_and_actions = world(), start()
    found = on_gpu.rollout(*frames_and_actions, HORIZON)
    parts = [part.cpu() for part in (on_gpu.tokenizer, on_gpu.behavior, on_gpu.dynamics)]
    on_cpu = WorldModel(*parts, window=tiny.WINDOW)
    expected = on_cpu.rollout(*(value.cpu() for value in frames_and_actions), HORIZON)
    assert (found.tokens.cpu() == expected.tokens).float().mean() > 0.99
    torch.testing.assert_close(found.entropy.cpu(), expected.entropy, rtol=1e-3, atol=1e-3)


def test_rounded_matrices_compute_what_autocast_computes():
    frames, actions = start()
    expected = world("bfloat16").rollout(frames, actions, HORIZON)
    rounded = world("bfloat16")
    for part in (rounded.tokenizer, rounded.behavior, rounded.dynamics):
        round_matrices(part)
    assert (rounded.rollout(frames, actions, HORIZON).tokens == expected.tokens).float().mean() > 0.95
