"""A run stopped anywhere and continued is the straight run, bit for bit; other workers, the same samples."""

import itertools
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import tiny_training as runs
import torch
from worker_group import in_ddp, in_group

from whale.models.trunk.folder import save_model, tensor_digest
from whale.training.loop.communicator import Communicator
from whale.training.loop.loop import fit
from whale.training.loop.resume.checkpoint import StateFolder
from whale.training.loop.task import Hooks

STEPS, EPOCH = 10, 4  # the tiny loader repeats its batches after an epoch of 4 steps
STOPS = {"0": 0, "1": 1, "epoch end": 4, "mid": 5, "second epoch": 6, "last - 1": 9}


class Recorder:
    """What a run did: every loss, the samples of every step, where torch's generator stood."""

    def __init__(self) -> None:
        self.losses: dict[int, str] = {}
        self.samples: dict[int, list[int]] = {}

    def watch(self, task) -> None:
        forward, recorder = task.model.forward, self

        def recorded(batch):
            loss, logs = forward(batch)
            if task.model.training:
                recorder.samples.setdefault(task.loader.step, []).extend(batch["sample_index"].tolist())
                recorder.losses[task.loader.step] = loss.detach().numpy().tobytes().hex()
            return loss, logs

        task.model.forward = recorded

    def dump(self, path: Path) -> None:
        generator = torch.get_rng_state().sum().item()
        path.write_text(json.dumps({"losses": self.losses, "samples": self.samples, "generator": generator}))


def train(
    communicator: Communicator, kind: str, folder: Path, stop_after: int | None = None, name: str = "run"
) -> None:
    """One rank of a run; with `stop_after` it is asked to stop there, saves and ends."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(communicator.rank)
    task = runs.task(kind, STEPS, communicator)
    task.optimization = task.optimization.model_copy(update={"save_every": 1})  # the last states can be compared
    task.loader.num_batches = EPOCH
    recorder = Recorder()
    recorder.watch(task)
    torch.rand(3)  # somebody used the generator: a restart must find it where it stood
    around = Hooks(wrap=in_ddp, stop_requested=lambda: task.loader.step + 1 == stop_after)
    result = fit(task, StateFolder(folder / "states"), communicator, around)
    recorder.dump(folder / f"{name}-{communicator.rank}.json")
    if communicator.is_lead and not result.is_stopped:
        (folder / "out").mkdir(exist_ok=True)
        save_model(folder / "out", task.model)
        (folder / "out" / "curves.json").write_text(runs.dumps(result.curve))


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Finished runs by (kind, number of workers), made once."""
    made: dict[tuple[str, int], Path] = {}

    def get(kind: str, world_size: int) -> Path:
        if (kind, world_size) not in made:
            folder = made[kind, world_size] = tmp_path_factory.mktemp(f"{kind}-{world_size}")
            in_group(world_size, partial(train, kind=kind, folder=folder))
        return made[kind, world_size]

    return get


EVERY_RUN = [("dynamics", 1, stop) for stop in STOPS] + [("dynamics", 2, stop) for stop in ("1", "mid", "last - 1")]
EVERY_RUN += [("tokenizer", 2, "epoch end"), ("behavior", 2, "second epoch"), ("rssm", 1, "mid")]
WHOLE_GRID = itertools.product(["dynamics", "tokenizer", "behavior", "rssm"], [1, 2], STOPS)
GRID = [pytest.param(*cell, marks=[] if cell in EVERY_RUN else pytest.mark.nightly) for cell in WHOLE_GRID]


@pytest.mark.parametrize(("kind", "world_size", "stop"), GRID)
def test_stopped_and_continued_is_bit_equal_in_losses_samples_generator_and_files(
    straight, kind, world_size, stop, tmp_path
):
    expected, stop_after = straight(kind, world_size), STOPS[stop]
    if stop_after:
        in_group(world_size, partial(train, kind=kind, folder=tmp_path, stop_after=stop_after, name="first"))
        assert StateFolder(tmp_path / "states").newest().step == stop_after
    in_group(world_size, partial(train, kind=kind, folder=tmp_path, name="second"))
    for rank in range(world_size):
        first = json.loads((tmp_path / f"first-{rank}.json").read_text()) if stop_after else None
        second = json.loads((tmp_path / f"second-{rank}.json").read_text())
        whole = json.loads((expected / f"run-{rank}.json").read_text())
        for what in ("losses", "samples"):
            assert {**(first[what] if first else {}), **second[what]} == whole[what]
        assert second["generator"] == whole["generator"]
    for file in ("model.safetensors", "config.json", "curves.json"):
        assert (tmp_path / "out" / file).read_bytes() == (expected / "out" / file).read_bytes()
    newest, kept = StateFolder(tmp_path / "states").newest(), StateFolder(expected / "states").newest()
    assert newest.step == kept.step and tensor_digest(newest.tensors) == tensor_digest(kept.tensors)


def test_another_number_of_workers_takes_the_same_samples_and_the_same_first_step(straight):
    """Straight runs of 1, 2 and 4 workers; the tolerance after the first step is that of float32 sums."""
    alone = json.loads((straight("dynamics", 1) / "run-0.json").read_text())["samples"]
    curve = json.loads((straight("dynamics", 1) / "out/curves.json").read_text())
    for world_size in (2, 4):
        folder = straight("dynamics", world_size)
        ranks = [json.loads((folder / f"run-{rank}.json").read_text())["samples"] for rank in range(world_size)]
        assert {step: [index for rank in ranks for index in rank[step]] for step in alone} == alone
        other = json.loads((folder / "out/curves.json").read_text())
        np.testing.assert_allclose([r["loss"] for r in other], [r["loss"] for r in curve], rtol=1e-4)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 4)])
def test_a_run_that_goes_on_with_other_workers_skips_and_repeats_nothing(straight, before, after, tmp_path):
    in_group(before, partial(train, kind="dynamics", folder=tmp_path, stop_after=5, name="first"))
    saved = StateFolder(tmp_path / "states").newest()
    in_group(after, partial(train, kind="dynamics", folder=tmp_path, name="second"))
    whole = json.loads((straight("dynamics", 1) / "run-0.json").read_text())["samples"]
    taken: dict[str, list[int]] = {}
    for name, world_size in (("first", before), ("second", after)):
        for rank in range(world_size):
            for step, samples in json.loads((tmp_path / f"{name}-{rank}.json").read_text())["samples"].items():
                taken.setdefault(step, []).extend(samples)
    assert taken == whole
    final = safetensors.torch.load_file(tmp_path / "out/model.safetensors")
    reference = safetensors.torch.load_file(straight("dynamics", 1) / "out/model.safetensors")
    for name, value in reference.items():
        torch.testing.assert_close(final[name], value, rtol=0, atol=2e-4)
    assert saved.record["world_size"] == before


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_first_step_of_other_workers_gives_parameters_equal_to_1e_6(world_size, tmp_path):
    for workers in (1, world_size):
        in_group(workers, partial(train, kind="dynamics", folder=tmp_path / str(workers), stop_after=1))
    one, other = (StateFolder(tmp_path / str(workers) / "states").newest() for workers in (1, world_size))
    names = [name.removeprefix("model.") for name in one.tensors if name.startswith("model.")]
    small = 0
    for name in names:
        moment, own = (each.tensors[f"optimizer.exp_avg.{name}"] for each in (one, other))
        torch.testing.assert_close(own, moment, rtol=1e-4, atol=1e-8)
        # AdamW divides by the size of a gradient: where that is rounding itself (below 1e-7), so is the step.
        told = moment.abs() > 1e-8
        small += int((~told & (moment != 0)).sum())
        torch.testing.assert_close(
            other.tensors[f"model.{name}"][told], one.tensors[f"model.{name}"][told], rtol=0, atol=1e-6
        )
    assert small < 0.01 * sum(one.tensors[f"model.{name}"].numel() for name in names)
