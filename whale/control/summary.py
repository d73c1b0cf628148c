"""Numbers of Figure 4: success of every method with intervals over seeds and starts, the gate, the floors.

Shapes: S seeds, E starts, P points of a curve.
"""

from collections.abc import Sequence

import numpy as np

from whale.control.optimize import ALL, BEST, Learned, OptimizePolicyConfig
from whale.evaluation.numbers.bootstrap import Interval
from whale.evaluation.numbers.protocol import protocol
from whale.worlds.world import World

NONE = "none"  # imagination without a penalty
PASSED = "measured"
FAILED = (
    "gate failed: cloning the best episodes is not above cloning all of them, so what is built on it is no result; "
    "next: more rounds or less jitter of cloning, more episodes, or a tokenizer that shows the objects"
)


def success_interval(success_SE: np.ndarray, rng: np.random.Generator, resamples: int) -> Interval:
    """Mean success with an interval: each resample draws seeds, and for each drawn seed its starts anew.

    With one seed it tells of starts alone. Differences between methods [S, E] go the same way.
    """
    seeds, starts = success_SE.shape
    drawn = rng.integers(0, seeds, (resamples, seeds))
    chosen = rng.integers(0, starts, (resamples, seeds, starts))
    values = success_SE.astype(np.float64)
    return Interval.around(float(values.mean()), values[drawn[..., None], chosen].mean(axis=(1, 2)))


def of_method(learned: Sequence[Learned], method: str) -> list[Learned]:
    """Its runs, in the order of seeds."""
    return [each for each in learned if each.method == method]


def final(learned: Sequence[Learned], method: str) -> np.ndarray:
    """Success after the last step, float64 [S, E]."""
    return np.stack([each.success for each in of_method(learned, method)]).astype(np.float64)


def metrics(learned: Sequence[Learned], expert_E: np.ndarray, config: OptimizePolicyConfig) -> dict[str, object]:
    """Flat: `<method>.success` after the last step, `.success_over_steps` on average of its curve, each with interval;
    `.minus_cloning_best` and `.minus_none` (no penalty) of the same starts; `gate.difference`, `.passed`; `status`."""

    def interval(success_SE: np.ndarray, key: str) -> dict[str, float]:
        rng = np.random.default_rng([config.start_seed, *key.encode()])
        return success_interval(success_SE, rng, config.resamples).as_metrics(key)

    found: dict[str, object] = dict(interval(expert_E[None], "expert.success"))
    for method in config.methods:
        runs = of_method(learned, method)
        found |= interval(final(learned, method), f"{method}.success")
        along = np.stack([np.mean([point.success for point in run.curve], axis=0) for run in runs])
        found |= interval(along, f"{method}.success_over_steps")
        for name in sorted(set().union(*(run.facts for run in runs))):
            found[f"{method}.{name}"] = float(np.mean([run.facts[name] for run in runs]))
        for name in ("uncertainty", "penalty", "imagined_reward"):
            values = [record[name] for run in runs for record in run.records if name in record]
            if values:
                found[f"{method}.mean_{name}"] = float(np.mean(values))
        if method in config.imagination.penalties:
            found |= interval(final(learned, method) - final(learned, BEST), f"{method}.minus_cloning_best")
            if method != NONE and NONE in config.imagination.penalties:
                found |= interval(final(learned, method) - final(learned, NONE), f"{method}.minus_none")
    gate = final(learned, BEST) - final(learned, ALL)
    found |= interval(gate, "gate.difference")
    found |= {"gate.passed": bool(gate.mean() > 0), "seeds": len(config.seeds), "episodes": config.episodes}
    return found | {"status": PASSED if gate.mean() > 0 else FAILED}


def curves(learned: Sequence[Learned], config: OptimizePolicyConfig) -> dict[str, np.ndarray]:
    """`<method>.steps` [P], `.success` bool [S, P, E], and their `.mean`, `.low`, `.high` [P].

    A method in imagination begins at step 0 with what it begins from."""
    arrays: dict[str, np.ndarray] = {}
    for method in config.methods:
        runs = of_method(learned, method)
        steps = [point.steps for point in runs[0].curve]
        success = np.array([[point.success for point in run.curve] for run in runs], bool)
        if method in config.imagination.penalties:
            steps = [0, *steps]
            success = np.concatenate([final(learned, BEST).astype(bool)[:, None], success], axis=1)
        arrays |= {f"{method}.steps": np.array(steps), f"{method}.success": success}
        rng = np.random.default_rng([config.start_seed, *f"{method}.curve".encode()])
        found = [success_interval(success[:, at], rng, config.resamples) for at in range(len(steps))]
        arrays |= {f"{method}.mean": np.array([each.value for each in found])}
        arrays |= {f"{method}.low": np.array([each.low for each in found])}
        arrays |= {f"{method}.high": np.array([each.high for each in found])}
    return arrays


def optimization_protocol(world: World, shards: str, reward: str, arena: str, config: OptimizePolicyConfig) -> str:
    """How these numbers were measured. `shards`, `reward`: digests of the data and of the reward head."""
    imagination = config.imagination
    return protocol(
        "policy_success", model=world.identity, data=config.dataset, task=config.task, shards=shards,
        reward_head=reward, arena=arena, starts=f"{config.episodes} of seed {config.start_seed}",
        seeds=",".join(map(str, config.seeds)),
        horizon=imagination.horizon, context=imagination.context, recorded_share=imagination.recorded_share,
        mean_penalty=imagination.mean_penalty, decoding="argmax", policy="pixels through the tokenizer",
        learner=f"TD3 and {config.learner.strength:g} to the anchor",
        steps=config.learner_schedule.rounds * config.learner_schedule.steps,
    )  # fmt: skip


def table(found: dict[str, object], config: OptimizePolicyConfig) -> str:
    """A line a method, for whoever waits at the terminal."""
    lines = [f"{config.task}: success over {config.episodes} starts, {len(config.seeds)} seeds"]
    for name in ("expert", *config.methods):
        low, high = (found[f"{name}.success.{end}"] for end in ("low", "high"))
        alpha = f", alpha {found[f'{name}.alpha']:.3g}" if f"{name}.alpha" in found else ""
        lines.append(f"  {name:14} {found[f'{name}.success']:.2f} [{low:.2f}, {high:.2f}]{alpha}")
    verdict = "passed" if found["gate.passed"] else str(found["status"])
    return "\n".join([*lines, f"  gate (best above all): {found['gate.difference']:+.2f}, {verdict}"])
