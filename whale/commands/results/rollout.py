"""`whale rollout`: watch a checkpoint imagine one episode, with its own actions or with scaled ones."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from whale.commands.output import AsJson, print_json, print_table, require_folder

if TYPE_CHECKING:
    from whale.evaluation.by_hand.imagine_episode import ImaginedEpisode

EXAMPLE = (
    "Example: whale rollout artifacts/demo/models/dynamics/full --episode fleet_delta/test/0 "
    "--scale-actions 0.8 --scale-actions 1.0 --scale-actions 1.2 --out rollout.gif"
)
Checkpoint = Annotated[Path, typer.Argument(help="A dynamics model: <models>/dynamics/<name>.")]
Episode = Annotated[str, typer.Option("--episode", help="DATASET/SPLIT/NUMBER, numbers from 0.")]
Data = Annotated[Path | None, typer.Option("--data", help="Folder with shards/ and tokens/; else beside the models.")]
Scale = Annotated[
    list[float] | None,
    typer.Option("--scale-actions", help="Factor on pose actions, beside 1; repeat it."),
]
Out = Annotated[Path | None, typer.Option("--out", help="Write a GIF: recorded, then one column per factor.")]
Context = Annotated[int, typer.Option("--context", min=1, help="Recorded frames that the model is given.")]
Horizon = Annotated[int | None, typer.Option("--horizon", min=1, help="Imagined frames; else to the episode's end.")]
Temperature = Annotated[float, typer.Option("--temperature", min=0.0, help="0: the most likely tokens.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Random seed for sampling.")]
Z = Annotated[Literal["prior", "frozen", "off"], typer.Option("--z", help="Behavior embedding of imagined steps.")]


def rollout(
    checkpoint: Checkpoint, episode: Episode, data: Data = None, scale_actions: Scale = None, out: Out = None,
    context: Context = 1, horizon: Horizon = None, temperature: Temperature = 0.0, seed: Seed = 0, z: Z = "prior",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Imagine one episode with a checkpoint. PSNR by step against what was recorded, for the recorded actions."""
    # PyTorch is imported here: no other command pays for it.
    from whale.evaluation.by_hand.imagine_episode import EpisodeAddress, Options, imagine_episode
    from whale.runtime.workers.process.execution import load_execution

    if out is not None:
        require_folder(out.parent, "--out")
    factors = [*(scale_actions or []), 1.0]  # 1: the recorded actions, to compare with
    options = Options(context, horizon, tuple(sorted(set(factors))), temperature, seed, z)
    address, device = EpisodeAddress.parse(episode), load_execution().chosen_device()
    found = imagine_episode(checkpoint, data, address, options, device)
    if out is not None:
        _write(found, out)
    _print(found, out, as_json)


def _write(found: "ImaginedEpisode", out: Path) -> None:
    from whale.common.files import write_atomically
    from whale.reporting.video_section import controlled_gif

    payload, _ = controlled_gif(found.recorded, list(found.imagined.values()), scale=2)
    write_atomically(out, payload)


def _print(found: "ImaginedEpisode", out: Path | None, as_json: bool) -> None:
    from whale.evaluation.measuring.rollouts.fidelity import copy_last, psnr

    horizon = len(next(iter(found.imagined.values())))
    given, truth = found.recorded[:-horizon], found.recorded[-horizon:]
    columns = {"copy last": psnr(truth, copy_last(given[None, -1:], horizon)[0])}
    columns |= {f"x{factor:g}": psnr(truth, frames) for factor, frames in found.imagined.items()}
    if as_json:
        scores = {name: [round(float(value), 4) for value in values] for name, values in columns.items()}
        print_json({"episode": found.key, "psnr": scores, "out": None if out is None else str(out)})
        return
    rows = [[str(step + 1), *(f"{values[step]:.2f}" for values in columns.values())] for step in range(horizon)]
    print(f"{found.key}: PSNR in dB against the recorded frames (scaled actions: how far they lead away)")
    print_table(["step", *columns], rows)
    if out is not None:
        print(f"recorded, {', '.join(f'x{factor:g}' for factor in found.imagined)}: {out}")
