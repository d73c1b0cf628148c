"""How many injected faults the quality gate notices, and how often it cries wolf, on the simulated fleet.

python -m benchmarks.quality_gate [--trials N]

Thresholds were set on three robots (seeds below 1000); the second table reports the other two with fresh seeds. The
colour rule alone was chosen with all five in view. A trial is a dataset of 40 episodes; faults of one episode are
counted per episode. About a minute.
"""

import argparse
import itertools
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import fleet_faults as faults
from whale.common.config import load_yaml
from whale.data.ingest.canonical.canonical import canonical_episode, kept_steps
from whale.data.ingest.quality.episode import inspect_episode, is_relabelled
from whale.data.ingest.quality.gate import Evidence
from whale.data.ingest.quality.verdicts import count_verdicts, gripper_verdict, motion_verdicts
from whale.data.spec.episode import Episode, RawEpisode
from whale.data.spec.spec import DatasetSpec, load_spec
from whale.data.storage.images import canonical_frame, encode
from whale.sim.fleet.collect import FleetConfig, generate_episodes
from whale.sim.fleet.robots import ROBOTS

SEEN, FRESH = ("fleet_delta", "fleet_relabel", "fleet_absolute"), ("fleet_planar", "fleet_unseen")
EPISODES, DRAWN, RESOLUTION, FROZEN = 40, 12, 64, 10
FIRST_SEED = {"fixed on": 0, "reported": 1000}
CLEAN = "clean: "
Steps = Mapping[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=6, help="datasets per robot")
    trials = parser.parse_args().trials
    started = time.process_time()
    tables = {
        title: count(robots, trials, FIRST_SEED[title]) for title, robots in (("fixed on", SEEN), ("reported", FRESH))
    }
    for title, table in tables.items():
        robots = SEEN if title == "fixed on" else FRESH
        print(f"\n{title}: {', '.join(robots)}; {trials} datasets each, seeds from {FIRST_SEED[title]}")
        print_table(table)
    print(f"\n{time.process_time() - started:.0f} s of one core")


def count(robots: tuple[str, ...], trials: int, first_seed: int) -> dict[str, Counter[str]]:
    """Fault (or `clean: detector`) -> trials and how many were raised."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for name in robots:
        spec = load_spec(name, Path("data_specs"))
        for trial in range(trials):
            dataset_trials(table, name, spec, first_seed + trial)
            episode_trials(table, name, spec, first_seed + trial)
    return table


def dataset_trials(table: dict[str, Counter[str]], name: str, spec: DatasetSpec, seed: int) -> None:
    """Faults that run through a whole dataset, seen in numbers."""
    clean = list(raw_episodes(name, seed, EPISODES, draw=False))
    for verdict, outcome in verdicts(clean, spec):
        tally(table, CLEAN + verdict, outcome in ("fault", "advice"), outcome)
    for fault, (detector, change) in dataset_faults(spec, seed).items():
        outcomes = [outcome for verdict, outcome in verdicts(map(change, clean), spec) if verdict == detector]
        tally(table, fault, "fault" in outcomes, "undecided" if "undecided" in outcomes else "ok")


def dataset_faults(spec: DatasetSpec, seed: int) -> dict[str, tuple[str, Callable[[Steps], Steps]]]:
    """Fault -> the detector that should raise it, and how it is done in this robot's convention."""
    action, gripper = spec.action, spec.action.gripper
    if is_relabelled(spec):  # what was commanded stands beside the gripper's command
        translation, rotation = faults.Columns(str(gripper.key), 0, 3), faults.Columns(str(gripper.key), 3, 6)
    else:
        translation, rotation = columns(action.translation), columns(action.rotation)
    assert translation is not None
    flip = partial(partial, faults.flip_sign)
    width = translation.stop - translation.start
    found: dict[str, tuple[str, Callable[[Steps], Steps]]] = {
        "sign flip, translation": ("action_sign", flip(columns=translation, dimension=seed % width)),
        "scale x 0.1": ("action_scale", partial(faults.rescale, columns=translation, factor=0.1)),
        "shuffled keys": ("swapped_columns", partial(faults.swap, columns=translation)),
    }
    commands = [each for each in (translation, rotation) if each is not None]
    for lag in (1, 2):
        found[f"lag {lag}"] = ("action_lag", partial(delayed, commands=commands, num_steps=lag))
    if rotation is not None and rotation.stop - rotation.start == 3:
        found["sign flip, rotation"] = ("action_sign", flip(columns=rotation, dimension=seed % 3))
    if (fingers := columns(gripper)) is not None:
        invert = partial(faults.invert_gripper, columns=fingers, is_relative=gripper.raw == "relative")
        found["gripper inverted"] = ("gripper_polarity", invert)
    return found


def columns(part) -> faults.Columns | None:
    return None if part.key is None else faults.Columns(part.key, *part.slice)


def delayed(steps: Steps, commands: list[faults.Columns], num_steps: int) -> Steps:
    for each in commands:
        steps = faults.delay(steps, each, num_steps)
    return steps


def verdicts(episodes: Iterator[Steps] | list[Steps], spec: DatasetSpec) -> list[tuple[str, str]]:
    """(detector, outcome) of everything that numbers alone decide."""
    evidence = Evidence()
    for steps in episodes:
        raw = as_raw(steps)
        episode = canonical_episode(raw, spec, "key", [])
        assert isinstance(episode, Episode), episode
        evidence.add(inspect_episode(raw, episode, {}, replace_cameras(spec)))
    found = [*motion_verdicts(evidence.motion, spec), gripper_verdict(evidence.motion, spec)]
    return [(verdict.detector, verdict.outcome) for verdict in found]


def episode_trials(table: dict[str, Counter[str]], name: str, spec: DatasetSpec, seed: int) -> None:
    """Faults of one episode, and colours of a dataset, seen in frames."""
    rng = np.random.default_rng(seed)
    colours = {"right": Evidence(), "exchanged": Evidence()}
    for steps in raw_episodes(name, seed, DRAWN, draw=True):
        raw = as_raw(steps)
        episode = canonical_episode(raw, spec, "key", [])
        assert isinstance(episode, Episode), episode
        images = np.asarray(steps[spec.cameras["primary"].key])[kept_steps(raw, spec)]
        frames = canonical(images, spec)
        inspect = partial(inspect_episode, spec=spec)
        clean = inspect(raw, episode, {"primary": frames})
        colours["right"].add(clean)
        colours["exchanged"].add(inspect(raw, episode, {"primary": canonical(images[..., ::-1], spec)}))
        for detector in ("black_camera", "zero_frames", "frozen_video", "truncated_episode"):
            tally(table, CLEAN + detector, detector in [fault.detector for fault in clean.faults], "ok")
        for fault, (detector, spoiled) in frame_faults(frames, rng).items():
            raised = [found.detector for found in inspect(raw, episode, {"primary": spoiled}).faults]
            tally(table, fault, detector in raised, "ok")
        cut = as_raw(faults.truncate(steps, len(frames) * 2 // 3))
        short = canonical_episode(cut, spec, "key", [])
        assert isinstance(short, Episode), short
        raised = [found.detector for found in inspect(cut, short, {"primary": frames[: short.num_steps]}).faults]
        tally(table, "truncated", "truncated_episode" in raised, "ok")
    for order, evidence in colours.items():
        outcome = count_verdicts(evidence.counts, spec)[0].outcome
        tally(table, CLEAN + "channel_order" if order == "right" else "BGR", outcome == "advice", outcome)


def frame_faults(frames: list[bytes], rng: np.random.Generator) -> dict[str, tuple[str, list[bytes]]]:
    black = encode(np.zeros((RESOLUTION, RESOLUTION, 3), np.uint8), 95)
    changes = np.array([a != b for a, b in itertools.pairwise(frames)])
    lively = [t for t in range(len(frames) - FROZEN + 1) if changes[t : t + FROZEN - 1].sum() >= FROZEN // 2]
    start = int(rng.choice(lively))  # freezing a still picture is no fault
    some = rng.choice(len(frames), size=3, replace=False).tolist()
    return {
        f"frozen, {FROZEN} frames": ("frozen_video", faults.freeze(frames, start, FROZEN)),
        "frozen, whole episode": ("frozen_video", [frames[0]] * len(frames)),
        "zero frames, 3": ("zero_frames", faults.blacken(frames, black, some)),
        "black camera": ("black_camera", [black] * len(frames)),
    }


def canonical(images_THWC: np.ndarray, spec: DatasetSpec) -> list[bytes]:
    """Canonical JPEG frames, as ingest makes them."""
    camera = spec.cameras["primary"]
    return [
        canonical_frame(encode(image, 95), resolution=RESOLUTION, quality=95, hw=camera.hw, channels=camera.channels)
        for image in images_THWC
    ]


def raw_episodes(name: str, seed: int, number: int, draw: bool) -> Iterator[Steps]:
    """Flattened steps of `number` training episodes."""
    sizes = load_yaml(Path("params.yaml"))["collect"]["fleet"]
    robot = ROBOTS[name]
    per_task = math.ceil(number / len(robot.tasks))
    sizes |= {"train_episodes": number, "unseen_episodes_per_task": per_task, "train_shards": 1}
    for episode in generate_episodes(robot, "train", FleetConfig(**sizes), seed, draw):
        yield flat(episode["steps"])


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= flat(value, f"{prefix}{name}/") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def as_raw(steps: Steps) -> RawEpisode:
    stored = {
        key: [str(text).encode() for text in value] if isinstance(value, list) else value
        for key, value in steps.items()
    }
    return RawEpisode(stored, len(steps["is_first"]), {}, "fleet", 0, 0, "0" * 64)


def replace_cameras(spec: DatasetSpec) -> DatasetSpec:
    return spec.model_copy(update={"cameras": {}})


def tally(table: dict[str, Counter[str]], row: str, is_raised: bool, otherwise: str) -> None:
    table[row].update(["trials", "raised" if is_raised else otherwise])


def print_table(table: Mapping[str, Counter[str]]) -> None:
    injected = {row: counted for row, counted in table.items() if not row.startswith(CLEAN)}
    clean = {row.removeprefix(CLEAN): counted for row, counted in table.items() if row.startswith(CLEAN)}
    for rows, title, last in ((injected, "fault", "recall"), (clean, "clean data", "alarms")):
        print(f"{title:<28}{'trials':>8}{'raised':>8}{'undecided':>11}{last:>9}")
        for row, counted in {**rows, "all": sum_rows(rows)}.items():
            share = counted["raised"] / counted["trials"]
            print(f"{row:<28}{counted['trials']:>8}{counted['raised']:>8}{counted['undecided']:>11}{share:>9.1%}")


def sum_rows(table: Mapping[str, Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for counted in table.values():
        total.update(counted)
    return total


if __name__ == "__main__":
    main()
