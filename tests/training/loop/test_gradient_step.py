"""One step: micro-batches, mixed precision, recomputation, compilation and sharding change float sums, nothing else."""

from functools import partial
from pathlib import Path

import pytest
import tiny_models as tiny
import tiny_training as runs
import torch
from worker_group import in_ddp, in_group

from whale.models.trunk.folder import tensor_digest
from whale.training.loop.average import WeightAverage
from whale.training.loop.communicator import Communicator
from whale.training.loop.gradient_step import GradientStep, micro_batches
from whale.training.loop.loop import fit
from whale.training.loop.optimizer import make_optimizer
from whale.training.loop.resume.checkpoint import StateFolder
from whale.training.loop.resume.optimizer_state import whole
from whale.training.loop.task import Hooks
from whale.training.loop.throughput import Throughput
from whale.training.loop.wrapping import compile_blocks, recompute_activations, shard

KINDS = ["tokenizer", "behavior", "dynamics"]


def gradients(kind: str, micro_batch: int | None = None, change=lambda model: None, **optimization) -> dict:
    task = runs.task(kind)
    change(task.model)
    config = task.optimization.model_copy(update=optimization)
    step = GradientStep(task.model, task.model, make_optimizer(task.model, config), config, micro_batch)
    _, batch = next(iter(task.loader))
    logs, is_finite = step.gradients({name: torch.as_tensor(value) for name, value in batch.items()})
    assert is_finite
    found = {name: value.grad.clone() for name, value in task.model.named_parameters() if value.grad is not None}
    return found | {"loss": logs["loss"]}


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_accumulate_the_gradient_of_the_whole_batch(kind):
    whole_batch, pieces = gradients(kind), gradients(kind, micro_batch=3)
    for name, value in whole_batch.items():
        torch.testing.assert_close(pieces[name], value, rtol=1e-4, atol=1e-6)


def test_a_micro_batch_weighs_by_its_rows():
    pieces = list(micro_batches({"sample_index": torch.arange(7)}, 3))
    assert [(len(piece["sample_index"]), share) for piece, share in pieces] == [(3, 3 / 7), (3, 3 / 7), (1, 1 / 7)]


class Shifted(torch.nn.Module):
    """A loss that can be infinite while its gradient is 1."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, batch: dict) -> tuple:
        return self.weight + batch["shift"].sum(), {}


@pytest.mark.parametrize("world_size", [1, 2])
def test_every_worker_sees_the_loss_of_one_that_is_not_finite(world_size):
    def work(communicator: Communicator) -> None:
        model, config = Shifted(), runs.task("dynamics").optimization
        step = GradientStep(in_ddp(model), model, make_optimizer(model, config), config, None)
        for shift in (0.0, torch.inf, torch.nan):
            mine = shift if communicator.rank == world_size - 1 else 0.0
            batch = {"shift": torch.tensor([mine]), "sample_index": torch.arange(1)}
            logs, is_finite = step.gradients(batch)
            assert is_finite == (shift == 0)
            torch.testing.assert_close(logs["loss"], torch.tensor(1 + mine), equal_nan=True)

    in_group(world_size, work)


@pytest.mark.parametrize("kind", KINDS)
def test_recomputed_activations_give_the_same_bits(kind):
    kept, recomputed = gradients(kind), gradients(kind, change=recompute_activations)
    assert tensor_digest(kept) == tensor_digest(recomputed)


def test_recomputation_keeps_less_between_forward_and_backward():
    def bytes_kept(change) -> int:
        sizes = []
        model = tiny.dynamics().train()
        change(model)
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: sizes.append(tensor.nbytes) or tensor, lambda t: t
        ):
            model(tiny.token_batch())
        return sum(sizes)

    assert bytes_kept(recompute_activations) < 0.5 * bytes_kept(lambda model: None)


def test_bfloat16_computes_the_forward_pass_only_and_comes_close():
    exact, rough = gradients("dynamics"), gradients("dynamics", precision="bfloat16")
    assert all(value.dtype == torch.float32 for name, value in rough.items() if name != "loss")
    assert rough["loss"] == pytest.approx(exact["loss"].item(), rel=0.02) and rough["loss"] != exact["loss"]


@pytest.mark.nightly
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_blocks_have_the_same_names_and_gradients(kind):
    plain = gradients(kind)
    compiled = gradients(kind, change=lambda model: compile_blocks(model, backend="eager"))
    assert set(plain) == set(compiled)
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-5, atol=1e-7)


def test_the_average_follows_its_formula_and_exchange_undoes_itself():
    model = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.0)
    average = WeightAverage(model, 0.5)
    expected = 0.0
    for step, value in enumerate((1.0, 2.0, 4.0)):
        with torch.no_grad():
            model.weight.fill_(value)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    with average.applied():
        assert model.weight.item() == pytest.approx(expected)
    assert model.weight.item() == 4.0 and average.values["weight"].item() == pytest.approx(expected)


def test_a_run_with_an_average_resumes_bit_equal_and_publishes_the_average(tmp_path):
    def run(folder: Path, stop_after: int | None = None) -> str:
        task = runs.task("behavior")
        task.optimization = task.optimization.model_copy(update={"ema_decay": 0.9})
        around = Hooks(stop_requested=lambda: task.loader.step + 1 == stop_after)
        fit(task, StateFolder(folder), Communicator(), around)
        return tensor_digest(task.model.state_dict())

    straight = run(tmp_path / "straight")
    run(tmp_path / "stopped", stop_after=5)
    assert run(tmp_path / "stopped") == straight
    plain, _ = runs.run("behavior", tmp_path / "plain")
    assert tensor_digest(plain.model.state_dict()) != straight


def test_throughput_counts_matrix_products_tokens_and_waiting():
    speed = Throughput(torch.device("cpu"), batch_size=4, world_size=2)
    assert speed.record() == {}
    model = tiny.dynamics()
    speed.measure(model, tiny.token_batch())
    assert speed.tokens_of_segment == tiny.WINDOW * 16
    layers, width, tokens = tiny.SIZE.num_layers, tiny.SIZE.d_model, tiny.WINDOW * 16
    matrices = 3 * tokens * (16 * layers * width**2 + 2 * tiny.NUM_CODES * width)
    assert matrices < speed.flops_of_segment < 2 * matrices
    with speed.waiting():
        speed.step_done()
    found = speed.record()
    assert found["speed/tokens_per_s"] == pytest.approx(found["speed/segments_per_s"] * tokens)
    assert 0 < found["speed/loader_wait_share"] <= 1 and speed.record() == {}


def train_sharded(communicator: Communicator, folder: Path, is_sharded: bool, stop_after: int | None = None) -> None:
    task = runs.task("dynamics", 6, communicator)
    around = Hooks(wrap=shard if is_sharded else in_ddp, stop_requested=lambda: task.loader.step + 1 == stop_after)
    fit(task, StateFolder(folder / "states"), communicator, around)
    weights = {name: whole(value) for name, value in task.model.state_dict().items()}
    if communicator.is_lead:
        (folder / f"digest-{stop_after}").write_text(tensor_digest(weights))


@pytest.mark.nightly
def test_sharded_weights_train_as_whole_ones_and_resume_bit_equal(tmp_path):
    for name, is_sharded in (("ddp", False), ("fsdp", True)):
        (tmp_path / name).mkdir()
        in_group(2, partial(train_sharded, folder=tmp_path / name, is_sharded=is_sharded))
    plain, sharded = (StateFolder(tmp_path / name / "states").newest() for name in ("ddp", "fsdp"))
    assert plain.tensors.keys() == sharded.tensors.keys()
    for name in (name for name in plain.tensors if name.startswith("model.")):
        torch.testing.assert_close(sharded.tensors[name], plain.tensors[name], rtol=0, atol=1e-5)
    (tmp_path / "stopped").mkdir()
    for stop_after in (3, None):
        in_group(2, partial(train_sharded, folder=tmp_path / "stopped", is_sharded=True, stop_after=stop_after))
    assert (tmp_path / "stopped/digest-None").read_text() == (tmp_path / "fsdp/digest-None").read_text()
