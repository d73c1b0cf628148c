"""One episode, imagined on request: what `whale rollout` shows. Nothing is published, no number is reported.

Shapes: c context, h horizon, R resolution, A = 7.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from whale.common.errors import ConfigError, MissingInputError
from whale.evaluation.measuring.rollouts.heldout import Dataset, open_dataset
from whale.evaluation.measuring.rollouts.imagination import predictor
from whale.evaluation.measuring.rollouts.stack import load_stack
from whale.evaluation.video.controllable import controlled


@dataclass(frozen=True)
class EpisodeAddress:
    """`DATASET/SPLIT/NUMBER`; numbers count the episodes of a split from 0."""

    dataset: str
    split: str
    number: int

    @classmethod
    def parse(cls, text: str) -> "EpisodeAddress":
        """ConfigError for anything else."""
        parts = text.split("/")
        if len(parts) != 3 or not parts[2].isdecimal():
            raise ConfigError(
                "not an episode",
                place="--episode",
                found=text,
                expected="DATASET/SPLIT/NUMBER, e.g. fleet_delta/test/0",
            )
        return cls(parts[0], parts[1], int(parts[2]))


@dataclass(frozen=True)
class Options:
    """temperature 0: argmax; `z`: prior, frozen or off (whale.models.world.rollout). `horizon` None: to the end."""

    context: int = 1
    horizon: int | None = None
    factors: Sequence[float] = (1.0,)
    temperature: float = 0.0
    seed: int = 0
    z: Literal["prior", "frozen", "off"] = "prior"


@dataclass(frozen=True)
class ImaginedEpisode:
    """`recorded` uint8 [c+h, R, R, 3]; `imagined`: factor -> uint8 [h, R, R, 3]; `key` of the episode."""

    key: str
    recorded: np.ndarray
    imagined: dict[float, np.ndarray]


def model_folders(checkpoint: Path) -> tuple[Path, str]:
    """The folder of all models and the variant's name of `.../dynamics/<name>`; MissingInputError for other places."""
    models = checkpoint.parent.parent
    if checkpoint.parent.name != "dynamics" or not (models / "tokenizer").is_dir():
        raise MissingInputError(
            "a rollout needs a dynamics model beside its tokenizer and behavior model",
            file=checkpoint,
            expected="a folder <models>/dynamics/<name> with <models>/tokenizer and <models>/behavior",
        )
    return models, checkpoint.name


def data_folder(models: Path) -> Path:
    """Where the shards, tokens and z of these models' role lie: `finetune` for fine-tuned ones, else `pretrain`."""
    if models.name == "finetuned":
        return models.parent.parent / "data" / "finetune"
    return models.parent / "data" / "pretrain"


def imagine_episode(
    checkpoint: Path, data: Path | None, address: EpisodeAddress, options: Options, device: str = "cpu"
) -> ImaginedEpisode:
    """Imagine the episode on `device` from its first `context` frames with its own actions, once per factor."""
    models, name = model_folders(checkpoint)
    stack = load_stack(models, device)
    dataset = open_dataset(data or data_folder(models), address.dataset)
    key, frames, actions = _read(dataset, address, options)
    world = stack.world(name, dataset)
    predict = predictor(world, batch_size=1, temperature=options.temperature, seed=options.seed, z=options.z)
    horizon = len(frames) - options.context
    found = controlled(predict, frames[None, : options.context], actions[None], horizon, options.factors)
    return ImaginedEpisode(key, frames, {factor: imagined[0] for factor, imagined in found.items()})


def _read(dataset: Dataset, address: EpisodeAddress, options: Options) -> tuple[str, np.ndarray, np.ndarray]:
    """Key, frames [c+h, R, R, 3] and raw actions [c+h-1, A], up to the first action without an outcome."""
    rows = dataset.shards.episodes(address.split) if address.split in dataset.shards.splits else []
    if address.number >= len(rows):
        sizes = {split: len(dataset.shards.episodes(split)) for split in dataset.shards.splits}
        raise ConfigError(
            "no such episode", file=dataset.shards.directory, place="--episode",
            found=f"{address.split}/{address.number}", expected=f"a number below the split's episodes: {sizes}",
        )  # fmt: skip
    row = rows[address.number]
    arrays = dataset.shards.read_arrays(row)
    valid = arrays["action_valid"][: row.num_steps - 1]
    usable = 1 + (len(valid) if valid.all() else int(np.argmin(valid)))
    length = usable if options.horizon is None else options.context + options.horizon
    if not options.context < length <= usable:
        raise ConfigError(
            "this episode does not hold as many frames", place="--context, --horizon",
            found=f"{options.context} + {options.horizon}", expected=f"1 or more of each, {usable} frames in all",
        )  # fmt: skip
    frames = dataset.shards.read_frames(row, 0, length)
    return row.key, frames, arrays["action"][: length - 1].astype(np.float32)
