"""The quality gate where the measured pose is as on real arms: noise, jumps of the sensor, little data.

python -m benchmarks.gate_on_real_arms [--trials N]

The faults are those of benchmarks/quality_gate.py, on all five robots of the fleet with fresh seeds (from 2000); a
trial is a dataset of 40 episodes. sigma: of each coordinate of the measured pose, independent from step to step (arms
with encoders of 12 bits and some play: about 1 mm at the tool; industrial ones 0.1 mm). Told for each condition: faults
raised, of all; shares of faults not judged (too little data, which ingest's last line says) and undecided; false alarms
on clean data. Two minutes of one core with the default.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.quality_gate import EPISODES, FRESH, SEEN, Steps, dataset_faults, raw_episodes, verdicts
from whale.data.spec.spec import DatasetSpec, StatePose, load_spec

FIRST_SEED = 2000
DEGREE = np.pi / 180
Change = Callable[[list[Steps], StatePose, int], list[Steps]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2, help="datasets per robot")
    trials = parser.parse_args().trials
    started = time.process_time()
    print(f"{'condition':<34}{'faults':>8}{'raised':>8}{'not judged':>12}{'undecided':>11}{'missed':>8}{'alarms':>12}")
    for condition, change in CONDITIONS.items():
        faults, clean = count(change, trials)
        shown = [faults[word] for word in ("raised", "not_judged", "undecided", "ok")]
        total, alarms = sum(faults.values()), f"{clean['fault']} of {sum(clean.values())}"
        raised, unjudged, undecided = (f"{number / total:.1%}" for number in shown[:3])
        print(f"{condition:<34}{total:>8}{raised:>8}{unjudged:>12}{undecided:>11}{shown[3]:>8}{alarms:>12}")
    print(f"{time.process_time() - started:.0f} s of one core")


def count(change: Change, trials: int) -> tuple[Counter[str], Counter[str]]:
    """(outcome of each fault, outcome of each verdict on clean data)."""
    faults, clean = Counter[str](), Counter[str]()
    for name in (*SEEN, *FRESH):
        spec = load_spec(name)
        for seed in range(FIRST_SEED, FIRST_SEED + trials):
            assert spec.state is not None
            made = change(list(raw_episodes(name, seed, EPISODES, draw=False)), spec.state.pose, seed)
            clean.update(outcome for _, outcome in verdicts(made, spec))
            faults.update(outcome_of(fault, made, spec) for fault in dataset_faults(spec, seed).values())
    return faults, clean


def outcome_of(fault: tuple[str, Callable[[Steps], Steps]], made: list[Steps], spec: DatasetSpec) -> str:
    """raised, not_judged, undecided, or ok: the gate says that all is well."""
    detector, inject = fault
    found = {outcome for name, outcome in verdicts(list(map(inject, made)), spec) if name == detector}
    return "raised" if "fault" in found else next((word for word in ("not_judged", "undecided") if word in found), "ok")


def noise(made: list[Steps], pose: StatePose, seed: int, metres: float, radians: float) -> list[Steps]:
    """White noise on every coordinate of the measured pose."""
    rng = np.random.default_rng(seed)
    return [_changed(steps, pose, lambda x_TD: _noisy(x_TD, pose, rng, metres, radians)) for steps in made]


def _noisy(x_TD: np.ndarray, pose: StatePose, rng: np.random.Generator, metres: float, radians: float) -> np.ndarray:
    places = len(pose.form) if pose.form in ("xy", "xyz") else 3
    x_TD = x_TD.astype(np.float64)
    factor = 1000.0 if pose.units[0] == "mm" else 1.0
    x_TD[:, :places] += rng.normal(0, metres * factor, (len(x_TD), places))
    if "quat" in pose.form:
        x_TD[:, 3:] += rng.normal(0, radians / 2, x_TD[:, 3:].shape)
        x_TD[:, 3:] /= np.linalg.norm(x_TD[:, 3:], axis=1, keepdims=True)
    elif x_TD.shape[1] > places:
        x_TD[:, places:] += rng.normal(0, radians / (DEGREE if pose.units[-1] == "deg" else 1), x_TD[:, places:].shape)
    return x_TD


def jumps(made: list[Steps], pose: StatePose, seed: int, metres: float, every: int) -> list[Steps]:
    """One sample of the position far away, in each `every`-th episode."""
    rng = np.random.default_rng(seed)

    def jump(x_TD: np.ndarray) -> np.ndarray:
        x_TD[rng.integers(1, len(x_TD) - 1), :2] += metres
        return x_TD

    return [_changed(steps, pose, jump) if number % every == 0 else steps for number, steps in enumerate(made)]


def short(made: list[Steps], pose: StatePose, seed: int, steps: int) -> list[Steps]:
    """As many whole episodes as have this many steps together."""
    total, kept = 0, []
    for each in made:
        if total >= steps:
            break
        kept.append(each)
        total += len(each["is_first"])
    return kept


def _changed(steps: Steps, pose: StatePose, function: Callable[[np.ndarray], np.ndarray]) -> Steps:
    values = np.array(steps[pose.key])
    start, stop = pose.slice
    values[:, start:stop] = function(values[:, start:stop].copy())
    return {**steps, pose.key: values}


CONDITIONS: dict[str, Change] = {
    "as simulated": lambda made, pose, seed: made,
    "sigma 0.1 mm, 0.05 degrees": partial(noise, metres=1e-4, radians=0.05 * DEGREE),
    "sigma 0.5 mm, 0.2 degrees": partial(noise, metres=5e-4, radians=0.2 * DEGREE),
    "sigma 1 mm, 0.5 degrees": partial(noise, metres=1e-3, radians=0.5 * DEGREE),
    "sigma 2 mm, 1 degree": partial(noise, metres=2e-3, radians=DEGREE),
    "sigma 5 mm, 2 degrees": partial(noise, metres=5e-3, radians=2 * DEGREE),
    "one jump of 1000 m": partial(jumps, metres=1000.0, every=EPISODES),
    "a jump of 0.5 m in every episode": partial(jumps, metres=0.5, every=1),
    "100 steps": partial(short, steps=100),
    "400 steps": partial(short, steps=400),
    "800 steps": partial(short, steps=800),
}


if __name__ == "__main__":
    main()
