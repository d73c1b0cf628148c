import base64
import json

import numpy as np
import pytest
import torch
from tiny_shards import SIZE, write_tiny_shards

from whale.common.errors import RefusedError
from whale.data.loading.sampler import Plan
from whale.data.segments.token_shards import TokenSet, ZSet, require_same_grid
from whale.data.storage.shards import ShardSet
from whale.models.behavior.behavior import BehaviorConfig, BehaviorModel
from whale.models.tokenizer.tokenizer import TokenizerConfig, VideoTokenizer
from whale.models.trunk.folder import save_model
from whale.run import run_stage
from whale.runtime.embedding.behavior_embedder import load_embedder, trained_statistics
from whale.runtime.token_encoder import encoder_digest, load_encode

PARAMS = """
seed: 0
segments: {window: 4, phases: 2}
mix:
  weights: {fleet_a: {weight: 1.0, source: test}, fleet_b: {weight: 2.0, source: test}}
  dynamics: {datasets: [fleet_a], provenance: assumption}
  block: 30
pretokenize: {batch_segments: 4}
embed_behavior: {batch_segments: 4}
finetune_embed: {robot: {batch_segments: 4}}
"""
TRUNK = {"num_layers": 2, "num_heads": 2, "d_model": 8}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with params.yaml, two ingested datasets, a tokenizer and a behavior model with random weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WHALE_MAP_ENGINE", "local")
    (tmp_path / "params.yaml").write_text(PARAMS)
    for name, lengths in (("fleet_a", [7, 2, 12]), ("fleet_b", [5, 30])):
        write_tiny_shards(tmp_path / "shards" / name, name, lengths)
    torch.manual_seed(0)
    save_tiny_models(tmp_path)
    return tmp_path


def save_tiny_models(folder):
    tokenizer = {"resolution": SIZE, "patch_size": 8, "num_codes": 16, "latent_dim": 4, "commitment": 0.25}
    tokenizer |= {"encoder": TRUNK, "decoder": TRUNK}
    behavior = {"resolution": SIZE, "patch_size": 8, "action_size": 7, "num_categories": 16, "num_classes": 16}
    behavior |= {"kl_beta": 0.1, "kl_balance": "plain", "unimix": 0.01, "log_std_range": [-5.0, 2.0]}
    behavior |= {"posterior": TRUNK, "prior": TRUNK, "policy": TRUNK}
    models = {
        "tokenizer": VideoTokenizer(TokenizerConfig.parse(tokenizer, file="test")),
        "behavior": BehaviorModel(BehaviorConfig.parse(behavior, file="test")),
    }
    for name, model in models.items():
        (folder / name).mkdir(exist_ok=True)
        save_model(folder / name, model)
    statistics = {name: ShardSet.open(folder / "shards" / name).statistics for name in ("fleet_a", "fleet_b")}
    (folder / "behavior" / "dataset_statistics.json").write_text(json.dumps(statistics))


def run(stage, **paths):
    run_stage([stage, *(text for name, value in paths.items() for text in (f"--{name}", str(value)))])


def test_the_stages_give_plans_tokens_and_z_that_fit_together(project):
    run("mix", shards="shards", out="out/mix")
    for name in ("fleet_a", "fleet_b"):
        paths = {"item": name, "shards": f"shards/{name}"}
        run("pretokenize", **paths, tokenizer="tokenizer", out=f"out/tokens/{name}")
        run("embed_behavior", **paths, behavior="behavior", out=f"out/z/{name}")
    run("finetune_embed", item="robot", shards="shards", behavior="behavior", out="out/finetuned_z")
    plan = Plan.load(project / "out/mix/plan.json", "pretrain")
    for dataset in plan.datasets:
        tokens, z = TokenSet.open(project / "out/tokens" / dataset.name), ZSet.open(project / "out/z" / dataset.name)
        require_same_grid(tokens, z)
        assert dataset.num_segments == tokens.manifest["totals"]["segments"]
        assert dataset.shards_digest == tokens.grid["shards"]
        again = ZSet.open(project / "out/finetuned_z" / dataset.name)
        for row, same in zip(z.episodes("train"), again.episodes("train"), strict=True):
            log_probs = z.read(row)["z"].astype(np.float64)
            np.testing.assert_array_equal(log_probs, again.read(same)["z"])
            np.testing.assert_allclose(np.exp(log_probs).sum(-1), 1, atol=5e-3)
    receipt = json.loads((project / "out/mix/receipt.json").read_text())
    assert receipt["dynamics"]["provenance"] == "assumption"
    assert set(json.loads((project / "out/mix/statistics.json").read_text())) == {"fleet_a", "fleet_b"}


def test_tokens_stay_valid_when_only_the_decoder_changes(project):
    before = encoder_digest(project / "tokenizer")
    tokenizer = VideoTokenizer.restore(project / "tokenizer")
    with torch.no_grad():
        tokenizer.decoder["patches"].weight.add_(1)
    save_model(project / "tokenizer", tokenizer)
    assert encoder_digest(project / "tokenizer") == before
    with torch.no_grad():
        tokenizer.quantizer.codebook.add_(1)
    save_model(project / "tokenizer", tokenizer)
    assert encoder_digest(project / "tokenizer") != before


def test_encoding_in_batches_is_the_model_on_every_segment_alone(project):
    frames = np.random.default_rng(0).integers(0, 256, (5, 5, SIZE, SIZE, 3), np.uint8)
    tokenizer = VideoTokenizer.restore(project / "tokenizer")
    alone = [tokenizer.encode(torch.from_numpy(frame[None]).float() / 255).numpy()[0] for frame in frames]
    found = load_encode(project / "tokenizer", batch_segments=2)(frames)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, alone)


def test_the_statement_of_a_mapping_stage_names_its_device(project, monkeypatch):
    monkeypatch.setenv("WHALE_DEVICE", "cpu")
    paths = {"item": "fleet_a", "shards": "shards/fleet_a", "tokenizer": "tokenizer"}
    run("pretokenize", **paths, out="out/tokens/fleet_a")
    (path,) = project.glob("lineage/runs/*/statement.dsse.json")
    statement = json.loads(base64.b64decode(json.loads(path.read_text())["payload"]))
    assert statement["predicate"]["buildDefinition"]["internalParameters"]["engine"] == {"device": "cpu"}


@pytest.mark.gpu
def test_a_gpu_gives_the_tokens_and_z_of_the_cpu(project):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (5, 5, SIZE, SIZE, 3), np.uint8)
    here, there = (load_encode(project / "tokenizer", 2, device)(frames) for device in ("cpu", "cuda"))
    assert (here == there).mean() > 0.99  # in float32 two codes may be equally near
    actions = rng.uniform(-1, 1, (5, 4, 7)).astype(np.float32)
    statistics = trained_statistics(project / "behavior", ShardSet.open(project / "shards/fleet_a"))
    here, there = (
        load_embedder(project / "behavior", statistics, 2, device).embed(frames[:, :-1], actions)
        for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(there.astype(np.float32), here.astype(np.float32), atol=5e-3)


def test_a_model_of_other_statistics_or_datasets_is_refused(project):
    path = project / "behavior" / "dataset_statistics.json"
    known = json.loads(path.read_text())
    known["fleet_a"]["action"]["q01"][0] = -7.0
    del known["fleet_b"]
    path.write_text(json.dumps(known))
    with pytest.raises(RefusedError, match=r"-7\.0"):
        trained_statistics(project / "behavior", ShardSet.open(project / "shards/fleet_a"))
    with pytest.raises(RefusedError, match="not trained on"):
        trained_statistics(project / "behavior", ShardSet.open(project / "shards/fleet_b"))
