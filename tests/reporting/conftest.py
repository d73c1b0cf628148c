"""Everything a report reads, synthetic: a moving square, made-up metrics with the real keys, two curves, a dvc.yaml."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from tiny_shards import write_tiny_shards

from whale.reporting.report import ReportInputs

SIZE, CONTEXT, HORIZON = 32, 4, 8
SPLITS = [("pretrain", "blocks", "val"), ("pretrain", "cups", "val"), ("finetune", "unseen", "test")]
DVC = """
stages:
  ingest:
    foreach: ${datasets}
    do:
      desc: "raw episodes -> shards <safe>"
      deps: ["${item.raw}", whale/data/storage/shards.py]
      outs: ["artifacts/${profile}/data/${item.role}/shards/${key}"]
  mix: {cmd: m, deps: ["artifacts/${profile}/data/pretrain/shards"], outs: ["artifacts/${profile}/mix"]}
  train_tokenizer:
    deps: ["artifacts/${profile}/data/pretrain/shards", "artifacts/${profile}/mix"]
    outs: ["artifacts/${profile}/models/tokenizer"]
  report: {cmd: r, deps: ["artifacts/${profile}/models", "artifacts/${profile}/mix"], outs: [page]}
"""
PARAMS = """
profile: demo
datasets:
  blocks: {raw: raw/blocks, role: pretrain}
  cups: {raw: raw/cups, role: pretrain}
"""


def moving_square(length: int, noise: float, seed: int) -> np.ndarray:
    """uint8 [length, SIZE, SIZE, 3]."""
    rng = np.random.default_rng(seed)
    frames = np.full((length, SIZE, SIZE, 3), (214, 203, 184), np.float64)
    for step in range(length):
        frames[step, 8:16, 2 + 2 * step : 10 + 2 * step] = (40, 90, 160)
        frames[step] += rng.normal(0, noise * step, (SIZE, SIZE, 3))
    return np.clip(frames, 0, 255).astype(np.uint8)


def _video_arrays(seed: int) -> dict[str, np.ndarray]:
    recorded = moving_square(HORIZON + 1, 0, seed)[None].repeat(2, axis=0)
    arrays = {"recorded": recorded, "keys": np.array(["<b>&-val-0000001+0", "b-val-0000002+4"])}
    for index, name in enumerate(("full", "without_z", "copy_last", "tokenizer")):
        arrays[f"imagined.{name}"] = moving_square(HORIZON + 1, 1 + index, seed)[None, 1:].repeat(2, axis=0)
        arrays[f"psnr.{name}"] = 30 - index - 0.4 * np.arange(HORIZON)
    return arrays


def _uncertainty_arrays(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    u = rng.gamma(2.0, 0.01, (12, HORIZON)) * np.arange(1, HORIZON + 1)
    frames = moving_square(CONTEXT + HORIZON, 0, seed)[None].repeat(2, axis=0)
    imagined = moving_square(CONTEXT + HORIZON, 2, seed)[None, CONTEXT:].repeat(2, axis=0)
    return {
        "recorded": frames, "imagined": imagined, "shown": np.array([0, 11]), "retracing": u, "entropy": 10 * u,
        "error_latent": u + rng.normal(0, 0.02, u.shape), "error_pixel": 100 * u, "psnr": 30 - u,
        "keys": np.array(["a-val-0000001+0", "b-val-0000002+4"]),
    }  # fmt: skip


def _video_metrics(prefix: str, data: str) -> dict[str, object]:
    values: dict[str, object] = {"tokenizer.psnr": 28.914, "tokenizer.psnr.low": 28.5, "tokenizer.psnr.high": 29.3}
    values |= {"tokenizer.psnr_mean_image": 21.3, "tokenizer.codes_used_share": 0.81, "tokenizer.perplexity": 301.2}
    values |= {"dynamics.full.changed_accuracy": 0.21, "dynamics.full.changed_accuracy_most_frequent": 0.09}
    values |= {"dynamics.full.nll": 1.2, "dynamics.full.nll_copy_unigram": 1.9, "z.nll_gain": None}
    values |= {"policy.nll_lagged_prior": 3.1, "policy.nll_zeros": 4.4}
    for group in ("tokenizer", "dynamics.full", "dynamics.full.rollout", "dynamics.without_z.rollout", "z", "policy"):
        values[f"{group}.protocol"] = f"metric={group}|data={data}|resolution={SIZE}|model=0123abcd"
    for variant, psnr in (("full", 26.0), ("without_z", 25.5)):
        for horizon in (1, 4, 8):
            at = f"dynamics.{variant}.rollout.h{horizon}"
            values |= {f"{at}.psnr": psnr - 0.3 * horizon, f"{at}.psnr_copy_last": 24.0, f"{at}.ssim": 0.71}
            values[f"{at}.ssim_copy_last"] = 0.75
    return {f"{prefix}.{key}": value for key, value in values.items()}


def _uncertainty_metrics(prefix: str, data: str) -> dict[str, object]:
    values: dict[str, object] = {"protocol": f"metric=uncertainty|data={data}|model=0123abcd"}
    for index, score in enumerate(("retracing", "entropy")):
        for error in ("latent", "pixel"):
            for metric in ("pearson", "spearman", "auroc"):
                values[f"{score}.{error}.{metric}"] = 0.55 - 0.2 * index
    return {f"{prefix}.{key}": value for key, value in values.items()}


def _seal(folder: Path) -> None:
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": digest}
    (folder / "MANIFEST.json").write_text(json.dumps({"files": files}))


def write_inputs(root: Path) -> ReportInputs:
    """Equal calls write equal bytes."""
    for role, name, _ in SPLITS:
        _seal(write_tiny_shards(root / "data" / role / "shards" / name, name, [9, 12, 10]))
    for model in ("tokenizer", "dynamics/full", "finetuned/dynamics/full"):
        folder = root / "models" / model
        folder.mkdir(parents=True)
        curve = [{"step": s, "loss": 3.0 / (1 + s / 50), "psnr": 18 + s / 60, "lr": 1e-3} for s in range(0, 601, 25)]
        (folder / "curves.json").write_text(json.dumps(curve))
        (folder / "model.safetensors").write_bytes(b"weights of " + model.encode())
        share = {"blocks": {"segment_share": 0.52}, "cups": {"segment_share": 0.48}}
        (folder / "receipt.json").write_text(json.dumps({"datasets": share}))
        _seal(folder)
    (root / "models" / "dynamics" / "untrained").mkdir()
    (root / "models" / "dynamics" / "untrained" / "curves.json").write_text("[]")
    plan = {"datasets": [{"name": name, "share": 0.5} for name in ("blocks", "cups")]}
    (root / "mix").mkdir()
    (root / "mix" / "plan.json").write_text(json.dumps({"pretrain": plan, "dynamics": plan}))
    _seal(root / "mix")
    metrics: dict[str, dict[str, object]] = {"video": {}, "uncertainty": {}}
    makers = {"video": (_video_arrays, _video_metrics), "uncertainty": (_uncertainty_arrays, _uncertainty_metrics)}
    (root / "metrics").mkdir()
    for kind, (arrays, numbers) in makers.items():
        folder = root / "evaluation" / kind
        folder.mkdir(parents=True)
        for seed, (role, name, split) in enumerate(SPLITS):
            np.savez_compressed(folder / f"{role}.{name}.{split}.npz", **arrays(seed))
            metrics[kind] |= numbers(f"{role}.{name}.{split}", f"{name}/{split}")
        _seal(folder)
        if kind == "video":
            together = {"codes_used": 900, "num_codes": 1024, "perplexity": 301.2, "codes_used_share": 0.88}
            metrics[kind] |= {f"pretrain.codebook.{key}": value for key, value in together.items()}
        (root / "metrics" / f"evaluate_{kind}.json").write_text(json.dumps(metrics[kind]))
    (root / "dvc.yaml").write_text(DVC)
    (root / "params.yaml").write_text(PARAMS)
    places = {name: root / name for name in ("models", "data", "mix", "evaluation", "metrics")}
    return ReportInputs(**places, pipeline=root / "dvc.yaml", params=root / "params.yaml")


@pytest.fixture(scope="session")
def report_inputs(tmp_path_factory) -> ReportInputs:
    return write_inputs(tmp_path_factory.mktemp("report"))
