"""How to run, never what to compute: cluster address, worker counts, threads.

Nothing here may change a result beyond the last digits of float sums, so nothing here is in params.yaml or in a digest;
what does (workers, threads, device) is named in the statement of each run. Committed defaults are overridden by
`execution:` of the git-ignored local.yaml, and that by the environment (tests, laptops):
WHALE_TRAIN_WORKERS=0, WHALE_TRAIN_LAUNCHER=ray and WHALE_MAP_ENGINE=local for every stage; WHALE_RAY_ADDRESS,
WHALE_STATE_STORAGE, WHALE_DEVICE, WHALE_MAP_WORKERS, WHALE_BEAM_WORKERS, WHALE_COLLECT_WORKERS,
WHALE_THREADS, WHALE_DECODE_THREADS, WHALE_HANG_SECONDS, WHALE_RESTARTS, WHALE_DECODED_FRAMES_MB.
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
Auto = Literal["auto"]
DEVICE_NODES = Path("/dev")
TRAIN_STAGES = (
    "train_tokenizer",
    "train_behavior",
    "train_dynamics",
    "train_reward",
    "train_rssm",
    "finetune_tokenizer",
    "finetune_behavior",
    "finetune_dynamics",
)
# "auto" without a GPU. 0: the same loop in the stage's own process; starting others costs more than a small stage.
ON_A_CPU = dict.fromkeys(TRAIN_STAGES, 0) | {"train_tokenizer": 2, "train_dynamics": 2}
MAPPERS_ON_A_CPU = 2
TEXTS = ("ray_address", "state_storage", "device", "train_launcher", "map_engine")  # each WHALE_<NAME>
NUMBERS = (
    *("train_workers", "map_workers", "beam_workers", "collect_workers", "threads", "decode_threads"),
    *("hang_seconds", "restarts", "decoded_frames_mb"),
)
OR_AUTO = ("train_workers", "map_workers", "decode_threads")


class Execution(Config):
    """`threads`: torch threads of a process that works alone; worker processes have one each. `device`: of every model.
    `decoded_frames_mb`: decoded frames that each training worker keeps, for the tokenizer and the behavior model;
    `decode_threads` of each decode them, "auto" is its share of the cores but one, 6 at most.

    Training: `train_workers` "auto" is one a GPU, as many as the batch divides by; without a GPU two processes for
    tokenizer and dynamics, this process for the others. `micro_batch` rows per forward pass of a worker (None: all it
    has), their gradients are accumulated; `sharding` fsdp spreads weights over the workers; `restarts` of a group that
    lost a worker; a worker that finishes no step in `hang_seconds` is ended with its stacks. `train_launcher`: workers
    are processes of this machine (a start of 3 s) or Ray Train's actors (20 s); "auto" is Ray from two GPUs on,
    processes otherwise; with a `ray_address` they are Ray actors there, whatever it says. Saved states are copied to
    `state_storage`, an fsspec URI, and come back from there on another machine.

    Map engine "auto": Ray Data for a dataset of at least `ray_from_frames` frames, this process for a smaller one,
    which is done before Ray has started (10 s).
    """

    ray_address: str | None = None
    state_storage: str | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    train_workers: dict[str, Annotated[int, Field(ge=0)] | Auto] = dict.fromkeys(TRAIN_STAGES, "auto")
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
    map_workers: Annotated[int, Field(gt=0)] | Auto = "auto"
    beam_workers: int = Field(default=2, gt=0)
    collect_workers: int = Field(default=2, gt=0)
    threads: int = Field(default=2, gt=0)
    decode_threads: Annotated[int, Field(gt=0)] | Auto = "auto"
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
        cards = sorted(path.name for path in DEVICE_NODES.glob("nvidia[0-9]*"))
        if self.device == "auto" and (not cards or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")):
            return "cpu"
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
        raise ConfigError(
            "torch cannot use the GPU of this machine" if cards else "torch finds no GPU on this machine",
            place="execution.device (local.yaml or WHALE_DEVICE)",
            found=f"{self.device}; {', '.join(cards) or 'no card'}; torch {torch.__version__} for {built}",
            expected="a driver at least as new as torch's CUDA" if cards else "auto or cpu",
            remedy="look at nvidia-smi and CUDA_VISIBLE_DEVICES, renew the driver or the torch; or choose cpu",
        )

    def num_gpus(self) -> int:
        """GPUs of this machine that models may lie on; 0 where they lie on the CPU."""
        if self.chosen_device() == "cpu":
            return 0
        import torch

        return torch.cuda.device_count()

    def workers_for(self, stage: str, batch_size: int) -> int:
        """Workers of a training stage; 0 is the stage's own process.

        Raises ConfigError for more than one a GPU, where all GPUs are those of this machine.
        """
        asked, gpus = self.train_workers[stage], self.num_gpus()
        if asked == "auto":
            most = gpus or ON_A_CPU[stage]
            return next((number for number in range(most, 1, -1) if batch_size % number == 0), 0)
        if gpus and asked > gpus and not self.ray_address:
            raise ConfigError(
                "more workers than GPUs: each needs one of its own",
                place=f"execution.train_workers.{stage} (local.yaml or WHALE_TRAIN_WORKERS)",
                found=f"{asked} workers, {gpus} GPUs",
                expected=f"auto, or at most {gpus}",
                remedy="set it to auto, or say WHALE_DEVICE=cpu to train on the CPU",
            )
        return asked

    def mappers(self) -> int:
        """Workers of a mapping stage."""
        return (self.num_gpus() or MAPPERS_ON_A_CPU) if self.map_workers == "auto" else self.map_workers

    def launcher_for(self, stage: str, num_workers: int) -> Literal["processes", "ray"]:
        """How so many workers of a training stage are started; the bytes are the same."""
        chosen = self.train_launcher[stage]
        if self.ray_address or chosen == "ray":
            return "ray"
        return "ray" if chosen == "auto" and num_workers > 1 and self.num_gpus() > 1 else "processes"

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
            is_text = name not in NUMBERS or (name in OR_AUTO and text == "auto")
            value = text if is_text else _number(variable, text)
            found[name] = dict.fromkeys(values[name], value) if isinstance(values[name], dict) else value
    return found


def _number(variable: str, text: str) -> int:
    if not text.isdecimal():
        raise ConfigError("not a whole number", place=variable, found=text)
    return int(text)
