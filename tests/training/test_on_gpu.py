"""On a GPU: the loop gives the processor's gradients, resumes to the bit, and exchanges flags over NCCL."""

from pathlib import Path

import pytest
import tiny_training as runs
import torch
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from whale.models.trunk.folder import tensor_digest
from whale.training.loop.communicator import Communicator
from whale.training.loop.gradient_step import GradientStep
from whale.training.loop.loop import fit
from whale.training.loop.optimizer import make_optimizer
from whale.training.loop.resume.checkpoint import StateFolder
from whale.training.loop.task import Hooks
from whale.training.loop.wrapping import compile_blocks, recompute_activations

pytestmark = pytest.mark.gpu

KINDS = ["tokenizer", "behavior", "dynamics"]


@pytest.fixture(autouse=True)
def deterministic(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def gradients(kind: str, device: str, micro_batch=None, change=lambda model: None, **optimization) -> dict:
    task = runs.task(kind)
    task.model.to(device)
    change(task.model)
    config = task.optimization.model_copy(update=optimization)
    step = GradientStep(task.model, task.model, make_optimizer(task.model, config), config, micro_batch)
    _, batch = next(iter(task.loader))
    logs, is_finite = step.gradients({name: torch.as_tensor(value).to(device) for name, value in batch.items()})
    assert is_finite
    found = {name: value.grad.cpu() for name, value in task.model.named_parameters() if value.grad is not None}
    return found | {"loss": logs["loss"].cpu()}


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_processor(kind):
    expected = gradients(kind, "cpu")
    for name, value in gradients(kind, "cuda").items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_blocks_recomputed_in_bfloat16_come_close(kind):
    def change(model):
        recompute_activations(model)
        compile_blocks(model)

    expected = gradients(kind, "cuda")
    found = gradients(kind, "cuda", 3, change, precision="bfloat16")
    assert set(found) == set(expected)
    assert found["loss"].item() == pytest.approx(expected["loss"].item(), rel=0.02)


def trained(kind: str, work: Path, stop_at: int | None = None) -> tuple[str, str, int]:
    """Digests of weights and moments, and where it went on from."""
    task = runs.task(kind)
    done = []
    around = Hooks(
        wrap=lambda model: model.to("cuda"), on_step=done.append, stop_requested=lambda: len(done) + 1 == stop_at
    )
    result = fit(task, StateFolder(work), Communicator(device="cuda"), around)
    state = StateFolder(work).newest()
    moments = tensor_digest({name: value.cpu() for name, value in state.tensors.items()}) if state else ""
    weights = {name: value.cpu() for name, value in task.model.state_dict().items()}
    return tensor_digest(weights), moments, result.resumed_from


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stop_at", [1, 5])
def test_a_stopped_run_ends_in_the_bytes_of_the_straight_one(kind, stop_at, tmp_path):
    straight, moments, _ = trained(kind, tmp_path / "straight")
    trained(kind, tmp_path / "stopped", stop_at)
    weights, again, resumed_from = trained(kind, tmp_path / "stopped")
    assert resumed_from == stop_at and weights == straight and again == moments


def test_a_group_of_one_over_nccl(tmp_path):
    dist.init_process_group("nccl", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        group = Communicator(0, 2, torch.device("cuda", 0))  # a size of 2 makes every collective run
        assert group.any_soon(True)() and not group.any_soon(False)()
        assert group.agree("step-00000004") == "step-00000004"
        assert group.mean({"loss": torch.tensor(3.0, device="cuda")}) == {"loss": 1.5}
        model = DistributedDataParallel(torch.nn.Linear(2, 1).to("cuda"))
        model(torch.ones(1, 2, device="cuda")).sum().backward()
        assert model.module.weight.grad is not None
    finally:
        dist.destroy_process_group()
