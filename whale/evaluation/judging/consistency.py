"""Consistency rate by a judge: how often an imagined last frame is what was asked, and how far to trust the judge.

An answer that is not understood, or a tie, counts as no. Beside the rate stand the share of such answers, the canaries
and, where the truth is known, the judge's agreement with it. A judge that fails its canaries gets no rate.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from whale.common.json_files import canonical_json
from whale.evaluation.judging.judge import Judge, Judgement
from whale.evaluation.judging.pairs import Pair, Source, digest_of
from whale.evaluation.numbers.bootstrap import Interval
from whale.evaluation.numbers.metrics import Value, under, written
from whale.evaluation.numbers.protocol import protocol

NORMAL_95 = 1.959963984540054
LEAST_CANARIES, MOST_INVALID = 0.9, 0.1  # share of right ones, share of votes; beyond, the rate is `_unjudged`
ALL = "all"


@dataclass(frozen=True)
class Judged:
    """Everything a judge said: (pair, judgement) of the real pairs and of the canaries."""

    pairs: list[tuple[Pair, Judgement]] = field(default_factory=list)
    canaries: list[tuple[Pair, Judgement]] = field(default_factory=list)


def judge_all(judge: Judge, items: Sequence[Pair], progress: Callable[[], object] = lambda: None) -> Judged:
    """Every pair and canary in the given order; results sorted by key. What `judge` cannot judge is said first."""
    judge.require(items)
    found = []
    for pair in items:
        found.append((pair, judge.judge(pair)))
        progress()
    found.sort(key=lambda each: each[0].key)
    real = [each for each in found if each[0].canary is None]
    return Judged(real, [each for each in found if each[0].canary is not None])


def consistency_metrics(judged: Judged, judge: Judge, source: Source, questions: str) -> dict[str, Value]:
    """Flat: `TEST.TASK.consistency` with `.low`, `.high` (Wilson, 95 %), `.invalid`, `.truth.*`; `all.*`; `canaries.*`.

    questions: their name and digest, for the protocol.
    """
    canary_metrics, status, trusted = _canaries(judged)
    groups: dict[str, list[tuple[Pair, Judgement]]] = {ALL: judged.pairs}
    for pair, said in judged.pairs:
        groups.setdefault(f"{pair.test}.{pair.task}", []).append((pair, said))
    metrics: dict[str, object] = {}
    for name, rows in groups.items():
        metrics |= under(name, _rates(rows, trusted) | _agreement(rows))
    settings = {name: value for name, value in judge.settings.items()}
    text = protocol(
        "consistency", model=_plain(source.model), data=_plain(source.data), judge=_plain(judge.name),
        pairs=digest_of([pair for pair, _ in judged.pairs]), questions=questions, **settings,
    )  # fmt: skip
    metrics |= canary_metrics | {"status": status, "protocol": text} | under("spent", asdict(judge.spent))
    return written(metrics)


def wilson(yes: int, of: int) -> Interval:
    """Share with its 95 % interval (Wilson 1927), which stays within [0, 1] and is honest for few; NaN for none."""
    if of == 0:
        return Interval(np.nan, np.nan, np.nan)
    share, z2 = yes / of, NORMAL_95**2
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = NORMAL_95 / (1 + z2 / of) * np.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    return Interval(share, max(float(middle - half), 0.0), min(float(middle + half), 1.0))


def cohens_kappa(both: int, only_judge: int, only_truth: int, neither: int) -> float:
    """Agreement beyond chance (Cohen 1960) of two yes / no columns; NaN where chance alone agrees wholly."""
    of = both + only_judge + only_truth + neither
    if of == 0:
        return float("nan")
    agreed = (both + neither) / of
    by_chance = ((both + only_judge) * (both + only_truth) + (neither + only_truth) * (neither + only_judge)) / of**2
    return float("nan") if by_chance == 1.0 else (agreed - by_chance) / (1.0 - by_chance)


def records(judged: Judged, judge: Judge) -> list[str]:
    """One canonical JSON line a pair: who judged which pixels, every vote with its reasons. Sorted by key."""
    rows = sorted([*judged.pairs, *judged.canaries], key=lambda each: each[0].key)
    return [
        canonical_json({
            "pair": pair.key, "canary": pair.canary, "judge": judge.name, "images": pair.digests,
            "truth": pair.about.truth, "consistent": said.consistent, "votes": said.votes, "replies": said.turns,
        })
        for pair, said in rows
    ]  # fmt: skip


def _rates(rows: Sequence[tuple[Pair, Judgement]], trusted: bool) -> dict[str, object]:
    votes = [vote for _, said in rows for vote in said.votes]
    interval = wilson(sum(said.consistent is True for _, said in rows), len(rows))
    invalid = votes.count(None) / len(votes) if votes else float("nan")
    name = "consistency" if trusted and invalid <= MOST_INVALID else "consistency_unjudged"
    undecided = sum(said.consistent is None for _, said in rows)
    return {"pairs": len(rows), "invalid": invalid, "undecided": undecided, **interval.as_metrics(name)}


def _agreement(rows: Sequence[tuple[Pair, Judgement]]) -> dict[str, object]:
    known = [(said.consistent is True, pair.about.truth) for pair, said in rows if pair.about.truth is not None]
    if not known:
        return {"truth.pairs": 0}
    both, only_judge, only_truth, neither = (
        sum(said == a and truth == b for said, truth in known)
        for a, b in ((True, True), (True, False), (False, True), (False, False))
    )
    yes, no = both + only_truth, only_judge + neither
    found: dict[str, object] = {
        "truth.pairs": len(known),
        "truth.consistency": yes / len(known),
        **wilson(both + neither, len(known)).as_metrics("truth.accuracy"),
        "truth.kappa": cohens_kappa(both, only_judge, only_truth, neither),
        "truth.sensitivity": both / yes if yes else float("nan"),
        "truth.specificity": neither / no if no else float("nan"),
    }
    return found


def _canaries(judged: Judged) -> tuple[dict[str, object], str, bool]:
    """Metrics, what they say of the judge as one line, and whether it is trusted."""
    right = [(pair.canary, said.consistent is pair.about.truth) for pair, said in judged.canaries]
    metrics: dict[str, object] = {"canaries.asked": len(right), "canaries.right": sum(ok for _, ok in right)}
    for kind in sorted({str(kind) for kind, _ in right}):
        own = [ok for each, ok in right if each == kind]
        metrics |= {f"canaries.{kind}.asked": len(own), f"canaries.{kind}.right": sum(own)}
    votes = [vote for _, said in [*judged.pairs, *judged.canaries] for vote in said.votes]
    if judged.canaries and votes.count(None) > MOST_INVALID * len(votes):
        return metrics, f"unjudged: {votes.count(None)} of {len(votes)} votes were not understood", False
    kinds: dict[str, list[bool]] = {}
    for each, ok in right:
        kinds.setdefault(str(each), []).append(ok)
    failed = [kind for kind, own in sorted(kinds.items()) if sum(own) < LEAST_CANARIES * len(own)]
    if failed:
        counts = ", ".join(f"{kind} {sum(kinds[kind])} of {len(kinds[kind])}" for kind in failed)
        return metrics, f"unjudged: wrong answers to canaries ({counts})", False
    if right and "itself" not in kinds:
        said = "measured; no canary shows that this judge can say yes (recorded_meets is true of no pair)"
        return metrics, said, True
    return metrics, "measured", True


def _plain(text: str) -> str:
    return text.replace("|", "/").replace("=", ":")
