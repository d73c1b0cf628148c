"""On a GPU: graphs and compiled steps imagine what plain calls imagine."""

import pytest
import tiny_models as tiny
import torch

from benchmarks.captured import CapturedWorld
from benchmarks.inference import compile_steps
from whale.common.errors import ConfigError
from whale.models.world.learned import LearnedWorld
from whale.models.world.rollout import entropy, frames, rollout, tokens

pytestmark = pytest.mark.gpu

HORIZON = 3 * tiny.WINDOW + 1
OBSERVERS = (tokens, entropy, frames)


def world() -> LearnedWorld:
    parts = [part.to("cuda").eval() for part in (tiny.tokenizer(), tiny.behavior(), tiny.dynamics())]
    return LearnedWorld(*parts, window=tiny.WINDOW, normalize=lambda raw: raw / 2)


def start(given: int = 1, seed: int = 0, size: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 256, (size, given, 16, 16, 3), dtype=torch.uint8, generator=generator)
    actions = torch.rand(size, given - 1 + HORIZON, tiny.ACTION, generator=generator) * 4 - 2
    return frames.to("cuda"), actions.to("cuda")


def assert_equal(one, other):
    assert torch.equal(one["tokens"], other["tokens"]) and torch.equal(one["frames"], other["frames"])
    torch.testing.assert_close(one["entropy"], other["entropy"])


@pytest.mark.parametrize("given", [1, tiny.WINDOW // 2, tiny.WINDOW])
@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_captured_world_imagines_what_the_plain_one_does_also_the_second_time(given, temperature):
    plain = world()
    captured = CapturedWorld(plain, 2, given, temperature)
    for seed in (0, 1):
        found, expected = (
            rollout(each, *start(given, seed), HORIZON, OBSERVERS, temperature=temperature, seed=seed)
            for each in (captured, plain)
        )
        assert_equal(found, expected)


def test_what_was_not_captured_is_refused():
    captured = CapturedWorld(world(), 2)
    with pytest.raises(ConfigError, match="2 rows of 1 or 2 frames"):
        rollout(captured, *start(size=3), HORIZON)
    with pytest.raises(ConfigError, match="another temperature"):
        rollout(captured, *start(), HORIZON, temperature=1.0)
    with pytest.raises(ConfigError, match="infers z itself"):
        rollout(captured, *start(), HORIZON, z="off")


def test_only_the_newest_state_is_continued():
    captured = CapturedWorld(world(), 2)
    given, actions = start()
    state = captured.start(given, actions[:, :0])
    captured.step(state, actions[:, 0])
    with pytest.raises(ConfigError, match="newest state"):
        captured.step(state, actions[:, 0])


def test_compiled_steps_imagine_the_same():
    plain, compiled = world(), world()
    for part in (compiled.tokenizer, compiled.behavior, compiled.dynamics):
        compile_steps(part)
    found, expected = (rollout(each, *start(), HORIZON, OBSERVERS) for each in (compiled, plain))
    assert_equal(found, expected)
