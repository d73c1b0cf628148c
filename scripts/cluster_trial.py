"""Training on a cluster of two Ray nodes of this machine, one of which is killed in mid-training.

python scripts/cluster_trial.py

Two workers train the tiny dynamics model on a cluster that is joined by its address, as `ray_address` does. The node of
one worker is killed after a few steps; the group starts again on what is left (the head has room for both) from the
newest saved state. What is published must be the bytes of the same training on two local processes.
"""

import functools
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(ROOT / "scripts")])
from whale.runtime.workers.process import environment

environment.apply(ROOT)
import cluster_trial
import tiny_training as runs

from whale.common.files import sha256_of_file
from whale.runtime.train.supervise import train
from whale.runtime.train.training_job import TrainingJob
from whale.runtime.workers.ray_session import LEAN

STEPS, KILL_AFTER, STEP_SECONDS = 12, 5, 0.5


def build(communicator):
    """The tiny task; steps take their time, so that a node can be killed between two."""
    task = runs.task("dynamics", STEPS, communicator)
    forward = task.model.forward

    def slow(batch):
        time.sleep(STEP_SECONDS)
        return forward(batch)

    task.model.forward = slow
    return task


def job(folder: Path) -> TrainingJob:
    (folder / "out").mkdir(parents=True)
    return TrainingJob(cluster_trial.build, folder / "out", folder / "work", 2, identity="tiny", placement="SPREAD")


def digest(folder: Path) -> str:
    return sha256_of_file(folder / "out/model.safetensors")


def main() -> int:
    for name, value in LEAN.items():
        os.environ.setdefault(name, value)
    from ray.cluster_utils import Cluster

    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train(job(folder / "straight"), lambda record: None, lambda step: None)
        expected = digest(folder / "straight")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
        node = cluster.add_node(num_cpus=1)
        print(f"two nodes at {cluster.address}: {time.monotonic() - started:.0f} s", flush=True)
        killed: list[float] = []

        def on_step(step: int) -> None:
            print(f"step {step} at {time.monotonic() - started:.0f} s", flush=True)
            if step >= KILL_AFTER and not killed:
                killed.append(time.monotonic())
                threading.Thread(target=functools.partial(_kill, cluster, node)).start()
            elif len(killed) == 1 and time.monotonic() - killed[0] > 5:
                killed.append(time.monotonic())

        try:
            train(job(folder / "cluster"), lambda record: None, on_step, ray_address=cluster.address)
        finally:
            cluster.shutdown()
        is_equal = digest(folder / "cluster") == expected
        waited = f"{killed[1] - killed[0]:.0f} s" if len(killed) > 1 else "not seen"
        print(f"bytes equal to the straight run: {is_equal}; first step after the kill: {waited}; ", end="")
        print(f"{time.monotonic() - started:.0f} s in all")
        return 0 if is_equal and killed else 1


def _kill(cluster, node) -> None:
    print("killing a node", flush=True)
    cluster.remove_node(node, allow_graceful=False)


if __name__ == "__main__":
    sys.exit(cluster_trial.main())
