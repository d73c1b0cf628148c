"""One shape of z from the behavior model's config to the loss of the dynamics."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_models as tiny
import tiny_training as runs
import torch
from pydantic import ValidationError
from tiny_shards import encode, write_tiny_shards

from pipelines import train_dynamics
from whale.common.json_files import write_json
from whale.common.run import Run
from whale.data.loading.data_fraction import DataFraction
from whale.data.loading.sampler import Plan, SegmentSampler, single_dataset_plan
from whale.data.segments.grid import SegmentConfig
from whale.data.segments.token_shards import TokenSet, ZSet, write_manifest
from whale.data.storage.shards import ShardSet
from whale.evaluation.scaling.trained import Trained
from whale.models.dynamics.dynamics import Dynamics
from whale.models.trunk.folder import save_model
from whale.runtime.embedding.behavior_embedder import load_embedder, prior_digest
from whale.runtime.maps.segment_maps import embed_shard, grid_of_shards, shard_tasks, tokenize_shard
from whale.training.loop.communicator import Communicator
from whale.training.loop.inputs import PixelInputs, TokenInputs
from whale.training.tasks.behavior import steps_before
from whale.training.tasks.dynamics import TrainDynamicsConfig, new_dynamics

SEGMENTS = SegmentConfig(window=tiny.WINDOW, phases=2)
BATCH, NUM_CODES = 4, 2**16


def write_samples(shards: Path, out: Path, kind: str, function, state) -> None:
    fragments = [function(state, task) for task in shard_tasks(shards, out, SEGMENTS)]
    write_manifest(out, kind, shards.name, grid_of_shards(shards, SEGMENTS), "made by a test", fragments)


def trains(model: torch.nn.Module, batch: dict[str, np.ndarray]) -> bool:
    """Whether one backward pass reaches every weight with a finite gradient."""
    loss, _ = model.train()({name: torch.as_tensor(value) for name, value in batch.items()})
    loss.backward()
    return all(each.grad is not None and bool(each.grad.isfinite().all()) for each in model.parameters())


@pytest.mark.parametrize("z_shape", [(16, 16), (8, 16), (16, 8), (3, 5)], ids=str)
def test_a_z_of_any_shape_trains_behavior_and_dynamics(tmp_path, z_shape):
    shards = write_tiny_shards(tmp_path / "shards/fleet_a", "fleet_a", [7, 2, 12, 9])
    statistics = {"fleet_a": ShardSet.open(shards).statistics}
    behavior = tiny.behavior(num_categories=z_shape[0], num_classes=z_shape[1])
    pixels = PixelInputs(tmp_path / "shards", None, SEGMENTS, tiny.RESOLUTION, 0, noise_size=z_shape[0])
    loader = pixels.loader(Communicator(), BATCH, stream="behavior")
    assert trains(behavior, loader.batch(0))

    (tmp_path / "behavior").mkdir()
    save_model(tmp_path / "behavior", behavior)
    embedder = load_embedder(tmp_path / "behavior", statistics["fleet_a"], batch_segments=4)
    write_samples(shards, tmp_path / "z/fleet_a", "z", embed_shard, embedder)
    write_samples(shards, tmp_path / "tokens/fleet_a", "tokens", tokenize_shard, encode)
    inputs = TokenInputs(tmp_path / "tokens", tmp_path / "z", None, statistics, SEGMENTS, seed=0)
    assert inputs.z_shape() == z_shape
    entry = TrainDynamicsConfig(
        size=tiny.SIZE, behavior_conditioning=True, copy_bias=None, optimization=runs.optimization(1)
    )
    dynamics = new_dynamics(entry, num_codes=NUM_CODES, z_shape=inputs.z_shape(), seed=0)
    batch = inputs.loader(Communicator(), BATCH, stream="dynamics").batch(0)
    assert batch["uniform"].shape[-1] == z_shape[0]
    assert trains(dynamics, batch)


def test_a_prior_with_memory_trains_on_longer_samples_and_stores_z_from_before_the_segment(tmp_path):
    shards = write_tiny_shards(tmp_path / "shards/fleet_a", "fleet_a", [7, 2, 12, 9])
    opened = ShardSet.open(shards)
    behavior, memory = tiny.behavior(memory=7).eval(), 7
    before = steps_before(behavior.config, SEGMENTS.window)
    pixels = PixelInputs(tmp_path / "shards", None, SEGMENTS, tiny.RESOLUTION, 0, noise_size=16, history=before)
    batch = pixels.loader(Communicator(), BATCH, stream="behavior").batch(0)
    assert batch["action"].shape[1] == memory and trains(behavior, batch)

    for name, model in (("behavior", behavior), ("plain", tiny.behavior())):
        (tmp_path / name).mkdir()
        save_model(tmp_path / name, model)
    assert prior_digest(tmp_path / "behavior") != prior_digest(tmp_path / "plain")  # the same tensors, another z
    embedder = load_embedder(tmp_path / "behavior", opened.statistics, batch_segments=4)
    write_samples(shards, tmp_path / "z/fleet_a", "z", embed_shard, embedder)
    table = ZSet.open(tmp_path / "z/fleet_a")
    row = max(opened.episodes("train"), key=lambda each: each.num_steps)
    stored = table.read(next(each for each in table.episodes("train") if each.key == row.key))
    taken = torch.from_numpy(embedder.normalizer.normalize(opened.read_arrays(row)["action"]))[None]
    with torch.no_grad():
        frames = behavior.pixels(opened.read_frames(row, 0, row.num_steps))[None]
        first = behavior.prior_log_probs(frames[:, :7], taken[:, :7])[0]  # steps 0 to 6
        second = behavior.prior_log_probs(frames[:, 4:11], taken[:, 4:11])[0]  # full: 3 of 7 stay, from step 4 on
    at_four = stored["z"][list(stored["starts"]).index(4)]
    np.testing.assert_allclose(at_four, torch.cat([first[4:], second[3:4]]).numpy(), atol=2e-3)


def entry_of(seed: int | None, **more) -> TrainDynamicsConfig:
    return TrainDynamicsConfig(
        size=tiny.SIZE, behavior_conditioning=True, copy_bias=None, optimization=runs.optimization(1), seed=seed, **more
    )


@pytest.fixture(scope="module")
def stage_folder(tmp_path_factory):
    """Tokens, z, a plan and a tokenizer, as `train_dynamics` finds them."""
    root = tmp_path_factory.mktemp("stage")
    shards = write_tiny_shards(root / "shards/fleet_a", "fleet_a", [7, 2, 12, 9])
    for name in ("behavior", "tokenizer", "mix"):
        (root / name).mkdir()
    save_model(root / "behavior", tiny.behavior())
    save_model(root / "tokenizer", tiny.tokenizer(num_codes=4096))
    statistics = ShardSet.open(shards).statistics
    write_samples(shards, root / "z/fleet_a", "z", embed_shard, load_embedder(root / "behavior", statistics, 4))
    write_samples(shards, root / "tokens/fleet_a", "tokens", tokenize_shard, encode)
    tokens = TokenSet.open(root / "tokens/fleet_a")
    plan = single_dataset_plan(
        "fleet_a", tokens.manifest["totals"]["segments"], 0, window=SEGMENTS.window, phases=SEGMENTS.phases,
        shards_digest=tokens.grid["shards"],
    )  # fmt: skip
    write_json(root / "mix/plan.json", {"dynamics": plan.model_dump(mode="json")})
    write_json(root / "mix/statistics.json", {"fleet_a": statistics})
    write_json(root / "tokenizer/contract.json", {})
    return root


def trained(root: Path, out: Path, seed: int | None, **more) -> tuple[bytes, str]:
    """Published weights, and the digest of the plan that the receipt names, of the real stage."""
    args = train_dynamics.Args(
        tokens=root / "tokens", z=root / "z", mix=root / "mix", tokenizer=root / "tokenizer",
        train_dynamics=entry_of(seed, **more), segments=SEGMENTS, seed=0,
    )  # fmt: skip
    out.mkdir(parents=True)
    train_dynamics.run(args, Run(out, args, work=out.parent / f"{out.name}-state", stage="train_dynamics"))
    return (out / "model.safetensors").read_bytes(), json.loads((out / "receipt.json").read_text())["plan_digest"]


def test_members_of_an_ensemble_differ_in_weights_and_order_and_the_default_is_the_seed_of_all(stage_folder, tmp_path):
    found = {name: trained(stage_folder, tmp_path / str(name), name) for name in (None, 0, 1, 2)}
    assert found[None] == found[0]
    assert len({weights for weights, _ in found.values()}) == len({plan for _, plan in found.values()}) == 3


def test_initial_weights_and_draws_follow_the_seed(stage_folder):
    networks = [new_dynamics(entry_of(None), num_codes=8, z_shape=(2, 3), seed=seed) for seed in (0, 0, 1)]
    first, same, other = (torch.cat([each.flatten() for each in network.parameters()]) for network in networks)
    assert torch.equal(first, same) and not torch.equal(first, other)
    plan = Plan.load(stage_folder / "mix/plan.json", "dynamics")
    assert plan.reseeded(plan.seed) == plan
    draws = [SegmentSampler(plan.reseeded(seed)).arrays(0, plan.block)[1].tolist() for seed in (0, 1)]
    assert draws[0] != draws[1] and sorted(draws[0]) == sorted(draws[1])


def test_an_entry_without_a_seed_is_recorded_as_one_that_never_had_the_key():
    assert "seed" not in entry_of(None).deciding_values() and entry_of(3).deciding_values()["seed"] == 3


def test_an_entry_on_all_episodes_is_the_same_bytes_and_record_whether_it_says_so_or_not(stage_folder, tmp_path):
    said = trained(stage_folder, tmp_path / "said", None, data_fraction=1.0)
    assert said == trained(stage_folder, tmp_path / "silent", None)
    assert entry_of(None, data_fraction=1.0).digest() == entry_of(None).digest()
    assert "data_fraction" not in json.loads((tmp_path / "said/receipt.json").read_text())["datasets"]["fleet_a"]
    assert entry_of(None, data_fraction=0.5).deciding_values()["data_fraction"] == 0.5


def test_a_fraction_draws_from_its_episodes_alone_and_its_receipt_says_so(stage_folder, tmp_path):
    weights, plan = trained(stage_folder, tmp_path / "half", None, data_fraction=0.5)
    whole, other = trained(stage_folder, tmp_path / "whole", None)
    assert weights != whole and plan != other
    row = json.loads((tmp_path / "half/receipt.json").read_text())["datasets"]["fleet_a"]
    assert (row["data_fraction"], row["episodes"], row["episodes_of"]) == (0.5, 2, 4)
    published = Trained.read(tmp_path / "half", Dynamics.restore(tmp_path / "half"), SEGMENTS.window, 16)
    assert published.data_fraction == 0.5 and published.tokens == row["segments"] * SEGMENTS.window * 16
    assert published.loss_at(published.tokens) == json.loads((tmp_path / "half/curves.json").read_text())[-1]["loss"]
    loader = loader_of(stage_folder, 0.5)
    keys = {loader.segments.describe(draw).split("episode ")[1].split(",")[0] for draw in loader.sampler.draws(0, 200)}
    rows = [row.key for row in TokenSet.open(stage_folder / "tokens/fleet_a").episodes("train")]
    assert keys == {rows[place] for place in DataFraction(0.5, 0).places("fleet_a", rows)}


def loader_of(root: Path, fraction: float, seed: int = 0, rank: int = 0, world_size: int = 1):
    statistics = json.loads((root / "mix/statistics.json").read_text())
    inputs = TokenInputs(root / "tokens", root / "z", root / "mix", statistics, SEGMENTS, seed, fraction)
    return inputs.loader(SimpleNamespace(rank=rank, world_size=world_size), BATCH, stream="dynamics")


def test_a_fraction_is_drawn_alike_on_any_number_of_workers_and_an_own_seed_changes_the_order_alone(stage_folder):
    alone = loader_of(stage_folder, 0.5).batch(3)
    parts = [loader_of(stage_folder, 0.5, rank=rank, world_size=2).batch(3) for rank in (0, 1)]
    for name, values in alone.items():
        np.testing.assert_array_equal(values, np.concatenate([part[name] for part in parts]))
    segments = [loader_of(stage_folder, 0.5, seed=seed).segments for seed in (0, 7)]
    assert segments[0]._rows == segments[1]._rows
    plans = [loader_of(stage_folder, 0.5, seed=seed).sampler.plan for seed in (0, 7)]
    assert plans[0] == plans[1].reseeded(0) and "data_fraction 0.5" in plans[0].provenance


@pytest.mark.parametrize("wrong", [0, 0.0, -0.1, 1.5, "0.5", True, float("nan")])
def test_what_is_no_fraction_is_refused(wrong):
    with pytest.raises(ValidationError, match="data_fraction"):
        entry_of(None, data_fraction=wrong)
