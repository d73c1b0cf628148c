"""`whale play`: a world model as a page, driven by keys or a gamepad."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whale.commands.output import AsJson, print_json
from whale.common.errors import MissingInputError
from whale.common.files import WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from whale.play.drives import Drives
    from whale.policies.protocol import Contender
    from whale.worlds.world import World

EXAMPLE = "Example: whale play artifacts/demo/models/finetuned/dynamics/full"
OWN = ("models/finetuned/dynamics/full", "models/dynamics/full")  # of artifacts/<profile>, the first that is there
SHIPPED = Path("worlds")  # bundles that came with the project
STARTS = 16  # recorded beginnings a dataset, where the world is no bundle
Folder = Annotated[
    Path | None, typer.Argument(help="A bundle, or a dynamics folder. [default: your newest, else one of worlds/]")
]
Policies = Annotated[
    list[str] | None, typer.Option("--policy", help="One more that may drive: [NAME=]ws://HOST:PORT, on this machine.")
]


def play(
    world: Folder = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: a free one.")] = 0,
    policy: Policies = None,
    as_json: AsJson = False,
) -> None:
    """Drive a world model in your browser. Keys, a gamepad or a policy act; recorded frames stand beside.

    Only this machine is answered, and only with the token in the printed address. Ctrl-C ends it.
    """
    folder = chosen_world() if world is None else world
    drives = drives_of(folder, policy or [])
    # Starlette and uvicorn are imported here: no other command pays for them.
    from whale.play.server import Server

    server = Server(drives, port)
    if as_json:
        print_json({"url": server.url, "world": str(folder)})
    else:
        print(f"{folder}\nopen {server.url}\n(only on this machine; Ctrl-C ends it)", flush=True)
    server.run()


def chosen_world() -> Path:
    """The newest that was trained here, else the first that came with the project. MissingInputError: there is none."""
    for each in OWN:
        own = [path for path in Path("artifacts").glob(f"*/{each}/{WEIGHTS}")]
        if own:
            return max(own, key=lambda path: (path.stat().st_mtime, path)).parent
    shipped = sorted(SHIPPED.glob("*/world.json"))
    if shipped:
        return shipped[0].parent
    raise MissingInputError(
        "no world model to play with", file="artifacts/*/models/dynamics/full", expected="a trained world, or a bundle",
        remedy="`make demo` trains one (about 12 minutes on two cores); or name a bundle: whale play FOLDER",
    )  # fmt: skip


def drives_of(folder: Path, policies: list[str]) -> "Drives":
    """All robots of the world in `folder`; one is loaded when it is asked for, its bytes proven then."""
    from whale.audit.exports.world_bundle.recorded_starts import starts_beside
    from whale.play.drives import Drives
    from whale.play.messages import KEYS, RECORDED
    from whale.runtime.workers.process.execution import load_execution
    from whale.trials.contenders import OWN as BEHAVIOR
    from whale.trials.contenders import contenders_of
    from whale.worlds.folder import open_folder
    from whale.worlds.load import load

    found = open_folder(folder, verify=False)  # to see which robots there are; `load` proves what is shown of one
    beside = {} if found.starts is not None else starts_beside(found, STARTS, seen=True)
    kept = sorted(beside) if found.starts is None else sorted(path.stem for path in found.starts.glob("*.npz"))
    datasets = [name for name in kept if name in found.contracts]
    if not datasets:
        raise MissingInputError(
            "nothing to begin with: no recorded first frames", file=folder, expected="starts/ in a bundle, or shards",
            remedy="keep artifacts/<profile>/data beside the models, or export the bundle where they are",
        )  # fmt: skip
    device = load_execution().chosen_device()

    def open_world(dataset: str) -> "tuple[World, Mapping[str, Contender]]":
        # What only looks wrong is said on the page: whoever plays pushes harder, or less, than who demonstrated.
        world = load(folder, dataset, device=device, checking="off")
        world.starts = world.starts or beside[dataset]
        own = list(BEHAVIOR) if world.model.behavior is not None else []
        may_drive = contenders_of([*own, *policies], world, reserved=(KEYS, RECORDED))
        return world, {each.name: each for each in may_drive}

    drives = Drives(str(folder), datasets, open_world)
    drives.about()  # what is wrong with it is said now, not on the page
    return drives
