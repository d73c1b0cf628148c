"""Trials as numbers: a value for each policy with its interval, and how imagination compares with the truth.

Shapes: P policies, E starts, H steps.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from whale.evaluation.numbers.bootstrap import Interval, mean_interval
from whale.evaluation.numbers.protocol import protocol
from whale.trials import measures
from whale.trials.evaluate import VARIANTS, Trial, TrialConfig, beyond, truncated, weighted
from whale.worlds.trust import TrustLimit
from whale.worlds.world import World

TOO_WEAK = "model too weak: its imagined rewards may explain nothing of the true ones (R^2 reaches 0); no result"
UNJUDGED = "no truth to compare with: values are imagined ones"
MEASURED = "measured"
TOP = (1, 3)


def trial_metrics(
    world: World, trials: Sequence[Trial], config: TrialConfig, limit: TrustLimit | None
) -> dict[str, object]:
    """Flat: `policy.NAME.*`, `across.VARIANT.*` (policies against the truth), `episodes.*`, `r2.*`, `status`."""
    values = {trial.name: episode_values(trial, limit) for trial in trials}
    metrics: dict[str, object] = {}
    for trial in trials:
        metrics |= _of_policy(trial, values[trial.name], config, limit)
    has_truth = all("true" in trial.rewards for trial in trials)
    read = world.reward.config.r2.get(world.contract.dataset, {}) if world.reward else {}
    metrics |= {f"reward_head.r2.{name}": value for name, value in read.items()}
    metrics |= {"num_policies": len(trials), "num_episodes": _count(trials), "status": UNJUDGED}
    if has_truth:
        metrics |= _compared(trials, values, config)
        low = metrics["r2.imagined.low"]
        metrics["status"] = MEASURED if isinstance(low, float) and low > 0 else TOO_WEAK
    metrics["trust_limit"] = None if limit is None else limit.expected_error
    metrics["trust_limit.source"] = "none: nothing was truncated or weighted" if limit is None else limit.source
    return metrics


def episode_values(trial: Trial, limit: TrustLimit | None) -> dict[str, np.ndarray]:
    """Mean reward [E] of each episode, by variant and for the truth."""
    imagined, doubt = trial.rewards["imagined"], trial.uncertainty
    found = {name: rewards.mean(axis=1) for name, rewards in trial.rewards.items()}
    found["truncated"] = truncated(imagined, doubt, limit).mean(axis=1)
    found["weighted"] = weighted(imagined, doubt, limit)
    return found


def trial_protocol(
    world: World, trials: Sequence[Trial], config: TrialConfig, starts: str, judge: str, limit: TrustLimit | None
) -> str:
    """How these values were measured: everything but the model must be equal for two of them to be compared."""
    episodes = _count(trials) if trials else config.episodes
    return protocol(
        "policy_value", model=world.identity, data=world.contract.dataset, starts=starts, episodes=episodes,
        horizon=config.horizon, value="mean reward of a step", reward="head on frames and actions",
        judge=judge, seed=config.seed,
        uncertainty=config.uncertainty or "none",
        limit="none" if limit is None else f"coverage {limit.coverage:g}",
        policies=",".join(trial.name for trial in trials),
        **(world.decoding if config.uncertainty is not None else world.decoding.by("argmax")).settings(),
    )  # fmt: skip


def _of_policy(
    trial: Trial, values: Mapping[str, np.ndarray], config: TrialConfig, limit: TrustLimit | None
) -> dict[str, object]:
    found: dict[str, object] = {}
    name = f"policy.{trial.name}"
    for variant in ("imagined", "truncated", "weighted", "true"):
        if variant in values:
            found |= _mean(values[variant], f"{name}.{variant}", config).as_metrics(f"{name}.{variant}")
    found |= _mean(trial.rewards["imagined"][:, -1], f"{name}.final", config).as_metrics(f"{name}.imagined_final")
    if trial.success is not None:
        found |= _mean(trial.success.astype(float), f"{name}.success", config).as_metrics(f"{name}.true_success")
        few = min(config.true_episodes, len(values["true"]) - 1)
        if few >= 2:
            chosen = np.arange(len(values["true"])) < few
            powered = measures.prediction_powered(
                values["imagined"][~chosen], values["true"][chosen], values["imagined"][chosen]
            )
            found |= powered.value.as_metrics(f"{name}.powered") | {f"{name}.powered_weight": powered.weight}
            found |= _normal(values["true"][chosen]).as_metrics(f"{name}.few_true")
    if trial.uncertainty is not None:
        defined = np.isfinite(trial.uncertainty)
        found[f"{name}.uncertainty"] = float(trial.uncertainty[defined].mean()) if defined.any() else float("nan")
        if limit is not None:
            found[f"{name}.beyond_limit"] = float(beyond(trial.uncertainty, limit)[defined].mean())
    return found


def _compared(
    trials: Sequence[Trial], values: Mapping[str, Mapping[str, np.ndarray]], config: TrialConfig
) -> dict[str, object]:
    found: dict[str, object] = {}
    true_PE = np.stack([values[trial.name]["true"] for trial in trials])
    rewards = np.stack([trial.rewards["true"] for trial in trials])
    for variant in VARIANTS:
        imagined_PE = np.stack([values[trial.name][variant] for trial in trials])
        found |= _across(f"across.{variant}", imagined_PE, true_PE, config)
        flat = imagined_PE.reshape(1, -1), true_PE.reshape(1, -1)
        found[f"episodes.{variant}.pearson"] = float(measures.pearson(*flat)[0])
        found[f"episodes.{variant}.spearman"] = float(measures.spearman(*flat)[0])
        found[f"episodes.{variant}.gap"] = float(measures.value_gap(*flat)[0])
        if variant in trials[0].rewards:
            guessed = np.stack([trial.rewards[variant] for trial in trials])
            rng = np.random.default_rng([config.seed, *f"r2.{variant}".encode()])
            found |= measures.explained(guessed, rewards, rng, config.resamples).as_metrics(f"r2.{variant}")
    means = true_PE.mean(axis=1)
    found["across.constant.gap"] = float(np.abs(means - np.median(means)).mean())  # of the best constant
    for k in (k for k in TOP if k < len(trials)):
        found[f"across.blind.regret_at_{k}"] = measures.random_regret(means, k)
    return found


def _count(trials: Sequence[Trial]) -> int:
    """Episodes that were played, of each policy."""
    return len(trials[0].actions)


def _across(name: str, imagined_PE: np.ndarray, true_PE: np.ndarray, config: TrialConfig) -> dict[str, object]:
    found: dict[str, object] = {}
    kinds: dict[str, measures.Measure] = {
        "spearman": measures.spearman,
        "pearson": measures.pearson,
        "mmrv": measures.mmrv,
        "gap": measures.value_gap,
    }
    kinds |= {f"regret_at_{k}": measures.regret_at(k) for k in TOP if k < len(imagined_PE)}
    for kind, measure in kinds.items():
        rng = np.random.default_rng([config.seed, *f"{name}.{kind}".encode()])
        found |= measures.across_policies(imagined_PE, true_PE, measure, rng, config.resamples).as_metrics(
            f"{name}.{kind}"
        )
    return found


def _mean(values: np.ndarray, key: str, config: TrialConfig) -> Interval:
    rng = np.random.default_rng([config.seed, *key.encode()])
    return mean_interval(values, np.arange(len(values)), rng, config.resamples)


def _normal(values: np.ndarray) -> Interval:
    """The classical interval of a mean: what the prediction-powered one has to beat."""
    wide = measures.NORMAL_95 * float(values.std(ddof=1) / np.sqrt(len(values)))
    mean = float(values.mean())
    return Interval(mean, mean - wide, mean + wide)
