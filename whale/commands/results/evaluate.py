"""`whale evaluate`: generated videos scored by the same protocol as ours, or judged for consistency."""

from pathlib import Path
from typing import Annotated, Any

import typer

from whale.commands.output import AsJson, group, print_json, print_table, require_folder
from whale.commands.project.timings import active_profile
from whale.commands.results import consistency
from whale.common.errors import ConfigError
from whale.common.json_files import read_json

EXAMPLE = "Example: whale evaluate video --tasks work/tasks; whale evaluate video --frames work/answers"
Frames = Annotated[Path | None, typer.Option("--frames", help="Answers: DIR/<set>/<window>/frames.npy, uint8.")]
Tasks = Annotated[Path | None, typer.Option("--tasks", help="Write here what a system has to answer.")]

app = group("Evaluate what other systems generated.")
app.command("consistency", epilog=consistency.EXAMPLE)(consistency.consistency)


@app.command("video", epilog=EXAMPLE)
def video(frames: Frames = None, tasks: Tasks = None, as_json: AsJson = False) -> None:
    """Score generated videos beside ours. With weights also by LPIPS, percep-efflite0, FVD; protocols must be equal."""
    if (frames is None) == (tasks is None):
        raise ConfigError("one of --frames and --tasks", found="both" if frames else "neither", expected="exactly one")
    if tasks is not None:
        require_folder(tasks, "--tasks")
        _write(tasks, as_json)
    elif frames is not None:
        _score(frames, as_json)


def _artifacts() -> Path:
    return Path("artifacts") / (active_profile() or "demo")


def _write(directory: Path, as_json: bool) -> None:
    # PyTorch is imported here: no other command pays for it.
    from whale.evaluation.by_hand.external_video import rollout_sets, write_tasks
    from whale.evaluation.video.video import EvaluateVideoConfig

    config = EvaluateVideoConfig.load("evaluate_video")
    counts = {name: write_tasks(directory, name, windows) for name, _, _, windows in rollout_sets(_artifacts(), config)}
    if as_json:
        print_json({"tasks": counts, "horizon": max(config.horizons)})
        return
    print_table(["set", "windows"], list(counts.items()))
    print(f"answer each with frames.npy, uint8 [{max(config.horizons)}, R, R, 3], in a folder of the same name")


def _score(directory: Path, as_json: bool) -> None:
    from whale.evaluation.by_hand.external_video import score_frames
    from whale.evaluation.numbers.metrics import written
    from whale.evaluation.video.perceptual import load_feature_networks
    from whale.evaluation.video.video import EvaluateVideoConfig
    from whale.runtime.workers.process.execution import load_execution

    config = EvaluateVideoConfig.load("evaluate_video")
    device = load_execution().chosen_device()
    networks = load_feature_networks(config.lpips, config.i3d, config.percep_efflite0, device)
    metrics = written(score_frames(_artifacts(), directory, networks, config))
    ours = _ours(_artifacts() / "metrics" / "evaluate_video.json", metrics)
    if as_json:
        print_json({"external": metrics, "ours": ours})
        return
    rows = []
    for name in (key.removesuffix(".protocol") for key in metrics if key.endswith(".protocol")):
        for horizon in config.horizons:
            rows += [_row(name, f"h{horizon}.{metric}", metrics, ours) for metric in ("psnr", "ssim")]
        rows += [_row(name, metric, metrics, ours) for metric in ("lpips", "percep_efflite0", "fvd")]
    print_table(["set", "metric", "external", "ours", "copy last"], rows)


def _ours(path: Path, metrics: dict[str, Any]) -> dict[str, Any]:
    """The full model's numbers for the sets that were answered; ConfigError if they were measured differently."""
    from whale.evaluation.numbers.protocol import require_comparable

    if not path.is_file():
        return {}
    found = read_json(path)
    ours: dict[str, Any] = {}
    for key in [key for key in metrics if key.endswith(".protocol")]:
        group = key.removesuffix(".protocol")
        prefix = f"{group}.dynamics.full.rollout."
        if f"{prefix}protocol" in found:
            require_comparable(found[f"{prefix}protocol"], metrics[key])
            ours |= {f"{group}.{name[len(prefix) :]}": found[name] for name in found if name.startswith(prefix)}
    return ours


def _row(group: str, metric: str, metrics: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    name = f"{group}.{metric}"
    cells = (metrics.get(name), ours.get(name), metrics.get(f"{name}_copy_last"))
    return [group, metric, *("-" if value is None else f"{value:.4g}" for value in cells)]
