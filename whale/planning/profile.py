"""A complete parameter set as the objects that its stages read: every section at once, each problem named."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_type_hints

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
from whale.trials.evaluate import TrialStageConfig

AnyConfig = TypeVar("AnyConfig", bound=Config)


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
    evaluate_policies: Mapping[str, TrialStageConfig]


def load_profile(path: Path) -> Profile:
    """Read and check a parameter file. Raises one ConfigError that names the problems of all sections."""
    params = load_yaml(path)
    if not isinstance(params, dict):
        raise ConfigError("not a mapping of sections", file=path, found=type(params).__name__)
    sections = _Sections(params, path)
    kinds = {name: kind for name, kind in get_type_hints(Profile).items() if name not in ("name", "params")}
    profile = {name: sections.read(name, kind) for name, kind in kinds.items()}
    sections.raise_problems()
    checked = Profile(name=str(params.get("profile")), params=params, **profile)
    _require_known_initials(checked, path)
    return checked


class _Sections:
    """Parses sections and collects what is wrong with them."""

    def __init__(self, params: dict[str, Any], file: Path):
        self.params, self.file, self.problems = params, file, list[str]()

    def read(self, name: str, kind: Any) -> Any:
        """`kind`: a config, or Mapping[str, config] for a section of many."""
        if not get_args(kind):
            return self._parse(kind, self.params.get(name, {}), name)
        entries, config = self.params.get(name), get_args(kind)[1]
        if not isinstance(entries, dict):
            self.problems.append(f"{name}: Input should be a mapping (found: {entries!r:.60})")
            return {}
        return {str(key): self._parse(config, value, f"{name}.{key}") for key, value in entries.items()}

    def _parse(self, config: type[AnyConfig], values: object, place: str) -> AnyConfig | None:
        try:
            return config.parse(values, file=self.file, place=place)
        except ConfigError as error:
            self.problems.append(str(error.place))
            return None

    def raise_problems(self) -> None:
        if self.problems:
            raise ConfigError("invalid parameters", file=self.file, place="\n            ".join(self.problems))


def _require_known_initials(profile: Profile, path: Path) -> None:
    for name, entry in profile.finetune_dynamics.items():
        if entry.initial not in profile.train_dynamics:
            known = ", ".join(profile.train_dynamics)
            place = f"finetune_dynamics.{name}.initial"
            raise ConfigError("no such entry of train_dynamics", file=path, place=place, found=entry.initial,
                              expected=f"one of: {known}")  # fmt: skip
