"""A training's workers as Ray actors, led by Ray Train: for clusters, and for several GPUs of one machine."""

import os

import torch

from whale.common.errors import WhaleError, WorkerLostError
from whale.runtime.train.train_worker import longest_silence, work
from whale.runtime.train.training_job import TrainingJob
from whale.runtime.workers.process import worker
from whale.training.loop.communicator import Communicator


def run_on_ray(job: TrainingJob) -> None:
    """A worker group of Ray actors, in the session that is open."""
    from ray.train import ControllerError, RunConfig, ScalingConfig, WorkerGroupError
    from ray.train.torch import TorchConfig, TorchTrainer

    settings = {"job": job, "directory": os.getcwd(), "opened": os.environ.get(worker.WORKERS, "")}
    trainer = TorchTrainer(
        _train_worker,
        train_loop_config=settings,
        scaling_config=ScalingConfig(
            num_workers=job.num_workers, use_gpu=job.engine.device == "cuda", placement_strategy=job.placement
        ),
        torch_config=TorchConfig(timeout_s=longest_silence(job.engine)),
        run_config=RunConfig(name="run", storage_path=str((job.work / "ray").absolute())),
    )
    try:
        trainer.fit()
    except WorkerGroupError as error:
        raise _cause(error) from error
    except ControllerError as error:
        raise WorkerLostError(f"Ray's controller: {error}") from error


def _train_worker(settings: dict) -> None:
    """What Ray Train calls in each worker, whose process group it has made."""
    import ray.train
    from ray.train.torch import get_device

    os.chdir(settings["directory"])  # an actor starts elsewhere; paths are relative to the project
    os.environ.setdefault(worker.WORKERS, settings["opened"])  # an actor of a Ray that was there before
    worker.listen_in_worker()
    context = ray.train.get_context()
    device = get_device() if settings["job"].engine.device == "cuda" else torch.device("cpu")
    work(settings["job"], Communicator(context.get_world_rank(), context.get_world_size(), device))


def _cause(error: Exception) -> Exception:
    """As for a group of processes: a named error, then a lost worker, then any error.

    Where a node goes, its peers may see their connection close before Ray misses it: that is a lost worker, too.
    """
    import ray.exceptions

    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    causes = [getattr(failures[rank], "_base_exc", failures[rank]) for rank in sorted(failures)]
    lost = (ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError)
    if named := [cause for cause in causes if isinstance(cause, WhaleError)]:
        return min(named, key=lambda cause: isinstance(cause, WorkerLostError))  # who says why comes first
    if any(isinstance(cause, lost) or "Health" in type(cause).__name__ for cause in causes) or (
        causes and all(_is_broken_connection(cause) for cause in causes)
    ):
        return WorkerLostError("; ".join(str(cause).splitlines()[0] for cause in causes))
    return error


def _is_broken_connection(cause: Exception) -> bool:
    """gloo raises a plain RuntimeError that names its source file; NCCL and the store have a class."""
    return isinstance(cause, torch.distributed.DistError) or "gloo/transport" in str(cause)
