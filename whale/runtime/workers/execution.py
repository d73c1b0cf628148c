"""How to run, never what to compute: cluster address, worker counts, threads.

Nothing here may change a result beyond the last digits of float sums, so nothing here is in params.yaml or in a digest;
what does (workers, threads, device) is named in the statement of each run. Committed defaults are overridden by
`execution:` of the git-ignored local.yaml, and that by the environment (tests, laptops):
WHALE_TRAIN_WORKERS=0, WHALE_TRAIN_LAUNCHER=ray and WHALE_MAP_ENGINE=local for every stage; WHALE_RAY_ADDRESS,
WHALE_STATE_STORAGE, WHALE_DEVICE, WHALE_MAP_WORKERS, WHALE_BEAM_WORKERS, WHALE_COLLECT_WORKERS,
WHALE_THREADS, WHALE_HANG_SECONDS, WHALE_RESTARTS, WHALE_DECODED_FRAMES_MB.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from whale.common.config import Config, section_of
from whale.common.errors import ConfigError

STORAGE = re.compile(r"(/|(s3|gs|gcs|az|abfs|abfss|hdfs|file)://)[^@?#\s]+")
MapEngine = Literal["auto", "local", "ray"]
Launcher = Literal["auto", "processes", "ray"]
Device = Literal["cpu", "cuda"]
TRAIN_STAGES = (
    "train_tokenizer",
    "train_behavior",
    "train_dynamics",
    "train_reward",
    "finetune_tokenizer",
    "finetune_behavior",
    "finetune_dynamics",
)
IN_PROCESS = dict.fromkeys(TRAIN_STAGES, 0)
TEXTS = ("ray_address", "state_storage", "device", "train_launcher", "map_engine")  # each WHALE_<NAME>
NUMBERS = (
    *("train_workers", "map_workers", "beam_workers", "collect_workers", "threads"),
    *("hang_seconds", "restarts", "decoded_frames_mb"),
)


class Execution(Config):
    """`threads`: torch threads of a process that works alone; worker processes have one each. `device`: of every model.
    `decoded_frames_mb`: decoded frames that each training worker keeps, for the tokenizer and the behavior model.

    Training: `micro_batch` rows per forward pass of a worker (None: all it has), their gradients are accumulated;
    `sharding` fsdp spreads weights over the workers; `restarts` of a group that lost a worker; a worker that finishes
    no step in `hang_seconds` is ended with its stacks. `train_launcher`: workers are processes of this machine (a start
    of 3 s) or Ray Train's actors (20 s); "auto" is Ray from two GPUs on, processes otherwise; with a `ray_address` they
    are Ray actors there, whatever it says. Saved states are copied to `state_storage`, an fsspec URI, and come back
    from there on another machine.

    Map engine "auto": Ray Data for a dataset of at least `ray_from_frames` frames, this process for a smaller one,
    which is done before Ray has started (10 s).
    """

    ray_address: str | None = None
    state_storage: str | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    # 0: the same loop in the stage's own process; starting others costs more than a small stage.
    train_workers: dict[str, Annotated[int, Field(ge=0)]] = IN_PROCESS | {"train_tokenizer": 2, "train_dynamics": 2}
    train_launcher: dict[str, Launcher] = dict.fromkeys(TRAIN_STAGES, "auto")
    micro_batch: dict[str, Annotated[int, Field(gt=0)] | None] = dict.fromkeys(TRAIN_STAGES)
    compile: bool = False
    checkpoint_activations: bool = False
    sharding: Literal["ddp", "fsdp"] = "ddp"
    restarts: int = Field(default=2, ge=0)
    hang_seconds: int = Field(default=600, gt=0)
    # Demonstrations are few.
    map_engine: dict[str, MapEngine] = {"pretokenize": "auto", "embed_behavior": "auto", "finetune_embed": "local"}
    ray_from_frames: int = Field(default=4000, ge=0)
    map_workers: int = Field(default=2, gt=0)
    beam_workers: int = Field(default=2, gt=0)
    collect_workers: int = Field(default=2, gt=0)
    threads: int = Field(default=2, gt=0)
    decoded_frames_mb: int = Field(default=512, ge=0)

    @field_validator("state_storage")
    @classmethod
    def _is_plain_uri(cls, uri: str | None) -> str | None:
        """One file system, and no password in a file that people share: clients have places of their own for those."""
        if uri is not None and (STORAGE.fullmatch(uri) is None or "::" in uri):
            raise ValueError("expected an absolute folder or s3://, gs://, az://, abfs://, hdfs:// and a folder")
        return uri

    def chosen_device(self) -> Device:
        """Where models lie: with "auto" on a GPU if torch finds one here, on this machine.

        Raises ConfigError if one is asked for that is not there.
        """
        if self.device == "cpu":
            return "cpu"
        import torch  # not every stage that reads its worker counts here needs it

        if torch.cuda.is_available():
            return "cuda"
        if self.device == "auto":
            return "cpu"
        raise ConfigError(
            "torch finds no GPU on this machine",
            place="execution.device (local.yaml or WHALE_DEVICE)",
            found="cuda",
            expected="auto or cpu",
            remedy="choose one of these, or look at nvidia-smi, CUDA_VISIBLE_DEVICES and torch.version.cuda",
        )

    def launcher_for(self, stage: str) -> Literal["processes", "ray"]:
        """How the workers of a training stage are started; the bytes are the same."""
        chosen = self.train_launcher[stage]
        if self.ray_address or chosen == "ray":
            return "ray"
        if chosen == "auto" and self.train_workers[stage] > 1 and self.chosen_device() == "cuda":
            import torch

            return "ray" if torch.cuda.device_count() > 1 else "processes"
        return "processes"

    @property
    def decoded_bytes(self) -> int:
        """`decoded_frames_mb` in bytes."""
        return self.decoded_frames_mb * 2**20

    def engine_for(self, stage: str, num_frames: int) -> Literal["local", "ray"]:
        """Where a mapping stage runs a dataset of `num_frames` frames."""
        engine = self.map_engine[stage]
        if engine == "auto":
            return "ray" if num_frames >= self.ray_from_frames else "local"
        return engine


def load_execution(local: Path | str = "local.yaml", environ: Mapping[str, str] | None = None) -> Execution:
    """Defaults, then `execution:` of `local` if it exists, then the environment."""
    values = Execution().model_dump()
    for name, value in section_of(local, "execution").items():
        is_merged = isinstance(values.get(name), dict) and isinstance(value, dict)
        values[name] = values[name] | value if is_merged else value
    variables = os.environ if environ is None else environ
    return Execution.parse(values | _from_environment(variables, values), file=local, place="execution")


def _from_environment(environ: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    """What a variable says holds for every stage."""
    found: dict[str, Any] = {}
    for name in (*TEXTS, *NUMBERS):
        if text := environ.get(variable := f"WHALE_{name.upper()}"):
            value = _number(variable, text) if name in NUMBERS else text
            found[name] = dict.fromkeys(values[name], value) if isinstance(values[name], dict) else value
    return found


def _number(variable: str, text: str) -> int:
    if not text.isdecimal():
        raise ConfigError("not a whole number", place=variable, found=text)
    return int(text)
