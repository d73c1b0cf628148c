"""`whale evaluate consistency`: pairs of last frames, judged by the truth or by a vision model that you name."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whale.commands.output import AsJson, print_json, print_table, require_folder
from whale.common.errors import ConfigError

if TYPE_CHECKING:
    from whale.evaluation.judging.pairs import Pair
    from whale.evaluation.judging.questions import Questions
    from whale.evaluation.judging.vision_judge import VisionJudge

EXAMPLE = "Example: whale evaluate consistency work/pairs --simulate 20; whale evaluate consistency work/pairs"
CACHE = Path("work/judge-replies")
Folder = Annotated[Path, typer.Argument(help="TEST/TASK/NAME/ with recorded.png, imagined.png, about.json.")]
Simulate = Annotated[int | None, typer.Option(help="Write so many new episodes a test there, and end.", min=1)]
World = Annotated[Path | None, typer.Option(help="With --simulate: imagine them with this model, not with faults.")]
JudgeFile = Annotated[Path | None, typer.Option("--judge", help="YAML of a vision endpoint; without it: the truth.")]
Asked = Annotated[Path | None, typer.Option("--questions", help="With --judge: the prompts of each test and task.")]
Out = Annotated[Path | None, typer.Option("--out", help="Folder for report.json and judgements.jsonl.")]
Canaries = Annotated[int, typer.Option(help="Known-answer questions of each kind and test.", min=0)]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be written, or asked at what cost; do neither.")
]
Seed = Annotated[int, typer.Option(min=0, help="Of simulated pairs, canaries and the order.")]
QUESTIONS = Path("data_specs/questions/fleet.yaml")


def consistency(
    folder: Folder, simulate: Simulate = None, world: World = None, judge: JudgeFile = None, questions: Asked = None,
    out: Out = None, canaries: Canaries = 5, seed: Seed = 0, dry_run: DryRun = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """How often imagined last frames are consistent with the recorded ones, by a judge; and how far to trust it."""
    if simulate is not None:
        _refuse("--simulate writes pairs and judges none", {"--judge": judge, "--questions": questions, "--out": out})
        _write(folder, simulate, world, seed, dry_run, as_json)
        return
    _refuse("--world imagines the episodes of --simulate N", {"--world": world})
    if judge is None:
        _refuse("only a judge of --judge is asked questions", {"--questions": questions})
    if out is not None:
        require_folder(out, "--out")
    _judge(folder, judge, questions or QUESTIONS, out, canaries, seed, dry_run, as_json)


def _refuse(why: str, given: dict[str, object]) -> None:
    """ConfigError for options that would be passed over in silence."""
    if found := [name for name, value in given.items() if value is not None]:
        raise ConfigError("options that do not go together", place=", ".join(found), found=why,
                          remedy="give the one or the other")  # fmt: skip


def _write(folder: Path, count: int, world: Path | None, seed: int, dry_run: bool, as_json: bool) -> None:
    from whale.common.progress import Progress
    from whale.evaluation.judging.fleet_tests import TESTS, imagined_pairs, simulated_pairs
    from whale.evaluation.judging.pairs import Source, write_pairs

    require_folder(folder, "FOLDER")
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError("the folder is not empty", file=folder, remedy="name a new one: pairs of two kinds would mix")
    parts = None if world is None else _learned(world)
    if dry_run:
        _tell(dict.fromkeys(TESTS, count), as_json, "new pairs")
        return
    counts = {}
    model = "simulator with known faults" if parts is None else parts[2]
    source = Source(data=f"fleet_unseen seed {seed}", model=model)
    with Progress(len(TESTS), "tests", "pairs") as progress:
        for test in TESTS:
            made = (
                simulated_pairs(test, count, seed) if parts is None else imagined_pairs(test, count, seed, *parts[:2])
            )
            write_pairs(folder, source, made)
            counts[test] = {"pairs": len(made), "consistent": sum(bool(pair.about.truth) for pair in made)}
            progress.update()
    if as_json:
        print_json({"written": counts})
        return
    print_table(["test", "pairs", "truly consistent"], [[name, *each.values()] for name, each in counts.items()])


def _learned(folder: Path) -> tuple[Any, Any, str]:
    """What imagines a last frame, what gives a camera's frame the form of the world's data, the world's name."""
    import numpy as np

    from whale.evaluation.judging.fleet_tests import ROBOT
    from whale.runtime.workers.process.execution import load_execution
    from whale.trials.episodes.true_values import Form
    from whale.worlds.folder import open_folder
    from whale.worlds.load import load

    found = open_folder(folder)
    if ROBOT.name not in found.contracts:
        raise ConfigError(
            "this world does not know the robot of the three tests", file=folder, found=sorted(found.contracts),
            expected=ROBOT.name, remedy="a model fine-tuned on it, below artifacts/demo/models/finetuned",
        )  # fmt: skip
    world = load(folder, robot=ROBOT.name, device=load_execution().chosen_device())
    form = Form(world.model.tokenizer.config.resolution)

    def imagine(first: np.ndarray, actions: np.ndarray) -> np.ndarray:
        return np.asarray(world.imagine(first[None], actions).frames)[-1]

    return imagine, form.of, world.digests["dynamics"][:16]


def _judge(
    folder: Path, judge: Path | None, asked: Path, out: Path | None, each: int, seed: int, dry_run: bool, as_json: bool
) -> None:
    from whale.common.files import write_atomically
    from whale.common.json_files import write_json
    from whale.common.progress import Progress
    from whale.evaluation.judging.canaries import canaries, mixed
    from whale.evaluation.judging.consistency import consistency_metrics, judge_all, records
    from whale.evaluation.judging.judge import Judge, KnownTruth
    from whale.evaluation.judging.pairs import read_pairs
    from whale.evaluation.judging.questions import Questions

    source, pairs = read_pairs(folder)
    asking: Judge = KnownTruth()
    items, name = pairs, "none"  # the truth is not asked
    if judge is not None:
        questions = Questions.read(asked)
        asking = vision = _vision(judge, questions)
        items, name = mixed([*pairs, *canaries(pairs, each, seed)], seed), f"{questions.name} {questions.digest()[:16]}"
        if dry_run:
            _say_estimate(vision, items, as_json)
            return
    asking.require(items)
    if dry_run:
        _tell({"turns": 0, "usd": 0.0}, as_json)
        return
    with Progress(len(items), "pairs", "consistency") as progress:
        judged = judge_all(asking, items, progress.update)
    metrics = consistency_metrics(judged, asking, source, name)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "report.json", metrics)
        write_atomically(out / "judgements.jsonl", "".join(f"{line}\n" for line in records(judged, asking)).encode())
    if as_json:
        print_json(metrics)
    else:
        _say(metrics)


def _vision(path: Path, questions: "Questions") -> "VisionJudge":
    from whale.common.config import load_yaml
    from whale.evaluation.judging.vision_judge import JudgeConfig, VisionJudge

    return VisionJudge(JudgeConfig.parse(load_yaml(path), file=path), questions, CACHE)


def _say_estimate(judge: "VisionJudge", items: list["Pair"], as_json: bool) -> None:
    found = judge.estimate(items)
    caps = {"max_calls": judge.config.max_calls, "max_usd": judge.config.max_usd}
    num_canaries = sum(pair.canary is not None for pair in items)
    _tell({"pairs": len(items) - num_canaries, "canaries": num_canaries, **asdict(found),
           "calls": found.turns - found.cached, **caps}, as_json)  # fmt: skip


def _tell(values: dict[str, Any], as_json: bool, what: str = "at most") -> None:
    if as_json:
        print_json(values)
    else:
        print_table(["what", what], [[name, f"{value:.6g}"] for name, value in values.items()])


def _say(metrics: dict[str, Any]) -> None:
    rows = []
    for group in sorted(name.removesuffix(".pairs") for name in metrics if name.endswith(".pairs")):
        if group.endswith(".truth"):
            continue
        rate = "consistency" if f"{group}.consistency" in metrics else "consistency_unjudged"
        names = [rate, f"{rate}.low", f"{rate}.high", "invalid", "truth.consistency", "truth.accuracy", "truth.kappa"]
        found = [metrics.get(f"{group}.{name}") for name in names]
        cells = ["-" if each is None else f"{each:.3g}" for each in found]
        rows.append([group, metrics[f"{group}.pairs"], *cells])
    print_table(["task", "pairs", "rate", "low", "high", "invalid", "truth", "accuracy", "kappa"], rows)
    print(f"{metrics['status']}; canaries: {metrics['canaries.right']} of {metrics['canaries.asked']}")
    print(metrics["protocol"])
