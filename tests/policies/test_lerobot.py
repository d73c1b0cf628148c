"""A real LeRobot policy of random weights, in LeRobot's own environment, acts in a world of ours.

WHALE_LEROBOT_PYTHON names the Python of an environment made as scripts/serve_lerobot.py says.
"""

import json
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tiny_world

from whale.cli import run
from whale.common.errors import BadDataError
from whale.policies.openpi import Connection, OpenpiServer

ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("WHALE_LEROBOT_PYTHON")
SERVER = ROOT / "scripts/serve_lerobot.py"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PYTHON is None, reason="WHALE_LEROBOT_PYTHON names no environment with LeRobot"),
]
ANSWER_SECONDS = 300.0
# Written from LeRobot's documentation, not from our server: what its own classes answer to one picture.
MAKE = """
import json, sys, numpy as np, torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.factory import make_pre_post_processors
folder, values = sys.argv[1], json.load(open(sys.argv[2]))
features = {"observation.image": PolicyFeature(FeatureType.VISUAL, (3, 32, 32)),
            "observation.state": PolicyFeature(FeatureType.STATE, (6,))}  # without it ACT of 0.6.1 fails
config = ACTConfig(
    input_features=features, output_features={"action": PolicyFeature(FeatureType.ACTION, (7,))}, device="cpu",
    chunk_size=4, n_action_steps=3, dim_model=32, n_heads=2, dim_feedforward=32, n_encoder_layers=1,
    n_vae_encoder_layers=1, latent_dim=4, pretrained_backbone_weights=None)
torch.manual_seed(0)
policy = ACTPolicy(config).eval()
statistics = {"action": {key: torch.tensor(values[key]) for key in ("mean", "std")},
              "observation.image": {"mean": torch.full((3, 1, 1), 0.5), "std": torch.full((3, 1, 1), 0.25)},
              "observation.state": {"mean": torch.zeros(6), "std": torch.ones(6)}}
before, after = make_pre_post_processors(config, dataset_stats=statistics)
policy.save_pretrained(folder); before.save_pretrained(folder); after.save_pretrained(folder)
image = np.array(values["image"], np.uint8)
pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
seen = {"observation.image": pixels, "observation.state": torch.zeros(1, 6), "task": ["go"]}
with torch.inference_mode():
    chunk = after(policy.predict_action_chunk(before(seen)))
json.dump(chunk[0, :3].tolist(), open(folder + "/../expected.json", "w"))
"""
IMAGE = np.random.default_rng(5).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def in_lerobot(*arguments, **options):
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([PYTHON, *map(str, arguments)], env=environment, text=True, **options)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    root = tmp_path_factory.mktemp("lerobot")
    action = tiny_world.statistics()["action"]
    (root / "values.json").write_text(
        json.dumps({key: action[key] for key in ("mean", "std")} | {"image": IMAGE.tolist()})
    )
    with in_lerobot("-c", MAKE, root / "policy", root / "values.json") as process:
        assert process.wait(600) == 0
    return root / "policy"


@contextmanager
def serving(folder, *options):
    with in_lerobot(SERVER, folder, "--port", "0", "--zero-state", *options, stdout=subprocess.PIPE) as process:
        try:  # LeRobot has something to say before the address
            yield next(line.strip() for line in process.stdout if line.startswith("ws://"))
        finally:
            process.terminate()


def test_it_answers_what_lerobots_own_classes_answer(policy):
    with serving(policy, "--control-hz", "3") as url:
        connection = Connection(OpenpiServer(url, answer_seconds=ANSWER_SECONDS))
        found = [connection.infer({"observation/image": IMAGE, "prompt": "go"})["actions"] for _ in range(2)]
        assert connection.metadata["control_hz"] == 3 and len(connection.metadata["policy"]) > 64
        with pytest.raises(BadDataError, match="observation/image"):
            connection.infer({"prompt": "go"})
        connection.close()
    expected = json.loads((policy.parent / "expected.json").read_text())
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
    np.testing.assert_array_equal(found[0], found[1])


def test_it_is_evaluated_in_a_world_and_refused_at_another_rate(policy, tmp_path, monkeypatch, capsys):
    bundle = tiny_world.write_bundle(tmp_path)
    monkeypatch.chdir(tmp_path)
    asked = ["policy", "evaluate", str(bundle), "--horizon", "4", "--episodes", "2", "--json"]
    asked += ["--answer-seconds", str(ANSWER_SECONDS)]
    with serving(policy, "--control-hz", "3", "--clip-gripper", "--dimensions", ",".join(tiny_world.NAMES)) as url:
        assert run([*asked, "--policy", f"act={url}"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["policy.act.imagined"] is not None
    with serving(policy, "--control-hz", "50") as url:
        assert run([*asked, "--policy", f"act={url}"]) == 3
        assert "another control rate" in capsys.readouterr().err


def test_what_no_world_imagines_must_be_waived(policy):
    with in_lerobot(SERVER, policy, "--port", "0", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        said, error = process.communicate(timeout=600)
    assert process.returncode and not said and "observation.state (6,)" in error and "--zero-state" in error


def test_a_folder_without_a_policy_is_named(tmp_path):
    with in_lerobot(SERVER, tmp_path, stderr=subprocess.PIPE) as process:
        error = process.communicate(timeout=600)[1]
    assert process.returncode == 2 and str(tmp_path) in error
