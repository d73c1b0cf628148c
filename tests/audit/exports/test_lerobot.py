"""`whale export --as lerobot`: the weights as published, and a normalisation that LeRobot's own formula repeats."""

import json
from pathlib import Path

import numpy as np
import safetensors.numpy
import tiny_models
from toy_chain import ART, FINAL

from whale.audit.exports.lerobot import PREPROCESSOR, STATE, lerobot_config, write_normalisation
from whale.cli import run as whale
from whale.common.files import sha256_of_file
from whale.data.segments.actions import ActionNormalizer
from whale.models.tokenizer.tokenizer import VideoTokenizer
from whale.models.trunk.folder import save_model
from whale.seal import verify_sealed

OUT = Path("handed_on")


def statistics(**changes) -> dict:
    """Live in x, y, z and the gripper; roll degenerate (its quantiles coincide), pitch dead, yaw masked."""
    rng = np.random.default_rng(0)
    low, high = -rng.uniform(0.01, 0.1, 7), rng.uniform(0.01, 0.1, 7)
    action = {"q01": low, "q99": high, "min": 2 * low, "max": 2 * high, "mean": 0 * low, "std": high}
    action = {name: value.copy() for name, value in action.items()}
    action["q01"][3] = action["q99"][3] = 0.0
    for name in ("q01", "q99", "min", "max"):
        action[name][4] = action[name][5] = 0.25
    plain = {name: value.tolist() for name, value in action.items()}
    plain |= {name: plain["mean"] for name in ("q10", "q50", "q90")}
    mask = [True, True, True, True, False, False, True]
    return {"action": plain | {"mask": mask, "count": 9}, "num_transitions": 9, "num_trajectories": 1}


def lerobot_normalize(action: np.ndarray, folder: Path) -> np.ndarray:
    """Mode QUANTILES of LeRobot's normalizer_processor, from the files alone."""
    (step,) = json.loads((folder / f"{PREPROCESSOR}.json").read_text())["steps"]
    assert step["config"]["norm_map"] == {"ACTION": "QUANTILES"} and step["registry_name"] == "normalizer_processor"
    state = safetensors.numpy.load((folder / step["state_file"]).read_bytes())
    low, high = state["action.q01"], state["action.q99"]
    return 2.0 * (action - low) / (high - low) - 1.0


def test_lerobots_formula_gives_what_our_loader_gives(tmp_path):
    found = statistics()
    assert write_normalisation(tmp_path, {"one": found}) == ["./"]
    ours = ActionNormalizer.from_statistics(found)
    unit = np.random.default_rng(1).uniform(-1, 1, (100, 7))
    unit[:, 6] = np.abs(unit[:, 6])
    raw = ours.denormalize(unit)  # inside the range, where nothing is clipped
    np.testing.assert_allclose(lerobot_normalize(raw, tmp_path), ours.normalize(raw), atol=1e-6)
    stats = json.loads((tmp_path / "datasets/one/meta/stats.json").read_text())
    assert stats["action"]["q99"] == found["action"]["q99"] and stats["action"]["count"] == [9]


def test_each_dataset_has_its_own_normalisation(tmp_path):
    other = statistics()
    other["action"]["q99"] = other["action"]["max"]
    assert write_normalisation(tmp_path, {"one": statistics(), "two": other}) == ["./datasets/one", "./datasets/two"]
    raw = np.full((1, 7), 0.01)
    one, two = (lerobot_normalize(raw, tmp_path / "datasets" / name) for name in ("one", "two"))
    assert (one[0, :3] != two[0, :3]).all() and not (tmp_path / STATE).exists()


def test_our_own_package_restores_a_model_from_the_folder(tmp_path):
    model = tiny_models.tokenizer()
    save_model(tmp_path, model)
    config = lerobot_config(json.loads((tmp_path / "config.json").read_text()), 16)
    assert config["type"] == "whale_video_tokenizer" and list(config["input_features"]) == [
        "observation.images.primary"
    ]
    (tmp_path / "config.json").write_text(json.dumps(config))
    again = VideoTokenizer.restore(tmp_path)
    assert all((value == again.state_dict()[name]).all() for name, value in model.state_dict().items())


def test_the_folder_holds_the_published_weights_and_their_proof(chain):
    assert whale(["export", str(FINAL), "--to", str(OUT), "--as", "lerobot"]) == 0
    verify_sealed(OUT, sha256_of_file)
    assert (OUT / "model.safetensors").read_bytes() == (FINAL / "model.safetensors").read_bytes()
    assert (OUT / "published.json").read_bytes() == (FINAL / "MANIFEST.json").read_bytes()
    features = json.loads((OUT / "config.json").read_text())["input_features"]
    assert features["observation.images.primary"]["shape"] == [3, 16, 16] and features["action"]["shape"] == [7]
    card = (OUT / "README.md").read_text()
    assert "this project registers no class" in card and "train_tokenizer: artifacts/demo/models/tokenizer" in card
    assert card.startswith("---\n") and "21.5" in card
    assert len((OUT / "statements.intoto.jsonl").read_text().splitlines()) == 10


def test_what_is_not_as_signed_or_no_checkpoint_leaves_nothing_behind(chain, capsys):
    for artefact, code in (("mix", 64), ("artifacts/demo/metrics/evaluate_video.json", 64)):
        assert whale(["export", artefact, "--to", str(OUT), "--as", "lerobot"]) == code
    assert whale(["export", str(FINAL), "--to", str(OUT), "--as", "onnx"]) == 64
    assert "whale, lerobot" in capsys.readouterr().err
    weights = ART / "models/finetuned/dynamics/full/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert whale(["export", str(FINAL), "--to", str(OUT), "--as", "lerobot"]) == 1 and not OUT.exists()
