"""The quality gate: does a dataset hold what its spec says? Evidence per source file, verdicts and policy at the end.

A worker inspects each episode (`Evidence.add`); `judge` gives the verdicts on the merged evidence; `enforce` applies
the policy. Nothing is skipped in silence: what is dropped stands in quarantine.parquet, what was found in quality.json.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from typing import Any, Literal

import numpy as np
from pydantic import Field

from whale.common.config import Config
from whale.common.errors import BadDataError
from whale.data.ingest.quality import verdicts as detectors
from whale.data.ingest.quality.episode import Inspection
from whale.data.ingest.quality.motion import LAGS, PAIRS, MotionSums, correlations
from whale.data.ingest.quality.verdicts import Verdict, faults
from whale.data.spec.episode import QUALITY_REASONS
from whale.data.spec.spec import DatasetSpec

OPPOSED = -0.5  # an episode whose motion runs so much against its actions, in a dataset where they agree
COOL = 0.25  # an episode with so few warm dark pixels, in a dataset where they are warm
SHOWN = 20


class QualityConfig(Config):
    """policy fail: one faulty episode fails the ingest. quarantine: faulty ones are left out, up to `budget`.

    A fault of the whole dataset fails under either, unless the spec accepts it (episodes.accept, with an erratum).
    """

    policy: Literal["fail", "quarantine"]
    budget: int = Field(ge=0)


class Evidence:
    """What the episodes of one file add up to; merges by addition, in file order."""

    def __init__(self, motion: MotionSums | None = None, counts: Mapping[str, int] | None = None):
        self.motion = MotionSums.zero() if motion is None else motion
        self.counts = Counter(counts or {})

    def add(self, inspection: Inspection) -> dict[str, Any]:
        """Take in one episode; returns what its row keeps for comparison with the others."""
        self.motion += inspection.motion
        self.counts.update(inspection.counts)
        pair = {"agreement": inspection.agreement, "warm": inspection.warm}
        return {name: None if np.isnan(value) else round(value, 4) for name, value in pair.items()}

    def to_json(self) -> dict[str, Any]:
        return {"motion": self.motion.to_json(), "counts": dict(sorted(self.counts.items()))}

    @classmethod
    def merge(cls, records: Iterable[Mapping[str, Any]]) -> "Evidence":
        """From `to_json` of every file."""
        merged = cls()
        for record in records:
            merged.motion += MotionSums.from_json(record["motion"])
            merged.counts.update(record["counts"])
        return merged


def judge(
    evidence: Evidence, statistics: Mapping[str, Any] | None, rows: Sequence[Mapping[str, Any]], spec: DatasetSpec
) -> dict[str, Any]:
    """quality.json. `rows`: one per source episode, with `content_sha256` if the gate has looked at it.

    `statistics`: None if no step is left.
    """
    inspected = [row for row in rows if row.get("content_sha256")]
    verdicts = [
        *detectors.motion_verdicts(evidence.motion, spec),
        detectors.gripper_verdict(evidence.motion, spec),
        *(detectors.statistics_verdicts(statistics["action"], spec) if statistics is not None else []),
        *detectors.count_verdicts(evidence.counts, spec),
        detectors.convention_verdict(spec),
    ]
    found = _between_episodes(inspected, verdicts)
    verdicts += [
        Verdict(name, "episodes", "fault", f"{len(keys)} episodes", "none") for name, keys in sorted(found.items())
    ]
    verdicts = [_accepted(verdict, spec) for verdict in verdicts]
    return {
        "name": spec.name,
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "episodes": {name: {"count": len(keys), "keys": keys} for name, keys in sorted(found.items())},
        "quarantined": _listed((row["reason"], row["key"]) for row in rows if row.get("reason") in QUALITY_REASONS),
        "accepted": _listed((name, row["key"]) for row in inspected for name, _ in row["accepted"]),
        "mixed_colours": _cool(inspected, verdicts),
        "motion": _table(evidence.motion),
        "counts": dict(sorted(evidence.counts.items())),
    }


def unjudged(verdicts: Iterable[Mapping[str, Any]]) -> list[str]:
    """What the gate could not tell, in words: the detectors of each reason together."""
    groups: dict[str, list[str]] = defaultdict(list)
    for verdict in verdicts:
        if verdict["outcome"] == "not_judged":
            groups[f"{verdict['found']}, {verdict['expected']}"].append(verdict["detector"])
        elif verdict["outcome"] == "absent" and verdict["detector"] in detectors.OF_MOTION:
            groups[verdict["found"]].append(verdict["detector"])
    return [f"{', '.join(dict.fromkeys(names))} ({why})" for why, names in groups.items()]


def enforce(report: Mapping[str, Any], quality: QualityConfig, file: object) -> None:
    """BadDataError if the policy does not allow what was found; `file`: where the report lies by now."""
    spoiled = sum(group["count"] for group in report["quarantined"].values())
    allowed = quality.budget if quality.policy == "quarantine" else 0
    wrong = [Verdict(**verdict) for verdict in report["verdicts"]]
    lines = [f"{v.detector} ({v.scope}): {v.found}; expected {v.expected}" for v in faults(wrong)]
    if spoiled > allowed:
        lines += [
            f"{name}: {group['count']} episodes, e.g. {group['first'][0]}"
            for name, group in report["quarantined"].items()
        ]
    if not lines:
        return
    between = {v.detector for v in faults(wrong) if v.scope == "episodes"}
    named = {key: name for name in sorted(between) for key in report["episodes"][name]["keys"]}
    count = len(named)
    if spoiled > allowed:
        named |= {key: name for name, group in report["quarantined"].items() for key in group["first"]}
        count += spoiled
    remedy = f"see {file}; correct the spec; or name the detector in episodes.accept, with an erratum that says why"
    if named:
        keys = "the keys of quality.json and quarantine.parquet beside it"
        listed = ", ".join(f"{key}: {name}" for key, name in sorted(named.items()))
        which = f"{{{listed}}}" if count <= SHOWN else f"{{key: why}}, {keys}"
        remedy += f"; or leave episodes out, in the spec: episodes.exclude: {which}"
    if spoiled > allowed:
        policy = f"ingest.quality: {{policy: quarantine, budget: {spoiled}}}"
        remedy += f"; or in params.yaml, for all datasets, each of which is then ingested anew: {policy}"
    raise BadDataError(
        f"the data contradict the spec of {report['name']}", file=str(file),
        found="\n            ".join(lines), expected="no fault", remedy=remedy,
    )  # fmt: skip


def _between_episodes(rows: Sequence[Mapping[str, Any]], verdicts: Sequence[Verdict]) -> dict[str, list[str]]:
    """Detector -> keys of episodes that only a comparison shows: the same content twice, motion against the others."""
    found: dict[str, list[str]] = defaultdict(list)
    ordered = sorted(rows, key=lambda row: (row["content_sha256"], row["key"]))
    for _, group in groupby(ordered, key=lambda row: row["content_sha256"]):
        first, *others = group
        for row in others:
            found["duplicate_content" if row["split"] == first["split"] else "leaked_split"].append(row["key"])
    signs = [v.outcome for v in verdicts if v.detector == "action_sign" and v.scope in ("x", "y", "z")]
    if signs and set(signs) == {"ok"}:
        against = [row["key"] for row in rows if row["agreement"] is not None and row["agreement"] < OPPOSED]
        if against:
            found["episode_sign"] = against
    return {name: sorted(keys) for name, keys in found.items()}


def _accepted(verdict: Verdict, spec: DatasetSpec) -> Verdict:
    is_accepted = verdict.outcome == "fault" and verdict.detector in spec.episodes.accept
    return replace(verdict, outcome="accepted") if is_accepted else verdict


def _cool(rows: Sequence[Mapping[str, Any]], verdicts: Sequence[Verdict]) -> list[str]:
    """Episodes that look as if red and blue were exchanged, where the dataset does not. Advice."""
    if not any(verdict.detector == "channel_order" and verdict.outcome == "ok" for verdict in verdicts):
        return []
    return [row["key"] for row in rows if row["warm"] is not None and row["warm"] <= COOL][:SHOWN]


def _listed(pairs: Iterable[tuple[str, str]]) -> dict[str, dict[str, Any]]:
    """Detector -> how many, and the first keys."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name, key in pairs:
        groups[name].append(key)
    return {name: {"count": len(keys), "first": sorted(keys)[:SHOWN]} for name, keys in sorted(groups.items())}


def _table(sums: MotionSums) -> dict[str, Any]:
    """Correlation of action and motion per lag and dimension: the numbers behind the verdicts, for people."""
    names = [name if place < 6 else f"{name} (rotation)" for place, (name, _) in enumerate(PAIRS)]
    values = np.round(correlations(sums.lagged), 4).tolist()
    return {"lags": list(LAGS), "dimensions": names, "correlations": values, "moving_steps": sums.moving.tolist()}
