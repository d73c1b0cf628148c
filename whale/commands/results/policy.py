"""`whale policy`: how good a policy is in a world model, and how far that is to be believed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whale.commands.output import AsJson, group, print_json, print_table, require_folder
from whale.common.errors import ConfigError
from whale.common.limits import ANSWER_SECONDS
from whale.common.progress import Progress

if TYPE_CHECKING:
    from whale.policies.protocol import Beginning
    from whale.trials.evaluate import Judge
    from whale.worlds.world import World

EXAMPLE = "Example: whale policy evaluate world-bundle --policy behavior --policy ws://127.0.0.1:8000 --truth none"
EPISODES = 16  # where nobody asks for a number
EPISODES_HELP = "Starts, the same for every policy. [default: 16, or all recorded ones if fewer]"
FLEET, NONE = "fleet", "none"
Policies = Annotated[list[str], typer.Option("--policy", help="expert ..., behavior, or [NAME=]ws://HOST:PORT.")]
Robot = Annotated[str | None, typer.Option("--robot", help="The dataset whose actions the policies give.")]
Truth = Annotated[
    str, typer.Option("--truth", help="fleet: new starts, judged by its simulator. none: recorded starts.")
]
Reward = Annotated[Path | None, typer.Option("--reward", help="A reward head, as train_reward makes it.")]
Limit = Annotated[bool, typer.Option("--allow-remote", help="Send frames to a policy server on another machine.")]
Seconds = Annotated[float, typer.Option("--answer-seconds", help="Longest wait for one answer of a server.")]
Work = Annotated[Path, typer.Option("--work", help="Finished policies are kept here; a repeated call goes on.")]

app = group("Policies in a world model.")


@app.command("evaluate", epilog=EXAMPLE)
def evaluate(
    world: Annotated[Path, typer.Argument(help="An exported bundle, or a models folder.")],
    policy: Policies,
    robot: Robot = None,
    truth: Truth = NONE,
    episodes: Annotated[int | None, typer.Option("--episodes", help=EPISODES_HELP)] = None,
    horizon: Annotated[int, typer.Option("--horizon", help="Steps of an episode.")] = 16,
    true_episodes: Annotated[int, typer.Option("--true-episodes", help="Starts that count as known truths.")] = 4,
    uncertainty: Annotated[str, typer.Option("--uncertainty", help="retracing, entropy or none.")] = "retracing",
    coverage: Annotated[float, typer.Option("--coverage", help="Of the trust limit.")] = 0.8,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    reward: Reward = None,
    allow_remote: Limit = False,
    answer_seconds: Seconds = ANSWER_SECONDS,
    work: Work = Path("work/policies"),
    as_json: AsJson = False,
) -> None:
    """Play policies in the world, closed loop. A value with its interval for each, and the truth where it is known."""
    # PyTorch is imported here: no other command pays for it.
    from whale.trials.contenders import contenders_of
    from whale.trials.evaluate import TrialConfig, run_trials
    from whale.trials.report import trial_metrics, trial_protocol
    from whale.worlds.load import load

    values = {
        "policies": policy,
        "episodes": EPISODES if episodes is None else episodes,
        "horizon": horizon,
        "true_episodes": true_episodes,
        "seed": seed,
    }
    values |= {"uncertainty": None if uncertainty == NONE else uncertainty, "coverage": coverage, "resamples": 1000}
    require_folder(work, "--work")
    config = TrialConfig.parse(values, file="command line", place="whale policy evaluate")
    found = load(world, robot, reward=reward)
    if episodes is None and truth == NONE:
        config = config.model_copy(update={"episodes": max(2, min(EPISODES, len(found.starts)))})
    beginnings, judge = _setting(found, truth, config.episodes, config.horizon, config.seed)
    server = {"allow_remote": allow_remote, "answer_seconds": answer_seconds}
    contenders = contenders_of(policy, found, server)
    with Progress(len(contenders), "policies", "policy evaluate") as progress:
        trials = run_trials(found, contenders, beginnings, config, judge, work, progress.update)
    limit = found.limit_if_known(config.coverage, config.uncertainty)
    metrics = _written(trial_metrics(found, trials, config, limit))
    starts = "fleet simulator" if truth == FLEET else "recorded"
    metrics["protocol"] = trial_protocol(found, trials, config, starts, truth, limit)
    if as_json:
        print_json(metrics)
    else:
        _say(metrics, [each.name for each in trials])


def _setting(
    world: "World", truth: str, episodes: int, horizon: int, seed: int
) -> tuple[list["Beginning"], "Judge | None"]:
    """Where episodes begin, and who judges them."""
    from whale.policies.protocol import Beginning
    from whale.trials.episodes.true_values import Form, fleet_beginnings, fleet_judge

    if truth == FLEET:
        form = Form(world.resolution)
        return fleet_beginnings(world.contract.dataset, episodes, seed, form), fleet_judge(
            horizon, world.contract, form
        )
    if truth != NONE:
        raise ConfigError("no such judge", place="--truth", found=truth, expected="fleet or none")
    if len(world.starts) < episodes:
        known = len(world.starts)
        remedy = f"--episodes {known}, or --truth fleet" if known > 1 else "export it with --as world"
        raise ConfigError("not enough recorded starts", place="--episodes", found=f"{known} in the bundle",
                          expected=f"{episodes} or more", remedy=remedy)  # fmt: skip
    rows = enumerate(world.starts[:episodes])
    return [
        Beginning(
            n, seed * 1_000_003 + n, each.frames[-1], each.instruction, recorded=each.actions[len(each.frames) - 1]
        )
        for n, each in rows
    ], None


def _written(metrics: dict[str, object]) -> dict[str, Any]:
    from whale.evaluation.numbers.metrics import written

    return written(metrics)


def _say(metrics: dict[str, Any], names: list[str]) -> None:
    columns = ["imagined", "truncated", "weighted", "true"]
    shown = [each for each in columns if f"policy.{names[0]}.{each}" in metrics]
    rows = [[name, *(_cell(metrics, f"policy.{name}.{each}") for each in shown),
             _number(metrics.get(f"policy.{name}.beyond_limit"))] for name in names]  # fmt: skip
    print_table(["policy", *shown, "beyond limit"], rows)
    for variant in ("imagined", "truncated", "weighted"):
        if f"across.{variant}.spearman" in metrics:
            kinds = ("spearman", "pearson", "mmrv", "gap")
            print(
                f"{variant} against true: " + "; ".join(f"{k} {_cell(metrics, f'across.{variant}.{k}')}" for k in kinds)
            )
    explained = metrics.get("r2.imagined")
    head = ", ".join(f"{key.rpartition('.')[2]} {_number(value)}" for key, value in sorted(metrics.items())
                     if key.startswith("reward_head.r2."))  # fmt: skip
    print(f"R^2 of rewards: head on held-out frames: {head or 'not known'}"
          + ("" if explained is None else f"; imagined: {_number(explained)}"))  # fmt: skip
    print(f"status: {metrics['status']}\ntrust limit: {metrics['trust_limit.source']}\nprotocol: {metrics['protocol']}")


def _cell(metrics: dict[str, Any], key: str) -> str:
    low, high = metrics.get(f"{key}.low"), metrics.get(f"{key}.high")
    return f"{_number(metrics[key])} [{_number(low)}, {_number(high)}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
