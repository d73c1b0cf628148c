from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tiny_models as tiny
import tiny_training as runs
import torch
from worker_group import in_ddp, in_group

from whale.common.errors import BadDataError
from whale.models.trunk.folder import tensor_digest
from whale.training.loop.communicator import Communicator
from whale.training.loop.loop import fit
from whale.training.loop.resume.checkpoint import StateFolder
from whale.training.loop.task import Hooks

KINDS = ["tokenizer", "behavior", "dynamics"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_crashed_between_two_saves_continues_and_equals_the_straight_run_bit_for_bit(kind, tmp_path):
    straight, straight_result = runs.run(kind, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        runs.run(kind, tmp_path / "stopped", stop_after=5)
    continued, result = runs.run(kind, tmp_path / "stopped")
    assert result.resumed_from == 4
    assert tensor_digest(continued.model.state_dict()) == tensor_digest(straight.model.state_dict())
    assert runs.dumps(result.curve) == runs.dumps(straight_result.curve)
    assert result.best == straight_result.best
    assert continued.loader.seen[0] == result.resumed_from


@pytest.mark.parametrize("kind", KINDS)
def test_training_lowers_the_loss(kind, tmp_path):
    _, result = runs.run(kind, tmp_path, training_steps=40, num_batches=1)
    assert result.curve[-1]["loss"] < result.curve[0]["loss"]
    assert [record["step"] for record in result.curve] == list(range(1, result.steps + 1))


def test_a_finished_run_that_is_started_again_takes_no_further_step_than_from_its_last_state(tmp_path):
    first, _ = runs.run("dynamics", tmp_path)
    again, result = runs.run("dynamics", tmp_path)
    assert again.loader.seen[0] == 8 and result.resumed_from == 8
    assert tensor_digest(first.model.state_dict()) == tensor_digest(again.model.state_dict())


def test_no_steps_leave_the_initial_weights(tmp_path):
    trained, result = runs.run("dynamics", tmp_path, training_steps=0)
    assert result.steps == 0 and trained.loader.seen == []
    assert tensor_digest(trained.model.state_dict()) == tensor_digest(tiny.dynamics().state_dict())


def test_early_stopping_publishes_the_best_weights_and_says_which_step(tmp_path):
    trained, result = runs.run("behavior", tmp_path, training_steps=200)
    validated = {r["step"]: r["validation_loss"] for r in result.curve if "validation_loss" in r}
    assert result.steps < 200
    assert result.best["best_step"] == min(validated, key=validated.get)
    with torch.no_grad():
        found = trained.model.eval()(tiny.pixel_batch(seed=99))[0].item()
    assert found == pytest.approx(result.best["best_loss"], rel=1e-5)


def train_with_odd_validation(communicator: Communicator, folder: Path) -> None:
    """The lead's validation improves for ever, the other worker's never does."""
    task = runs.task("behavior", 12, communicator)
    forward = task.model.forward

    def odd(batch):
        loss, logs = forward(batch)
        if task.model.training:
            return loss, logs
        done = 1.0 + task.loader.step
        return torch.tensor(done if communicator.rank else 1 / done), logs

    task.model.forward = odd
    result = fit(task, StateFolder(folder), communicator, Hooks(wrap=in_ddp))
    assert result.steps == 12 and result.best["best_step"] == 12
    assert [r["validation_loss"] for r in result.curve if "validation_loss" in r] == [
        0.333333,
        0.166667,
        0.111111,
        0.0833333,
    ]


def test_all_workers_stop_by_the_validation_of_the_lead(tmp_path):
    in_group(2, partial(train_with_odd_validation, folder=tmp_path))


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_validation_computes_in_the_precision_of_training(tmp_path, ema_decay):
    task = runs.task("behavior", 3)
    task.optimization = task.optimization.model_copy(update={"precision": "bfloat16", "ema_decay": ema_decay})
    forward, seen = task.model.forward, []

    def watched(batch):
        seen.append((task.model.training, torch.is_autocast_enabled("cpu")))
        return forward(batch)

    task.model.forward = watched
    fit(task, StateFolder(tmp_path), Communicator())
    assert seen[-2:] == [(True, True), (False, True)]  # the last step, the last validation


def test_the_error_of_a_bad_step_prints_a_command_that_a_shell_takes(tmp_path):
    broken = runs.task("dynamics")
    make_batch = broken.loader.make_batch

    def poisoned(size: int, seed: int) -> dict:
        batch = make_batch(size=size, seed=seed)
        batch["action"][0, 0, 0] = np.nan if seed == 5 else 0.0
        return batch

    broken.loader.make_batch = poisoned
    around = Hooks(replay="WHALE_REPLAY_STEP=<step> python -m whale.run x")
    with pytest.raises(BadDataError, match=r"with: WHALE_REPLAY_STEP=5 python -m whale\.run x"):
        fit(broken, StateFolder(tmp_path), Communicator(), around)


def test_a_loss_that_is_not_finite_stops_with_its_step_and_samples_and_keeps_the_saved_state(tmp_path):
    broken = runs.task("dynamics")
    make_batch = broken.loader.make_batch

    def poisoned(size: int, seed: int) -> dict:
        batch = make_batch(size=size, seed=seed)
        batch["action"][0, 0, 0] = np.nan if seed == 5 else 0.0
        return batch

    broken.loader.make_batch = poisoned
    with pytest.raises(BadDataError, match=r"step 5, samples \[20\] of \[20, 21, 22, 23\]\n +sample 20: row 0"):
        fit(broken, StateFolder(tmp_path), Communicator())
    assert StateFolder(tmp_path).newest().step == 4


def test_frozen_parts_keep_their_bytes_and_get_no_gradient(tmp_path):
    frozen = runs.task("tokenizer")
    frozen.upkeep = None
    frozen.model.encoder.requires_grad_(False)
    frozen.model.quantizer.requires_grad_(False)
    parts = ("encoder", "quantizer", "decoder")
    before = {part: tensor_digest(getattr(frozen.model, part).state_dict()) for part in parts}
    frames = tiny.pixel_batch()["frames"].float() / 255
    tokens = frozen.model.encode(frames)
    fit(frozen, StateFolder(tmp_path), Communicator())
    after = {part: tensor_digest(getattr(frozen.model, part).state_dict()) for part in before}
    assert after["encoder"] == before["encoder"] and after["quantizer"] == before["quantizer"]
    assert after["decoder"] != before["decoder"]
    assert torch.equal(frozen.model.encode(frames), tokens)
    assert all(parameter.grad is None for parameter in frozen.model.encoder.parameters())
