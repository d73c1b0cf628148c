"""On a GPU restored models and their evaluation give what they give on the CPU.

Needs nothing but torch, numpy, pydantic, PyYAML, safetensors and pytest, so that a bare GPU machine can run it. The
models are in float64, so that no argmax flips. Shapes: S segments, T window, A action.
"""

from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from torch import nn

from whale.evaluation.measuring.efflite0 import PercepEffLite0
from whale.evaluation.measuring.feature_networks import I3D, LPIPS
from whale.evaluation.measuring.rollouts.imagination import rollouts
from whale.evaluation.measuring.rollouts.reconstruction import reconstruct, reconstruct_long
from whale.evaluation.measuring.rollouts.stack import Stack, load_stack
from whale.evaluation.uncertainty.estimation.uncertainty import Ensemble, Retracing, feature_distance
from whale.evaluation.video.likelihood import policy_nll, prior_log_probs, token_likelihood
from whale.evaluation.video.perceptual import lpips_per_frame
from whale.models.behavior.categorical import sample
from whale.models.trunk.folder import save_model
from whale.models.world import rollout
from whale.models.world.learned import LearnedWorld
from whale.runtime.workers.process.execution import load_execution

pytestmark = pytest.mark.gpu
DEVICE = "cuda"
SEGMENTS, WINDOW, BATCH = 5, tiny_models.WINDOW, 2
HORIZON = 2 * WINDOW + 1  # windows restart on the way
OBSERVERS = (rollout.entropy, rollout.frames)
VARIANTS = {
    "full": {},
    "without_z": {"behavior_conditioning": False, "copy_bias": 1.0},
    "maskgit": {"sampler": "maskgit", "maskgit_passes": 3, "action_mode": "prepend"},
}


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("models")
    models = {"tokenizer": tiny_models.tokenizer(mean_residual=True), "behavior": tiny_models.behavior()}
    models |= {f"dynamics/{name}": tiny_models.dynamics(**changes) for name, changes in VARIANTS.items()}
    nn.init.normal_(models["tokenizer"].decoder.get_parameter("patches.weight"))  # zero at first: every frame the mean
    for name, model in models.items():
        (root / name).mkdir(parents=True)
        save_model(root / name, model)
    return root


def stack_on(device: str, models_dir: Path) -> Stack:
    stack = load_stack(models_dir, device)
    for model in (stack.tokenizer, stack.behavior, *stack.dynamics.values()):
        model.double()
    return stack


@pytest.fixture(scope="module")
def stacks(models_dir) -> tuple[Stack, Stack]:
    """On the CPU and on the GPU."""
    return stack_on("cpu", models_dir), stack_on(DEVICE, models_dir)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (SEGMENTS, WINDOW + 1, 16, 16, 3), np.uint8)


def actions(num_steps: int = WINDOW) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (SEGMENTS, num_steps, tiny_models.ACTION))


def test_the_switch_finds_the_gpu_and_leaves_it_alone_where_it_says_cpu(tmp_path):
    chosen = {
        name: load_execution(tmp_path / "local.yaml", environ={"WHALE_DEVICE": name}).chosen_device()
        for name in ("auto", "cuda", "cpu")
    }
    assert chosen == {"auto": "cuda", "cuda": "cuda", "cpu": "cpu"}


def test_a_stack_is_restored_onto_the_gpu_under_the_same_name(stacks):
    here, there = stacks
    assert here.digests == there.digests
    for model in (there.tokenizer, there.behavior, *there.dynamics.values()):
        assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {DEVICE}


@pytest.mark.parametrize("name", VARIANTS)
def test_recorded_tokens_are_as_likely(stacks, name):
    rng = np.random.default_rng(2)
    tokens = rng.integers(0, tiny_models.NUM_CODES, (SEGMENTS, WINDOW + 1, 16))
    z = np.log(rng.dirichlet(np.ones(16), (SEGMENTS, WINDOW, 16)))
    here, there = (token_likelihood(stack.dynamics[name], tokens, actions(), z, BATCH) for stack in stacks)
    np.testing.assert_array_equal(there.prediction, here.prediction)
    np.testing.assert_allclose(there.nll, here.nll, rtol=1e-5)
    np.testing.assert_allclose(there.changed_nll, here.changed_nll, rtol=1e-5)


def test_prior_and_policy_say_the_same(stacks, frames):
    here, there = (prior_log_probs(stack.behavior, frames, actions(), BATCH) for stack in stacks)
    np.testing.assert_allclose(there, here, rtol=1e-6)
    valid = np.arange(WINDOW) < np.array([WINDOW, 2, WINDOW, 3, WINDOW])[:, None]
    mask = np.arange(tiny_models.ACTION) != 3
    here, there = (
        policy_nll(stack.behavior, frames, actions(), mask, valid, np.arange(SEGMENTS), BATCH) for stack in stacks
    )
    assert here.keys() == there.keys()
    for name in here:
        np.testing.assert_allclose(there[name], here[name], rtol=1e-6, err_msg=name)


def test_reconstructions_are_the_same_frames(stacks, frames):
    here, there = (reconstruct(stack.tokenizer, frames, BATCH) for stack in stacks)
    np.testing.assert_array_equal(there, here)
    here, there = (reconstruct_long(stack.tokenizer, np.tile(frames, (1, 2, 1, 1, 1)), WINDOW, 2) for stack in stacks)
    np.testing.assert_array_equal(there, here)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 3}, {"z": "frozen"}, {"z": "off"}], ids=str)
def test_rollouts_are_the_same_frames_drawn_or_not(stacks, frames, name, options):
    """Noise comes from a generator on the CPU: a seed means the same on every device."""
    here, there = (
        rollouts(_world(stack, name), frames[:, :2], actions(HORIZON + 1), HORIZON, BATCH, OBSERVERS, **options)
        for stack in stacks
    )
    np.testing.assert_array_equal(there["frames"], here["frames"])
    np.testing.assert_allclose(there["entropy"], here["entropy"], rtol=1e-6)


@pytest.mark.parametrize("name", VARIANTS)
def test_uncertainties_along_a_rollout_are_the_same(stacks, frames, name):
    """The GPU takes the branches of retracing in one batch, the CPU one after the other."""
    here, there = (_scored(stack, name, frames) for stack in stacks)
    assert there["frames"].device.type == DEVICE
    assert torch.equal(there["frames"].cpu(), here["frames"])
    for score, values in here.items():
        torch.testing.assert_close(there[score].cpu(), values, rtol=1e-6, atol=1e-9, msg=score)


def _scored(stack: Stack, name: str, frames: np.ndarray) -> dict[str, torch.Tensor]:
    world, other = (_world(stack, each) for each in (name, "full"))
    observers = [Retracing(feature_distance(world), (1, 2)), *OBSERVERS, Ensemble([other])]
    given, taken = stack.tokenizer.placed(frames[:, :3]), stack.tokenizer.placed(actions(HORIZON + 2))
    return rollout.rollout(world, given, taken, HORIZON, observers)


def _world(stack: Stack, name: str) -> LearnedWorld:
    return LearnedWorld(stack.tokenizer, stack.behavior, stack.dynamics[name], WINDOW, normalize=lambda raw: raw / 2)


def test_perceptual_networks_see_the_same(tmp_path):
    """In float32, but without TF32, whose convolutions keep 3 digits."""
    rng = np.random.default_rng(3)
    left, right = (rng.integers(0, 256, (3, 64, 64, 3), np.uint8) for _ in range(2))
    network = _alive(LPIPS())
    here = lpips_per_frame(network, left, right, batch_size=2)
    there = lpips_per_frame(network.to(DEVICE), left, right, batch_size=2)
    np.testing.assert_allclose(there, here, rtol=1e-4)
    pair, network = [torch.from_numpy(images) for images in (left, right)], _alive(PercepEffLite0())
    here, there = network(*pair), network.to(DEVICE)(*pair).cpu()
    torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-7)
    videos, network = torch.from_numpy(rng.integers(0, 256, (2, 9, 32, 32, 3), np.uint8)), _alive(I3D())
    here, there = network(videos), network.to(DEVICE)(videos)
    torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-3 * float(here.abs().max()))


def test_a_keyed_z_is_the_same_one():
    generator = torch.Generator().manual_seed(4)
    log_probs = torch.randn(64, 16, 16, generator=generator, dtype=torch.float64).log_softmax(-1)
    uniform = torch.rand(64, 16, generator=generator, dtype=torch.float64)
    assert torch.equal(sample(log_probs.to(DEVICE), uniform.to(DEVICE)).cpu(), sample(log_probs, uniform))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_trains_with_sums_in_a_fixed_order(name, monkeypatch):
    """Trainings ask torch for such kernels, and torch raises where it has none; more in training/test_on_gpu.py."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    model, batch = tiny_models.dynamics(**VARIANTS[name]), tiny_models.token_batch()
    expected = float(model(batch)[0])
    torch.use_deterministic_algorithms(True)
    try:
        loss, _ = model.to(DEVICE)({key: value.to(DEVICE) for key, value in batch.items()})
        loss.backward()
    finally:
        torch.use_deterministic_algorithms(False)
    assert float(loss) == pytest.approx(expected, rel=1e-3)
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)


def _alive(network: nn.Module) -> nn.Module:
    """Random weights under which a signal neither fades nor grows from layer to layer."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return network.eval()
