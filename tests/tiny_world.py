"""A sealed world bundle of tiny untrained networks: 16 x 16 frames, window 4, actions sized like a real robot's."""

import hashlib
from pathlib import Path

import numpy as np
import tiny_models
import torch

from whale.audit.exports.world_bundle.world_parts import write_parts
from whale.common.files import sha256_of_file
from whale.common.json_files import write_json
from whale.models.trunk.folder import save_model
from whale.reward.reading import encoder_digest
from whale.reward.reward import RewardHead, RewardHeadConfig
from whale.seal import seal
from whale.sim.fleet.tasks import TASKS
from whale.worlds.folder import open_folder
from whale.worlds.starts import Start

ROBOT, RATE = "fleet_delta", 3.0
NAMES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
SIZES = np.array([0.030, 0.022, 0.016, 0.05, 0.05, 0.11, 0.0])  # m and rad, a step; the axes differ, as a robot's do
INSTRUCTIONS = [task.instruction for task in TASKS.values()]


def recorded_actions(count: int, seed: int = 0) -> np.ndarray:
    """float32 [count, 7] as the tiny robot's demonstrators act: normal motion, the gripper mostly open."""
    rng = np.random.default_rng(seed)
    actions = rng.normal(0.0, 1.0, (count, 7)) * SIZES + SIZES * [0.3, -0.2, 0.1, 0, 0, 0.1, 0]
    actions[:, 6] = rng.random(count) < 0.85
    return actions.astype(np.float32)


def statistics() -> dict:
    values = recorded_actions(4000).astype(np.float64)
    action = {"count": len(values), "mean": values.mean(0).tolist(), "std": values.std(0).tolist()}
    action |= {"min": values.min(0).tolist(), "max": values.max(0).tolist(), "zero_share": [0.0] * 7}
    quantiles = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
    action |= {name: np.quantile(values, share, axis=0).tolist() for name, share in quantiles.items()}
    return {"action": action | {"mask": [True] * 7}, "num_transitions": len(values), "num_trajectories": 100}


def contract(name: str = ROBOT) -> dict:
    licence = {"spdx": "Apache-2.0", "url": "", "evidence": "made here", "citation": "none"}
    said = {"name": name, "robot": "Tiny", "control_hz": RATE, "resolution": 16, "dimensions": list(NAMES)}
    said |= {"gripper": "absolute in [0, 1], 1 = open", "frame": "base", "form": "delta", "live": "xyzrpwg"}
    return said | {"limit": None, "retraceable": True, "action_mask": [True] * 7, "licence": licence}


def starts(count: int = 6, given: int = 1, seen: bool = False) -> list[Start]:
    """seen: with frames that followed."""
    rng = np.random.default_rng(3)
    frames = rng.integers(0, 256, (count, given, 16, 16, 3), dtype=np.uint8)
    rest = [rng.integers(0, 256, (13 + n - given, 16, 16, 3), dtype=np.uint8) if seen else None for n in range(count)]
    texts = [INSTRUCTIONS[n % len(INSTRUCTIONS)] for n in range(count)]
    return [
        Start(f"{ROBOT}-test-{n:07d}", texts[n], frames[n], recorded_actions(12 + n, n), rest[n]) for n in range(count)
    ]


def write_models(root: Path, robots: tuple[str, ...] = (ROBOT,)) -> Path:
    """A folder of published models, as stages called by hand leave it; returns `dynamics/full`."""
    models = {"tokenizer": tiny_models.tokenizer(), "behavior": tiny_models.behavior(),
              "dynamics/full": tiny_models.dynamics()}  # fmt: skip
    for name, model in models.items():
        folder = root / name
        folder.mkdir(parents=True)
        save_model(folder, model.eval())
        write_json(folder / "contract.json", {robot: contract(robot) for robot in robots})
        write_json(folder / "dataset_statistics.json", dict.fromkeys(robots, statistics()))
    summary = {"format_version": 2, "stage": "train_dynamics", "complete": True, "datasets": []}
    write_json(root / "dynamics/full/lineage.json", summary | {"params": {"segments": {"window": 4, "phases": 2}}})
    return root / "dynamics/full"


def encoder() -> str:
    """Of the tiny tokenizer."""
    return encoder_digest(tiny_models.tokenizer())


def write_reward(folder: Path, encoder: str) -> Path:
    torch.manual_seed(5)
    config = RewardHeadConfig(feature_size=128, action_size=7, hidden=8, instructions=INSTRUCTIONS, bounds=[0.0, 1.0],
                              encoder=encoder, r2={ROBOT: {"recorded": 0.5}})  # fmt: skip
    folder.mkdir(parents=True)
    save_model(folder, RewardHead(config))
    return folder


def write_bundle(root: Path, robots: tuple[str, ...] = (ROBOT,), with_reward: bool = True, seen: bool = False) -> Path:
    """The sealed bundle `root/bundle`."""
    world = open_folder(write_models(root / "models", robots))
    write_calibration(root / "evaluation/uncertainty/calibration.json", world.digests)
    world = open_folder(world.dynamics)
    reward = write_reward(root / "reward", encoder()) if with_reward else None
    write_parts(root / "bundle", world, dict.fromkeys(robots, starts(seen=seen)), reward)
    seal(root / "bundle", sha256_of_file)
    return root / "bundle"


def write_calibration(path: Path, digests: dict[str, str]) -> None:
    """Errors grow as the uncertainty does, twice as fast at the second step and later; 0.008 is the limit of 0.8."""
    rows = [{"coverage": share, "expected_error": share, "risk": share} for share in (0.5, 0.8, 1.0)]
    steps = [{"mean_score": 0.005, "scale": scale, "quantile": 2.0} for scale in (0.5, 1.0)]
    method = {"num_pairs": 10, "exponent": 1.0, "floor": 0.05, "nominal": 0.9, "steps": steps, "thresholds": rows}
    own = {part: {"weights": digest, "manifest": None} for part, digest in digests.items()}
    other = {part: {"weights": hashlib.sha256(part.encode()).hexdigest(), "manifest": None} for part in digests}
    entry = {
        "depths": [1, 2],
        "decoding": "argmax",
        "distance": "tokenizer",
        "methods": {"retracing": method, "entropy": method},
    }
    write_json(path, {"version": 2, "checkpoints": [entry | {"checkpoint": other}, entry | {"checkpoint": own}]})
