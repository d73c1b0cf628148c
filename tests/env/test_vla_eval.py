"""The harness vla-eval itself runs our benchmark against a model server of its protocol, on loopback.

WHALE_VLA_EVAL_PYTHON names the Python of an environment with this project and vla-eval 0.8.0 (extra `vla-eval`).
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tiny_world

from whale.env.world_env import WorldEnv

ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("WHALE_VLA_EVAL_PYTHON")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PYTHON is None, reason="WHALE_VLA_EVAL_PYTHON names no environment with vla-eval"),
]
# Its classes, its server, its orchestrator, its result files; the policy acts by the frame that it is shown.
RUN = """
import sys, numpy as np
from vla_eval.api import evaluate
from vla_eval.benchmarks.base import Benchmark
from vla_eval.model_servers.predict import PredictModelServer
from vla_eval.specs import GRIPPER_CLOSE_POS, IMAGE_RGB, LANGUAGE, POSITION_DELTA, ROTATION_EULER
from whale.env.benchmark import ImaginedWorld

class Server(PredictModelServer):
    def predict(self, obs, ctx):
        assert obs["task_description"]
        image = obs["images"]["image"].astype(np.float64)
        gripper = 1.0 if sys.argv[3] == "sound" else -1.0
        return {"actions": np.array([*(image.mean(axis=(0, 1)) / 255 - 0.5) * 0.05, 0, 0, 0.02, gripper], np.float32)}
    def get_action_spec(self):
        return {"position": POSITION_DELTA, "rotation": ROTATION_EULER, "gripper": GRIPPER_CLOSE_POS}
    def get_observation_spec(self):
        return {"image": IMAGE_RGB, "language": LANGUAGE}

missing = Benchmark.__abstractmethods__ - set(dir(ImaginedWorld))
missing |= {name for name in vars(Benchmark) if not name.startswith("_")} - set(dir(ImaginedWorld))
assert not missing, missing
params = {"world": sys.argv[1], "horizon": 4, "success_at": 0.5}
config = {"benchmarks": [{"benchmark": "whale.env.benchmark:ImaginedWorld", "params": params, "max_tasks": 3}]}
evaluate(Server(), config, output_dir=sys.argv[2], docker=False)
"""


def harness(bundle, out, kind):
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    asked = [PYTHON, "-c", RUN, str(bundle), str(out), kind]
    done = subprocess.run(asked, env=environment, text=True, capture_output=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "ImaginedWorld_aggregate.json").read_text()), done.stdout + done.stderr


def test_its_result_holds_what_the_environment_gives_the_same_policy_and_says_imagined(tmp_path):
    bundle = tiny_world.write_bundle(tmp_path)
    found, said = harness(bundle, tmp_path / "out", "sound")
    env, returns, lasts = WorldEnv(bundle, horizon=4), [], []
    for number in range(3):
        frame, _ = env.reset(options={"start": number})
        rewards = []
        for _ in range(4):
            way = (frame.astype(np.float64).mean(axis=(0, 1)) / 255 - 0.5) * 0.05
            frame, reward, *_ = env.step(np.array([*way, 0, 0, 0.02, 1.0], np.float32))
            rewards.append(reward)
        returns.append(sum(rewards))
        lasts.append(rewards[-1])
    assert found["benchmark"] == "ImaginedWorld" and found["num_errors"] == 0
    assert found["mean_imagined_return"] == pytest.approx(np.mean(returns), abs=1e-3)
    assert found["mean_success"] == pytest.approx(np.mean(np.array(lasts) >= 0.5), abs=1e-4)
    assert [task["num_episodes"] for task in found["tasks"]] == [1, 1, 1]
    assert found["tasks"][0]["episodes"][0]["metrics"]["world"] == env.world.identity
    assert "action [gripper]" in said  # a server that closes at +1 is warned of by the harness's own comparison


def test_actions_that_the_contract_refuses_are_errors_there_and_no_failures_in_silence(tmp_path):
    found, _ = harness(tiny_world.write_bundle(tmp_path), tmp_path / "out", "wrong")
    assert found["num_errors"] == 3
    assert "gripper" in found["tasks"][0]["episodes"][0]["failure_detail"]
