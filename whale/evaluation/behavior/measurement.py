"""How much of who acted, and on what, a linear probe reads off z: accuracy beside chance and floors (P Fig. 15).

The paper shows a t-SNE of prior probabilities and no number; the probes are ours.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import Field

from whale.common.config import Config
from whale.common.errors import BadDataError
from whale.evaluation.behavior.centroids import coordinates
from whale.evaluation.behavior.probe import Answers, Question, answer
from whale.evaluation.behavior.segments import POSTERIOR, PRIOR, SIMPLE, Behaviors, Source
from whale.evaluation.numbers.bootstrap import Interval, mean_interval, paired_interval
from whale.evaluation.numbers.metrics import under
from whale.evaluation.numbers.protocol import protocol

SHUFFLED = "shuffled"  # in the place of features: the prior, with the labels of other episodes
DRAWINGS = 10  # of shuffled labels: one alone is some .03 off, their mean .01; each is as slow as any other fit
ABOVE, NO_MORE, BELOW_CHANCE = "more than simple features", "no more than simple features", "no more than chance"
ONE_CLASS = "not measured: fewer than two classes of two episodes"


class EvaluateBehaviorConfig(Config):
    """One entry of evaluate_behavior, named like the dataset it is about.

    segments: of a split, at most; per_episode: of one episode. inverse_penalty: scikit-learn's C. perplexity: of t-SNE
    (P: not given; open: 30).
    """

    seed: int
    splits: list[str] = Field(min_length=1)
    segments: int = Field(gt=0)
    per_episode: int = Field(gt=0)
    folds: int = Field(ge=2)
    inverse_penalty: float = Field(gt=0)
    perplexity: float = Field(gt=1)
    resamples: int = Field(ge=100)


def measured(found: Behaviors, split: str, source: Source, config: EvaluateBehaviorConfig) -> dict[str, object]:
    """`<question>.<features>` with its interval, `<question>.chance`, `.shuffled`, `.status`, ..., `centroid.<policy>`.

    Raises BadDataError where neither task nor policy has two classes.
    """
    questions = {
        "policy": Question.of(found.policy, None, found.episode),
        "policy_within_task": Question.of(found.policy, found.task, found.episode),
        "task": Question.of(found.task, None, found.episode),
        "task_within_policy": Question.of(found.task, found.policy, found.episode),
    }
    if not any(question.kept.any() for question in questions.values()):
        raise BadDataError(
            "nothing to tell apart", file=source.shards.directory, place=f"split {split}",
            found=f"tasks: {', '.join(np.unique(found.task))}; policies: {', '.join(np.unique(found.policy))}",
            expected="two tasks or two policies, with two episodes each", remedy="choose another split or dataset",
        )  # fmt: skip
    metrics: dict[str, object] = {"segments": len(found), "episodes": len(np.unique(found.episode))}
    metrics["episodes_left_out"] = found.left_out
    for name, question in questions.items():
        metrics |= under(name, _asked(found, question, f"{source.shards.name}.{split}.{name}", config))
    rng = _rng(config, f"{source.shards.name}.{split}.centroid")
    for policy, at in coordinates(found, found.features[PRIOR], rng, config.resamples).items():
        metrics |= under("centroid", at.as_metrics(policy))
    return metrics


def _asked(found: Behaviors, question: Question, stream: str, config: EvaluateBehaviorConfig) -> dict[str, object]:
    if not question.kept.any():
        return {"status": ONE_CLASS}
    fold_S = question.folds(config.folds, _rng(config, stream))
    answers = {
        name: answer(features, question, fold_S, config.inverse_penalty) for name, features in found.features.items()
    }
    drawings = [_shuffled(found, question, f"{stream}.{SHUFFLED}.{number}", config) for number in range(DRAWINGS)]
    metrics = _counted(question, answers, stream, config) | control(drawings)
    unconverged = sum(each.unconverged for each in (*answers.values(), *drawings))
    return metrics | {"unconverged_fits": unconverged}


def _shuffled(found: Behaviors, question: Question, stream: str, config: EvaluateBehaviorConfig) -> Answers:
    """One drawing: whatever is found now is no behavior."""
    other = question.shuffled(_rng(config, stream))
    fold_S = other.folds(config.folds, _rng(config, f"{stream}.folds"))
    return answer(found.features[PRIOR], other, fold_S, config.inverse_penalty)


def control(drawings: Sequence[Answers]) -> dict[str, float]:
    """`shuffled`: mean accuracy of at least two drawings of shuffled labels; `.low`, `.high`: the least and the most
    of them, no interval over episodes; `.spread`: their standard deviation."""
    found = np.array([np.nanmean(each.correct) for each in drawings])
    metrics = Interval(float(found.mean()), float(found.min()), float(found.max())).as_metrics(SHUFFLED)
    return metrics | {f"{SHUFFLED}.spread": float(found.std(ddof=1))}


def _counted(
    question: Question, answers: Mapping[str, Answers], stream: str, config: EvaluateBehaviorConfig
) -> dict[str, object]:
    """All intervals of a question are of the same resampled episodes."""

    def interval(correct: np.ndarray, inside: np.ndarray) -> Interval:
        return mean_interval(correct[inside], question.episode[inside], _rng(config, stream), config.resamples)

    correct, kept = {name: each.correct for name, each in answers.items()}, question.kept
    metrics: dict[str, object] = {"chance": question.chance(), "num_segments": int(kept.sum())}
    metrics["num_classes"] = len(np.unique(question.labels[kept]))
    accuracy = {name: interval(values, kept) for name, values in correct.items()}
    for name, value in accuracy.items():
        metrics |= value.as_metrics(name)
    more = {}
    for name in (PRIOR, POSTERIOR):
        rng = _rng(config, stream)
        pair = correct[name][kept], correct[SIMPLE][kept]
        more[name] = paired_interval(*pair, question.episode[kept], rng, config.resamples)
        metrics |= more[name].as_metrics(f"{name}_minus_{SIMPLE}")
    metrics["status"] = _status(accuracy[PRIOR], more[PRIOR], question.chance())
    for group in question.groups if len(question.groups) > 1 else ():
        inside = kept & (question.group == group)
        metrics |= under(f"of.{group}", interval(correct[PRIOR], inside).as_metrics(PRIOR))
        metrics |= under(f"of.{group}", interval(correct[SIMPLE], inside).as_metrics(SIMPLE))
        metrics[f"of.{group}.chance"] = question.chance(group)
    return metrics


def _status(prior: Interval, more: Interval, chance: float) -> str:
    if not prior.low > chance:
        return BELOW_CHANCE
    return ABOVE if more.low > 0 else NO_MORE


def behavior_protocol(source: Source, split: str, model: str, config: EvaluateBehaviorConfig) -> str:
    """`model`: the digest that names the behavior model alone."""
    return protocol(
        "behavior", model=model, data=f"{source.shards.name}/{split}", shards=source.shards.digest[:16],
        window=source.window, z="probabilities at the last step of whole segments of phase 0",
        segments=config.segments, per_episode=config.per_episode, folds=f"{config.folds}, split by episode",
        probe=f"logistic regression, C {config.inverse_penalty:g}, features standardised",
        shuffled=f"mean of {DRAWINGS} drawings", interval="episodes resampled", resamples=config.resamples,
        seed=config.seed,
    )  # fmt: skip


def _rng(config: EvaluateBehaviorConfig, stream: str) -> np.random.Generator:
    return np.random.default_rng([config.seed, *f"behavior.{stream}".encode()])
