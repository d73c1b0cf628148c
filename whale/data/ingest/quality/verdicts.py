"""Verdicts on a whole dataset: what its spec claims against what was added up over its episodes.

An outcome is ok, fault, accepted (a fault that the spec knows), advice (look at it; nothing fails), not_judged (too
little data: never "ok"), undecided (enough data, which do not tell) or absent (nothing to measure it by). Thresholds
were set on three robots of the fleet; benchmarks/quality_gate.py reports the others.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from whale.data.ingest.quality import motion
from whale.data.ingest.quality.episode import is_relabelled
from whale.data.ingest.quality.motion import LAGS, PAIRS, MotionSums
from whale.data.spec.episode import ACTION_NAMES
from whale.data.spec.spec import DatasetSpec

Outcome = Literal["ok", "fault", "accepted", "advice", "not_judged", "undecided", "absent"]
OF_MOTION = ("action_lag", "action_sign", "action_scale", "swapped_columns", "absolute_as_delta")
LEAST_STEPS, LEAST_MOVING = 500, 100  # moving steps of the dataset, and of one dimension, before it is judged
CLEAR = 0.3  # a correlation below this says nothing
LAG_MARGIN = 0.05  # two lags closer than this can't be told apart
SWAP_MARGIN = 0.3  # by so much another dimension's motion must fit better
SCALE = (1 / 3, 3.0)  # metres moved per metre commanded; controllers undershoot, real Bridge at 0.63 to 0.92
LEAST_EVENTS, LEAST_SHARE = 10, 0.8  # gripper events, and how many of them must agree
ABSOLUTE_MARGIN = 0.3
WARM, LEAST_COLOURED = 0.75, 2000  # share of dark coloured pixels that are warm, and how many there must be
OUTLIER = 20.0  # times the larger of |q01|, |q99|
IDLE, LEAST_EPISODES = 0.5, 10
LAG_ZERO = LAGS.index(0)


@dataclass(frozen=True)
class Verdict:
    """`scope`: a dimension, a camera or dataset; `found` and `expected` are for people."""

    detector: str
    scope: str
    outcome: Outcome
    found: str = ""
    expected: str = ""


def motion_verdicts(sums: MotionSums, spec: DatasetSpec) -> list[Verdict]:
    """action_lag, action_sign, action_scale, swapped_columns and absolute_as_delta: actions against measured motion."""
    names = OF_MOTION
    contract = spec.action.contract
    if spec.state is None or not sums.lagged[..., 0].any():
        why = "no pose is measured" if spec.state is None else "no command is recorded beside the measured pose"
        return [Verdict(name, "dataset", "absent", why) for name in names]
    if contract.frame not in ("base", "world") or contract.form == "absolute":
        why = f"frame {contract.frame}, form {contract.form}"
        return [Verdict(name, "dataset", "absent", why, "frame base or world, not absolute") for name in names]
    judged = _judged(sums, spec)
    if sums.steps[0] < LEAST_STEPS:
        return [_too_few(name, "dataset", int(sums.steps[0]), LEAST_STEPS, "moving steps") for name in names]
    if not judged:
        most = int(sums.moving.max())
        return [_too_few(name, "dataset", most, LEAST_MOVING, "moving steps of one dimension") for name in names]
    lag, lag_verdict = _lag(sums, judged)
    signs = [_sign(sums, pair, lag) for pair in judged]
    return [
        lag_verdict,
        *signs,
        *(_scale(sums, pair, lag, spec) for pair in judged),
        _swapped(sums, judged),
        _absolute(sums, judged),
        *_wild(sums),
    ]


def _too_few(detector: str, scope: str, found: int, least: int, what: str) -> Verdict:
    """Not judged, and how much is missing."""
    return Verdict(
        detector, scope, "not_judged", f"{found} {what}", f"at least {least}: {max(least - found, 0)} missing"
    )


def convention_verdict(spec: DatasetSpec) -> Verdict:
    """What no comparison of a dataset with itself can show, because its actions and its state may share the mistake."""
    words = [f"frame {spec.action.contract.frame}"]
    words += [f"state {spec.state.pose.form}"] if spec.state is not None else []
    words += [f"rotation {form}" for form in spec.action.rotation.orientations()]
    found = f"{', '.join(words)}: as the spec states"
    expected = (
        "read in the dataset's documentation: frame, Euler order and axis-angle read as roll pitch yaw do not show"
    )
    return Verdict("conventions", "dataset", "absent", found, expected)


def gripper_verdict(sums: MotionSums, spec: DatasetSpec) -> Verdict:
    """Does the measured opening follow the command when it changes?"""
    name = "gripper_polarity"
    if spec.action.gripper.key is None:
        return Verdict(name, "gripper", "absent", "the gripper is not commanded")
    if spec.state is None or spec.state.gripper is None:
        return Verdict(name, "gripper", "absent", "no opening is measured")
    if spec.state.gripper.rises_when == "unknown":
        return Verdict(name, "gripper", "undecided", "rises_when: unknown", "open or close")
    followed, opposed = sums.answers
    found, total = f"{followed:.0f} of {followed + opposed:.0f} answers follow the command", followed + opposed
    if total < LEAST_EVENTS:
        return _too_few(name, "gripper", int(total), LEAST_EVENTS, "answers of the gripper")
    share = followed / total
    outcome: Outcome = "ok" if share >= LEAST_SHARE else "fault" if share <= 1 - LEAST_SHARE else "undecided"
    return Verdict(name, "gripper", outcome, found, f"at least {LEAST_SHARE:.0%}; 1 = open")


def statistics_verdicts(action: Mapping[str, Any], spec: DatasetSpec) -> list[Verdict]:
    """dead_dims, outlier, unwrapped_angle and a range that excludes 0, from statistics.json."""
    if action["count"] < LEAST_STEPS:
        return [
            _too_few(name, "dataset", action["count"], LEAST_STEPS, "valid steps") for name in ("dead_dims", "outlier")
        ]
    low, high, q01, q99 = (np.asarray(action[name]) for name in ("min", "max", "q01", "q99"))
    return [
        *_dead(high - low, spec),
        *_outliers(np.maximum(-low, high), np.maximum(np.abs(q01), np.abs(q99))),
        *_one_sided(q01, q99, spec),
        *_unwrapped(np.maximum(-low, high), spec),
    ]


def count_verdicts(counts: Counter[str], spec: DatasetSpec) -> list[Verdict]:
    """channel_order, shifted_action, idle, language, unused cameras, sources without is_last: advice, no faults."""
    verdicts = [_channel_order(counts), *_unused_cameras(counts, spec)]
    episodes, valid = counts["episodes"], max(counts["valid_steps"], 1)
    if counts["without_is_last"]:
        verdicts.append(Verdict("truncated_episode", "dataset", "undecided", "the source has no is_last"))
    if episodes >= LEAST_EPISODES and counts["first_zero"] >= 0.99 * episodes:
        cure = (
            "drop_first; shift_action where an action is stored with the frame that it LED TO (then action_lag says so)"
        )
        verdicts.append(Verdict("shifted_action", "dataset", "advice", "every first action is zero", cure))
    if counts["idle_steps"] > IDLE * valid:
        verdicts.append(Verdict("idle", "dataset", "advice", f"{counts['idle_steps'] / valid:.0%} of steps do nothing"))
    if spec.language.kind not in ("none", "constant") and counts["empty_language"]:
        found = f"{counts['empty_language']} of {episodes} episodes have no instruction"
        verdicts.append(Verdict("language", "dataset", "advice", found))
    return verdicts


def faults(verdicts: Sequence[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.outcome == "fault"]


def _judged(sums: MotionSums, spec: DatasetSpec) -> list[int]:
    """Pairs that move enough, of live dimensions; of the two conventions for angles the one that explains more.

    Angles that are not live have no say in that: what they correlate by is noise, which has tipped it.
    """
    # A relabelled dataset's mask speaks of the relabelled action; what was commanded may move any dimension.
    live = [True] * 7 if is_relabelled(spec) else spec.action.contract.action_mask()
    acts = sums.lagged[LAG_ZERO, :, motion.SUM_AA] > 0
    counts = np.array([live[dimension] for _, dimension in PAIRS]) & (sums.moving >= LEAST_MOVING) & acts
    explained = np.abs(motion.correlations(sums.lagged)).max(axis=0) * counts
    both = counts[motion.ANGLES] & counts[motion.ROTATION]  # compared where both can be
    by_angles, by_rotation = (explained[each][both].sum() for each in (motion.ANGLES, motion.ROTATION))
    turned = motion.ROTATION if by_rotation > by_angles or not counts[motion.ANGLES].any() else motion.ANGLES
    return [pair for pair in (0, 1, 2, *range(turned.start, turned.stop)) if counts[pair]]


def _lag(sums: MotionSums, judged: Sequence[int]) -> tuple[int, Verdict]:
    """Index of the lag that fits best, and the verdict on it; 0 is the contract."""
    score_L = np.abs(motion.correlations(sums.lagged[:, judged])).mean(axis=1)
    best = int(score_L.argmax())
    runner_up = float(np.delete(score_L, best).max())
    found = ", ".join(f"{lag:+d}: {score:.2f}" for lag, score in zip(LAGS, score_L, strict=True))
    expected = f"lag 0 best by {LAG_MARGIN}"
    if score_L[best] < CLEAR or score_L[best] - runner_up < LAG_MARGIN:
        return best, Verdict("action_lag", "dataset", "undecided", found, expected)
    return best, Verdict("action_lag", "dataset", "ok" if best == LAG_ZERO else "fault", found, expected)


def _sign(sums: MotionSums, pair: int, lag: int) -> Verdict:
    value = float(motion.correlations(sums.lagged[lag, pair]))
    outcome: Outcome = "ok" if value > CLEAR else "fault" if value < -CLEAR else "undecided"
    return Verdict("action_sign", PAIRS[pair][0], outcome, f"correlation {value:.2f}", f"above {CLEAR}")


def _scale(sums: MotionSums, pair: int, lag: int, spec: DatasetSpec) -> Verdict:
    """Only where one unit of action is a known motion: metric deltas, and metric velocities times a step."""
    dimension, name = PAIRS[pair][1], PAIRS[pair][0]
    part = spec.action.translation if dimension < 3 else spec.action.rotation
    form = spec.action.contract.form
    if part.unit not in ("m", "mm", "rad", "deg", "one") or form not in ("delta", "velocity"):
        return Verdict("action_scale", name, "absent", f"unit {part.unit}, form {form}")
    step = 1.0 if form == "delta" else 1.0 / spec.robot.control_hz
    slope = abs(motion.motion_per_command(sums, lag, pair)) / step
    expected = f"{SCALE[0]:.2g} to {SCALE[1]:.2g}"
    if abs(float(motion.correlations(sums.lagged[lag, pair]))) < CLEAR:
        return Verdict("action_scale", name, "undecided", f"motion per command {slope:.3g}", expected)
    outcome: Outcome = "ok" if SCALE[0] <= slope <= SCALE[1] else "fault"
    return Verdict("action_scale", name, outcome, f"motion per command {slope:.3g}", expected)


def _swapped(sums: MotionSums, judged: Sequence[int]) -> Verdict:
    """Does the motion of another dimension fit an action better than its own?"""
    fit_PP = np.abs(motion.cosines(sums))[np.ix_([PAIRS[pair][1] for pair in judged], judged)]
    own_P = np.diag(fit_PP)
    other_PP = fit_PP - np.diag(own_P)
    worst = int((other_PP.max(axis=1) - own_P).argmax())
    best_other = int(other_PP[worst].argmax())
    found = (
        f"{PAIRS[judged[worst]][0]} fits its own motion {own_P[worst]:.2f}, that of {PAIRS[judged[best_other]][0]} "
        f"{other_PP[worst, best_other]:.2f}"
    )
    gain = other_PP[worst, best_other] - own_P[worst]
    if own_P.min() < CLEAR and gain <= SWAP_MARGIN:
        return Verdict("swapped_columns", "dataset", "undecided", found, "its own best")
    return Verdict("swapped_columns", "dataset", "fault" if gain > SWAP_MARGIN else "ok", found, "its own best")


def _absolute(sums: MotionSums, judged: Sequence[int]) -> Verdict:
    """An action that is a pose fits the pose better than its change."""
    dimensions = [PAIRS[pair][1] for pair in judged]
    level = np.abs(motion.correlations(sums.level[dimensions]))
    change = np.abs(motion.correlations(sums.lagged[:, judged])).max(axis=0)
    worst = int((level - change).argmax())
    found = f"{PAIRS[judged[worst]][0]}: pose {level[worst]:.2f}, motion {change[worst]:.2f}"
    outcome: Outcome = "fault" if level[worst] - change[worst] > ABSOLUTE_MARGIN else "ok"
    return Verdict("absolute_as_delta", "dataset", outcome, found, "the motion fits better")


def _wild(sums: MotionSums) -> list[Verdict]:
    """Jumps of the measured pose: they are in no comparison, but nobody should learn from them unseen."""
    if not (number := int(sums.wild[0])):
        return []
    return [Verdict("outlier", "pose", "advice", f"the pose jumps in {number} steps", "below 1 m and 2.5 rad a step")]


def _dead(ptp_A: np.ndarray, spec: DatasetSpec) -> list[Verdict]:
    """Declared `live` against what varies at all."""
    live_A = np.array(spec.action.contract.action_mask())
    constant_A = ptp_A < 1.0e-6
    wrong = [name for name, live, same in zip(ACTION_NAMES, live_A, constant_A, strict=True) if live and same]
    masked = [name for name, live, same in zip(ACTION_NAMES, live_A, constant_A, strict=True) if not live and not same]
    if wrong:
        found = f"constant: {', '.join(wrong)}"
        return [Verdict("dead_dims", "dataset", "fault", found, f"live: {spec.action.contract.live} without them")]
    if masked:
        return [Verdict("dead_dims", "dataset", "advice", f"varies but is masked: {', '.join(masked)}")]
    return [Verdict("dead_dims", "dataset", "ok", f"live: {spec.action.contract.live}")]


def _outliers(largest_A: np.ndarray, usual_A: np.ndarray) -> list[Verdict]:
    wild = [d for d in range(6) if usual_A[d] > 0 and largest_A[d] > OUTLIER * usual_A[d]]
    if not wild:
        return [Verdict("outlier", "dataset", "ok")]
    found = "{:.3g} where 98 % are within {:.3g}"
    return [
        Verdict("outlier", ACTION_NAMES[d], "advice", found.format(largest_A[d], usual_A[d]), "contract.limit")
        for d in wild
    ]


def _one_sided(q01_A: np.ndarray, q99_A: np.ndarray, spec: DatasetSpec) -> list[Verdict]:
    """A robot whose steps never go back is not moving by deltas: the actions are positions."""
    sided = [ACTION_NAMES[d] for d in range(3) if q01_A[d] > 0 or q99_A[d] < 0]
    if spec.action.contract.form == "absolute" or not sided:
        return []
    found = f"98 % of {', '.join(sided)} on one side of 0"
    return [Verdict("absolute_as_delta", "range", "fault", found, "deltas of both signs")]


def _unwrapped(largest_A: np.ndarray, spec: DatasetSpec) -> list[Verdict]:
    metric = spec.action.rotation.unit in ("rad", "deg", "one")
    wild = [ACTION_NAMES[d] for d in range(3, 6) if largest_A[d] > np.pi + 1.0e-6]
    if not metric or not wild or spec.action.contract.form == "absolute":
        return []
    return [Verdict("unwrapped_angle", "dataset", "fault", f"{', '.join(wild)} beyond pi", "difference: {wrap: true}")]


def _channel_order(counts: Counter[str]) -> Verdict:
    """Advice only: it rests on what colours dark things usually have, and a lab may be blue."""
    if counts["coloured"] < LEAST_COLOURED:
        return _too_few("channel_order", "primary", counts["coloured"], LEAST_COLOURED, "dark coloured pixels")
    share = counts["warm"] / counts["coloured"]
    outcome: Outcome = "ok" if share >= WARM else "advice" if share <= 1 - WARM else "undecided"
    return Verdict(
        "channel_order", "primary", outcome, f"{share:.0%} of dark coloured pixels are warm", f">= {WARM:.0%}"
    )


def _unused_cameras(counts: Counter[str], spec: DatasetSpec) -> list[Verdict]:
    verdicts = []
    for role in sorted(spec.cameras):
        seen, absent = counts[f"camera/{role}/seen"], counts[f"camera/{role}/absent"]
        for what, detector in (("black", "black_camera"), ("frozen", "frozen_video")):
            if number := counts[f"camera/{role}/{what}"]:
                verdicts.append(Verdict(detector, role, "advice", f"{number} of {seen} episodes; not ingested"))
        if absent:
            verdicts.append(
                Verdict("missing_camera", role, "advice", f"absent in {absent} of {absent + seen} episodes")
            )
        if number := counts[f"camera/{role}/undecodable"]:
            verdicts.append(Verdict("decode_error", role, "advice", f"{number} episodes; not ingested"))
    return verdicts
