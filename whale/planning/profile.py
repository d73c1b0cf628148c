"""A complete parameter set as the objects that its stages read: every section at once, each problem named."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from pydantic import Field

from whale.common.config import Config, load_yaml
from whale.common.errors import ConfigError
from whale.data.ingest.ingest import IngestConfig
from whale.data.mixture import MixConfig
from whale.data.segments.grid import SegmentConfig
from whale.evaluation.uncertainty.measurement import EvaluateUncertaintyConfig
from whale.evaluation.video.video import EvaluateVideoConfig
from whale.sim.fleet.collect import FleetConfig
from whale.training.tasks.behavior import FinetuneBehaviorConfig, TrainBehaviorConfig
from whale.training.tasks.dynamics import FinetuneDynamicsConfig, TrainDynamicsConfig
from whale.training.tasks.tokenizer.task import FinetuneTokenizerConfig, TrainTokenizerConfig


class DatasetEntry(Config):
    """One line of `datasets`."""

    raw: str = Field(min_length=1)
    role: Literal["pretrain", "finetune"]


@dataclass(frozen=True)
class Profile:
    """What params.yaml says, checked, a field for each section. `params` is the file as it is: templating reads it."""

    name: str
    params: Mapping[str, Any]
    datasets: Mapping[str, DatasetEntry]
    segments: SegmentConfig
    collect: Mapping[str, FleetConfig]
    ingest: IngestConfig
    mix: MixConfig
    train_tokenizer: TrainTokenizerConfig
    train_behavior: TrainBehaviorConfig
    train_dynamics: Mapping[str, TrainDynamicsConfig]
    finetune_tokenizer: FinetuneTokenizerConfig
    finetune_behavior: FinetuneBehaviorConfig
    finetune_dynamics: Mapping[str, FinetuneDynamicsConfig]
    evaluate_video: EvaluateVideoConfig
    evaluate_uncertainty: EvaluateUncertaintyConfig


def load_profile(path: Path) -> Profile:
    """Read and check a parameter file. Raises one ConfigError that names the problems of all sections."""
    params = load_yaml(path)
    if not isinstance(params, dict):
        raise ConfigError("not a mapping of sections", file=path, found=type(params).__name__)
    problems: list[str] = []

    def parse(config: type[Config], values: object, place: str) -> Config | None:
        try:
            return config.parse(values, file=path, place=place)
        except ConfigError as error:
            problems.append(str(error.place))
            return None

    profile: dict[str, Any] = {}
    for name, kind in get_type_hints(Profile).items():
        entries = params.get(name)
        if name in ("name", "params"):
            continue
        if not get_args(kind):
            profile[name] = parse(kind, params.get(name, {}), name)
        elif isinstance(entries, dict):  # a section of many: Mapping[str, config]
            config = get_args(kind)[1]
            profile[name] = {str(key): parse(config, value, f"{name}.{key}") for key, value in entries.items()}
        else:
            problems.append(f"{name}: Input should be a mapping (found: {entries!r:.60})")
    if problems:
        raise ConfigError("invalid parameters", file=path, place="\n            ".join(problems))
    checked = Profile(name=str(params.get("profile")), params=params, **profile)
    _require_known_initials(checked, path)
    return checked


def _require_known_initials(profile: Profile, path: Path) -> None:
    for name, entry in profile.finetune_dynamics.items():
        if entry.initial not in profile.train_dynamics:
            known = ", ".join(profile.train_dynamics)
            place = f"finetune_dynamics.{name}.initial"
            raise ConfigError("no such entry of train_dynamics", file=path, place=place, found=entry.initial,
                              expected=f"one of: {known}")  # fmt: skip
