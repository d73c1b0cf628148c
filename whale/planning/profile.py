"""A complete parameter set as the objects that its stages read: every section at once, each problem named."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from pydantic import Field

from whale.common.config import Config, load_sections
from whale.common.errors import ConfigError
from whale.control.arenas import MetaworldArenaConfig
from whale.control.optimize import OptimizePolicyConfig
from whale.data.ingest.ingest import IngestConfig
from whale.data.mixture import MixConfig
from whale.data.segments.grid import SegmentConfig
from whale.evaluation.behavior.measurement import EvaluateBehaviorConfig
from whale.evaluation.scaling.fit import FEWEST_SIZES
from whale.evaluation.scaling.measurement import EvaluateScalingConfig
from whale.evaluation.uncertainty.measurement import EvaluateUncertaintyConfig
from whale.evaluation.values.measurement import EvaluateValuesConfig
from whale.evaluation.video.video import EvaluateVideoConfig
from whale.sim.fleet.collect import FleetConfig
from whale.sim.metaworld.collect import MetaworldConfig
from whale.sim.rehearsal.collect import RehearsalConfig
from whale.training.tasks.behavior import FinetuneBehaviorConfig, TrainBehaviorConfig
from whale.training.tasks.dynamics import FinetuneDynamicsConfig, TrainDynamicsConfig
from whale.training.tasks.reward.task import TrainRewardConfig
from whale.training.tasks.rssm import TrainRSSMConfig
from whale.training.tasks.tokenizer.task import FinetuneTokenizerConfig, TrainTokenizerConfig
from whale.trials.evaluate import TrialStageConfig

ONE_ENTRY = ("finetune_tokenizer", "finetune_behavior", "finetune_embed")  # each makes one folder
FINETUNING = (*ONE_ENTRY, "finetune_dynamics")
ARENA_AS_RECORDED = ("action_repeat", "camera", "resolution", "supersample", "image")


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
    collect_metaworld: Mapping[str, MetaworldConfig]
    collect_rehearsal: Mapping[str, RehearsalConfig]
    ingest: IngestConfig
    mix: MixConfig
    train_tokenizer: TrainTokenizerConfig
    train_behavior: TrainBehaviorConfig
    train_dynamics: Mapping[str, TrainDynamicsConfig]
    train_reward: Mapping[str, TrainRewardConfig]
    train_rssm: Mapping[str, TrainRSSMConfig]
    finetune_tokenizer: Mapping[str, FinetuneTokenizerConfig]
    finetune_behavior: Mapping[str, FinetuneBehaviorConfig]
    finetune_dynamics: Mapping[str, FinetuneDynamicsConfig]
    evaluate_video: EvaluateVideoConfig
    evaluate_uncertainty: EvaluateUncertaintyConfig
    evaluate_values: Mapping[str, EvaluateValuesConfig]
    evaluate_scaling: Mapping[str, EvaluateScalingConfig]
    evaluate_behavior: Mapping[str, EvaluateBehaviorConfig]
    evaluate_policies: Mapping[str, TrialStageConfig]
    optimize_policy: Mapping[str, OptimizePolicyConfig]


def load_profile(path: Path) -> Profile:
    """Read and check a parameter file. Raises one ConfigError that names the problems of all sections."""
    params = load_sections(path)
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
    _require_one_finetuning_or_none(checked, path)
    _require_known_models(checked, path)
    _require_sizes(checked, path)
    _require_embedded_datasets(checked, path)
    _require_one_world_and_simulator(checked, path)
    return checked


def _require_known_initials(profile: Profile, path: Path) -> None:
    for name, entry in profile.finetune_dynamics.items():
        if entry.initial not in profile.train_dynamics:
            known = ", ".join(profile.train_dynamics)
            place = f"finetune_dynamics.{name}.initial"
            raise ConfigError("no such entry of train_dynamics", file=path, place=place, found=entry.initial,
                              expected=f"one of: {known}")  # fmt: skip


def _require_one_finetuning_or_none(profile: Profile, path: Path) -> None:
    """Demonstrations, an entry of every fine-tuning stage and splits to measure: all of them, or none."""
    tuned = [name for name, entry in profile.datasets.items() if entry.role == "finetune"]
    parts = {section: list(profile.params.get(section) or {}) for section in FINETUNING}
    parts["evaluate_video.finetune_splits"] = profile.evaluate_video.finetune_splits
    parts["evaluate_uncertainty.finetune_splits"] = profile.evaluate_uncertainty.finetune_splits
    wrong = [name for name, found in parts.items() if bool(found) != bool(tuned)]
    wrong += [section for section in ONE_ENTRY if len(parts[section]) > 1 and section not in wrong]
    if wrong:
        asked = "one entry (finetune_dynamics: one or more), and splits" if tuned else "{} or []: nothing is tuned"
        found = f"{len(tuned)} datasets of role finetune; {', '.join(f'{name}: {parts[name]}' for name in wrong)}"
        what = "fine-tuning is asked for in some places and not in others"
        raise ConfigError(what, file=path, place=", ".join(wrong), found=found, expected=asked)


def _require_known_models(profile: Profile, path: Path) -> None:
    """Values are those of trained dynamics, by the reward head of the same name; one entry makes the metrics file.

    The head of a world of policies is one of its role.
    """
    for name, entry in profile.evaluate_values.items():
        place = f"evaluate_values.{name}"
        if name not in profile.train_reward or len(profile.evaluate_values) > 1:
            raise ConfigError("one entry, named like one of train_reward", file=path, place=place,
                              found=list(profile.evaluate_values), expected=list(profile.train_reward))  # fmt: skip
        if unknown := sorted(set(entry.models) - set(profile.train_dynamics)):
            raise ConfigError("no such entries of train_dynamics", file=path, place=f"{place}.models", found=unknown,
                              expected=list(profile.train_dynamics))  # fmt: skip
    for name, trials in profile.evaluate_policies.items():
        heads = [head for head, entry in profile.train_reward.items() if entry.role == trials.role]
        if trials.reward not in heads:
            raise ConfigError("no such entry of train_reward of this role", file=path, found=trials.reward,
                              place=f"evaluate_policies.{name}.reward", expected=heads)  # fmt: skip
    video = profile.evaluate_video
    steps = {
        "pretrain": {name: entry.optimization.training_steps for name, entry in profile.train_dynamics.items()},
        "finetune": {name: entry.optimization.training_steps for name, entry in profile.finetune_dynamics.items()},
    }
    for role, splits in (("pretrain", video.pretrain_splits), ("finetune", video.finetune_splits)):
        known = [name for name, count in steps[role].items() if count]
        if video.models is not None and splits and not set(video.models) & set(known):
            raise ConfigError(f"no trained dynamics of role {role}, which is measured", file=path, found=video.models,
                              place="evaluate_video.models", expected=f"some of {known}")  # fmt: skip
    everywhere = {*profile.train_dynamics, *profile.finetune_dynamics}
    if unknown := sorted(set(video.models or []) - everywhere):
        raise ConfigError("no such trained dynamics", file=path, place="evaluate_video.models", found=unknown,
                          expected=sorted(everywhere))  # fmt: skip


def _require_sizes(profile: Profile, path: Path) -> None:
    """Scaling is over trained entries of at least three sizes; a fine-tuned one goes on from that of its own name."""
    for name, entry in profile.evaluate_scaling.items():
        place, known = f"evaluate_scaling.{name}.models", profile.train_dynamics
        trained = [each for each, values in known.items() if values.optimization.training_steps]
        if unknown := [each for each in entry.models if each not in trained]:
            raise ConfigError("no such trained entries of train_dynamics", file=path, place=place, found=unknown,
                              expected=trained)  # fmt: skip
        if len(sizes := {known[each].size.model_dump_json() for each in entry.models}) < FEWEST_SIZES:
            raise ConfigError("too few sizes for a line", file=path, place=place, found=len(sizes),
                              expected=f"at least {FEWEST_SIZES} values of `size`")  # fmt: skip
        tuned = {each: values.initial for each, values in profile.finetune_dynamics.items()}
        if wrong := [each for each in entry.finetuned if tuned.get(each) != each]:
            raise ConfigError("no entry of finetune_dynamics that goes on from its namesake", file=path,
                              place=f"evaluate_scaling.{name}.finetuned", found=wrong,
                              expected=[each for each in tuned if tuned[each] == each])  # fmt: skip


def _require_embedded_datasets(profile: Profile, path: Path) -> None:
    """An entry of evaluate_behavior is about the dataset of its name, whose z a pretrained prior has made."""
    embedded = [name for name in profile.mix.weights if name in profile.datasets]
    if unknown := sorted(set(profile.evaluate_behavior) - set(embedded)):
        raise ConfigError("no such dataset of role pretrain", file=path, found=unknown, expected=embedded,
                          place=f"evaluate_behavior.{unknown[0]}")  # fmt: skip


def _require_one_world_and_simulator(profile: Profile, path: Path) -> None:
    """A policy is optimized with what this profile trains, and tried where its recordings come from."""
    pretrained = [name for name, entry in profile.datasets.items() if entry.role == "pretrain"]
    for name, entry in profile.optimize_policy.items():
        heads = [name for name, head in profile.train_reward.items() if head.role == "pretrain"]
        asked = [("dataset", entry.dataset, pretrained), ("reward", entry.reward, heads)]
        asked += [("model", each, list(profile.train_dynamics)) for each in (entry.model, *entry.ensemble)]
        for key, found, known in asked:
            if found not in known:
                raise ConfigError("no such entry", file=path, place=f"optimize_policy.{name}.{key}", found=found,
                                  expected=f"one of: {', '.join(known) or 'none'}")  # fmt: skip
        if entry.imagination.context > profile.segments.window:
            raise ConfigError("more given frames than a window holds", file=path,
                              place=f"optimize_policy.{name}.imagination.context", found=entry.imagination.context,
                              expected=f"at most segments.window, {profile.segments.window}")  # fmt: skip
        source = profile.collect_metaworld.get(entry.dataset)
        if isinstance(entry.arena, MetaworldArenaConfig) and source is not None:
            drawn = {key: getattr(source, key) for key in ARENA_AS_RECORDED}
            asked_for = {key: getattr(entry.arena, key) for key in ARENA_AS_RECORDED}
            if asked_for != drawn or entry.task not in source.tasks:
                raise ConfigError("the simulator is not the one that the recordings come from", file=path,
                                  place=f"optimize_policy.{name}", found=f"{entry.task}: {asked_for}",
                                  expected=f"as collect_metaworld.{entry.dataset}: {drawn}")  # fmt: skip
