"""The plan: every stage of the active profile with its state, the reason, and what it would cost. Nothing is run.

States: up to date | runs | may run (its own inputs are as before, but a stage above it runs) | blocked (its spec, its
data or a split is missing) | waiting (for a blocked stage).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from whale.common.config import load_sections
from whale.common.stage_args import node_name
from whale.data.spec.needed_splits import EVALUATIONS, OF_ENTRIES
from whale.pipeline_file import PIPELINE, Node, expand, upstream
from whale.planning.datasets import DatasetStatus, dataset_statuses
from whale.planning.estimate import START_SECONDS, Cost, Estimator
from whale.planning.hardware import CPU, DEFAULT_CORES, Hardware, default_hardware, parse_hardware
from whale.planning.profile import Profile, load_profile

UP_TO_DATE, RUNS, MAY_RUN, BLOCKED, WAITS = "up to date", "runs", "may run", "blocked", "waiting"
STATES = (BLOCKED, WAITS, RUNS, MAY_RUN, UP_TO_DATE)


@dataclass(frozen=True)
class PlannedStage:
    """One node of the graph; `hours` on the stated hardware, None where no arithmetic is known."""

    stage: str
    item: str | None
    state: str
    why: tuple[str, ...]
    cost: Cost
    hours: float | None

    @property
    def name(self) -> str:
        return node_name(self.stage, self.item)


@dataclass(frozen=True)
class Plan:
    profile: str
    hardware: Hardware
    stages: tuple[PlannedStage, ...]
    datasets: tuple[DatasetStatus, ...]

    def hours(self, states: Sequence[str] = STATES) -> float:
        """Sum over the stages in one of `states`."""
        chosen = [stage for stage in self.stages if stage.state in states]
        return sum(stage.hours or START_SECONDS / 3600 for stage in chosen)

    def count(self, *states: str) -> int:
        return sum(stage.state in states for stage in self.stages)


def make_plan(root: Path, stale: Mapping[str, Sequence[str]] | None, hardware: str | None = None) -> Plan:
    """Plan for root/params.yaml. `stale`: {stage: reasons} as DVC tells them, None if there is no DVC to ask.

    Raises ConfigError for parameters that are wrong or hardware that is unknown.
    """
    profile = load_profile(root / "params.yaml")
    chosen = parse_hardware(hardware) if hardware else None
    datasets = dataset_statuses(profile, root)
    nodes = expand(load_sections(root / PIPELINE), profile.params)
    guess = _costs(profile, datasets, nodes, chosen or parse_hardware("cpu"))
    chosen = chosen or default_hardware(sum(cost.flops or 0.0 for cost in guess.values()))
    costs = _costs(profile, datasets, nodes, chosen)
    states = stage_states(nodes, stale, _problems(nodes, datasets.values()))
    hours = {name: _hours(cost, chosen) for name, cost in costs.items()}
    stages = [
        PlannedStage(node.stage, node.item, *states[node.name], costs[node.name], hours[node.name]) for node in nodes
    ]
    return Plan(profile.name, chosen, tuple(stages), tuple(datasets.values()))


def stage_states(
    nodes: Sequence[Node], stale: Mapping[str, Sequence[str]] | None, problems: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, tuple[str, ...]]]:
    """{node: (state, why)}, in the order of dvc.yaml, where every stage stands below those it reads from.

    `problems`: {node: what stands in its way}.
    """
    above, states = upstream(nodes), dict[str, tuple[str, tuple[str, ...]]]()
    roots: dict[str, list[str]] = {}  # what a stage waits for in the end
    for node in nodes:
        reasons = tuple(stale.get(node.name, ())) if stale is not None else ("DVC was not asked",)
        parents = [(name, states[name][0]) for name in above[node.name] if name in states]
        blocking = sorted({root for name, state in parents if state in (BLOCKED, WAITS) for root in roots[name]})
        running = [name for name, state in parents if state in (RUNS, MAY_RUN)]
        own = tuple(problems.get(node.name, ())) if reasons else ()
        if own:
            states[node.name], roots[node.name] = (BLOCKED, own), [node.name]
        elif blocking:
            states[node.name], roots[node.name] = (WAITS, (f"for {_some(blocking)}",)), blocking
        elif reasons:
            states[node.name] = (RUNS, reasons)
        elif running:
            states[node.name] = (MAY_RUN, (f"if {_some(running)} gives another result",))
        else:
            states[node.name] = (UP_TO_DATE, ())
    return states


def _problems(nodes: Sequence[Node], datasets: Collection[DatasetStatus]) -> dict[str, tuple[str, ...]]:
    """{stage: what stands in its way}."""
    found = {f"ingest@{each.name}": each.problems for each in datasets}
    missing = tuple(each.missing_splits for each in datasets if each.missing_splits is not None)
    return found | {node.name: missing for node in nodes if node.stage in EVALUATIONS + OF_ENTRIES}


def _costs(
    profile: Profile, datasets: Mapping[str, DatasetStatus], nodes: Sequence[Node], hardware: Hardware
) -> dict[str, Cost]:
    estimator = Estimator(profile, datasets, hardware.count, hardware.device.bytes_per_value)
    return {node.name: estimator.cost(node.stage, node.item) for node in nodes}


def _hours(cost: Cost, hardware: Hardware) -> float | None:
    start = START_SECONDS / 3600
    if cost.core_seconds is None and cost.flops is None:
        return None
    cores = hardware.count if hardware.device.name == CPU else DEFAULT_CORES
    on_cores = (cost.core_seconds or 0.0) / cores + cost.serial_seconds
    return start + on_cores / 3600 + hardware.hours(cost.flops or 0.0)


def _some(names: Sequence[str]) -> str:
    """The first of them, and how many there are."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
