"""What is known of each dataset of a profile: how many frames, and what stands in the way of ingesting it.

Sizes come from the best source there is: shards that exist, the spec, data_specs/mixtures/oxe.yaml, or the section of
the simulator.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from whale.common.config import Config, load_yaml
from whale.common.errors import ConfigError
from whale.common.json_files import read_json
from whale.data.mixture import missing_weight
from whale.data.spec.needed_splits import missing_splits
from whale.data.spec.spec import DatasetSpec, load_spec
from whale.planning.profile import DatasetEntry, Profile
from whale.sim.fleet.collect import FleetConfig, drawn_robots, num_episodes, split_names
from whale.sim.metaworld.collect import SPLITS
from whale.sim.rehearsal.collect import MAIN, RehearsalConfig

TAR_OVERHEAD = 750  # bytes per frame: members of a tar are padded to 512
SPECS, SOURCES, MIXTURE = Path("data_specs"), Path("data_specs/sources"), Path("data_specs/mixtures/oxe.yaml")


class OpenXFact(Config):
    """One dataset of Table 11; `where` overrides the place that holds for the others."""

    dataset: str
    version: str
    episodes: int = Field(gt=0)
    steps: int = Field(gt=0)
    gib: float | None
    table11: float | None
    openvla_weight: float
    where: str | None = None


class OtherFact(Config):
    episodes: int = Field(gt=0)
    steps: int = Field(gt=0)
    how: str


class Facts(Config):
    """data_specs/mixtures/oxe.yaml: for planning only."""

    where: str
    datasets: dict[str, OpenXFact]
    others: dict[str, OtherFact]

    def steps(self, name: str) -> int | None:
        """Steps of all splits; None if nothing is known."""
        fact = self.datasets.get(name) or self.others.get(name)
        return fact.steps if fact else None

    def place(self, name: str) -> str:
        """How one gets the raw episodes."""
        if name in self.others:
            return self.others[name].how
        if name not in self.datasets:
            return "PATH is the folder that holds dataset_info.json"
        fact = self.datasets[name]
        where = (fact.where or self.where).format(dataset=fact.dataset, version=fact.version)
        return f"from {where}" + (f" ({fact.gib:,.0f} GiB)" if fact.gib else "")


@dataclass(frozen=True)
class DatasetStatus:
    """`problems`: what must be done before it can be ingested, in order; `frames` of all splits, None if unknown.

    `missing_splits`: that of the problems which stands in the way of evaluation too, although shards may be there.
    `missing_raw`: the file or folder that DVC will look for in vain.
    """

    name: str
    role: str
    frames: int | None
    frames_from: str
    problems: tuple[str, ...]
    missing_splits: str | None = None
    missing_raw: str | None = None


def jpeg_bytes(resolution: int) -> float:
    """Mean size of a frame, JPEG quality 95."""
    return 22_100 * (resolution / 256) ** 1.5


def known_frames(name: str, spec: DatasetSpec | None, facts: Facts) -> tuple[int, str] | None:
    """(steps of all splits, who says so), as the spec or the table of datasets has them."""
    if spec is not None and spec.expect.steps is not None:
        return spec.expect.steps, f"spec: {spec.expect.source}"
    steps = facts.steps(name)
    return None if steps is None else (steps, str(MIXTURE))


def load_facts(root: Path) -> Facts:
    """Read data_specs/mixtures/oxe.yaml."""
    return Facts.parse(load_yaml(root / MIXTURE), file=MIXTURE)


def dataset_statuses(profile: Profile, root: Path) -> dict[str, DatasetStatus]:
    """Status of every dataset of the profile; specs that are wrong are reported, not raised."""
    facts = load_facts(root)
    return {name: _status(name, entry, profile, facts, root) for name, entry in profile.datasets.items()}


def _status(name: str, entry: DatasetEntry, profile: Profile, facts: Facts, root: Path) -> DatasetStatus:
    spec, problems = _read_spec(name, root)
    splits = _missing_splits(spec, profile) if spec is not None else None
    problems += [] if splits is None else [splits]
    weight = missing_weight(name, profile.params)
    problems += [] if weight is None else [f"{weight.what}: {weight.place}: {weight.expected}"]
    no_raw = _raw_problems(name, entry, profile, facts, root)
    problems += no_raw
    frames, source = _frames(name, entry, profile, spec, facts, root)
    return DatasetStatus(name, entry.role, frames, source, tuple(problems), splits, entry.raw if no_raw else None)


def _read_spec(name: str, root: Path) -> tuple[DatasetSpec | None, list[str]]:
    path = SPECS / f"{name}.yaml"
    if not (root / path).is_file():
        return None, [f"{path} is missing: no spec yet, see docs/how-to/add-a-dataset.md"]
    try:
        return load_spec(name, root / SPECS), []
    except ConfigError as error:
        return None, [f"{path} is wrong: {error.what}; {error.place}"]


def _missing_splits(spec: DatasetSpec, profile: Profile) -> str | None:
    error = missing_splits(spec, profile.params)
    if error is None:
        return None
    return f"{error.file} lacks under {error.place}: {error.expected}; it has {error.found}: {error.remedy}"


def _raw_problems(name: str, entry: DatasetEntry, profile: Profile, facts: Facts, root: Path) -> list[str]:
    raw = Path(entry.raw)
    if entry.raw.startswith(f"artifacts/{profile.name}/"):  # an output of collect
        rehearsed = _rehearsed_by(entry, profile)
        if rehearsed is not None and name not in rehearsed.datasets:
            return [f"collect_rehearsal does not make it: add {name} to `datasets`"]
        config = _collected_by(entry, profile.collect)
        if config is None or raw.name in {robot.name for robot in drawn_robots(config)}:
            return []
        return [f"collect does not draw it: add {raw.name} to `robots`, now {', '.join(config.robots)}"]
    link = raw.stem if raw.suffix == ".json" else name
    if raw.suffix == ".json" and (root / raw).is_file() and (root / "raw" / link).is_dir():
        return []
    if raw.suffix != ".json" and (root / raw).is_dir():
        return []
    return [f"raw data are missing: `whale data link {link} PATH`, {facts.place(name)}"]


def _frames(
    name: str, entry: DatasetEntry, profile: Profile, spec: DatasetSpec | None, facts: Facts, root: Path
) -> tuple[int | None, str]:
    manifest = root / "artifacts" / profile.name / "data" / entry.role / "shards" / name / "manifest.json"
    if manifest.is_file():
        kept = read_json(manifest)["kept"]
        return sum(counts["steps"] for counts in kept.values()), "counted in the shards"
    if (rehearsed := _rehearsed_by(entry, profile)) is not None:  # not as many as the real one has
        mean_steps = (rehearsed.min_steps + rehearsed.max_steps) / 2
        return round(rehearsed.episodes(MAIN) * mean_steps), "collect_rehearsal: episodes x mean length"
    return known_frames(name, spec, facts) or _simulated_frames(name, entry, profile)


def _simulated_frames(name: str, entry: DatasetEntry, profile: Profile) -> tuple[int | None, str]:
    """Meta-World: episodes times frames. The fleet: episodes times the mean of the shortest and longest length."""
    for item, source in profile.collect_metaworld.items():
        if entry.raw.endswith(f"/raw/{item}/{item}"):
            return sum(map(source.total, SPLITS)) * source.frames, "collect_metaworld: episodes x frames"
    config = _collected_by(entry, profile.collect)
    robot = next((robot for robot in drawn_robots(config) if robot.name == name), None) if config else None
    if config is None or robot is None:
        return None, "unknown"
    shortest, longest = (
        (config.unseen_min_steps, config.unseen_max_steps) if robot.unseen else (config.min_steps, config.max_steps)
    )
    episodes = sum(num_episodes(robot, split, config) for split in split_names(robot))
    return round(episodes * ((shortest + longest) / 2 + 1)), "collect: episodes x mean length"


def _rehearsed_by(entry: DatasetEntry, profile: Profile) -> RehearsalConfig | None:
    return next((config for item, config in profile.collect_rehearsal.items() if f"/raw/{item}/" in entry.raw), None)


def _collected_by(entry: DatasetEntry, collect: Mapping[str, FleetConfig]) -> FleetConfig | None:
    return next((config for item, config in collect.items() if f"/raw/{item}/" in entry.raw), None)
