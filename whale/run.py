"""`python -m whale.run STAGE`: one stage inside its guard, as dvc.yaml starts it; --name PATH ... where it is by hand.

pipelines/<stage>.py has `Args` (what it reads, and which values decide its result) and `run(args, run)`. Around them
stands the guard: inputs are proven, one writer holds the output, what was made is sealed, signed and published, and the
ledger says so. None of that is code of the stage, so no edit of it makes a stage run again.

dvc.yaml says `python -m whale.run STAGE` and no more: DVC gives a command to a shell, so no value may stand in it. The
item comes from DVC_STAGE, paths from dvc.yaml; a value of params.yaml that is no name ends here, before anything runs.
"""

import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

STAGES = "pipelines"
USAGE = "usage: python -m whale.run STAGE[@ITEM] [--name PATH ...]   (STAGE --help names its paths)"


def main(argv: Sequence[str]) -> None:
    """A stage as a process of its own: what it opens is heard, and errors end in one message and an exit code.

    The guard is imported here: worker processes import this module again, and need nothing of it.
    """
    from whale.common import printable
    from whale.guard import failure
    from whale.runtime.workers import environment, worker

    printable.install()
    failure.install()  # an error before the guard (a wrong key in params.yaml) ends like one inside it
    environment.apply()
    argv = _as_dvc_says(argv)  # before anybody listens: dvc.yaml is no input
    sys.argv[1:] = argv  # the record says how to start it again, wherever it is started
    worker.listen()
    run_stage(argv)


def run_stage(argv: Sequence[str]) -> None:
    """The stage that the first word of `argv` names, with the rest as its arguments.

    Raises SystemExit(64) when there is no such stage.
    """
    from whale.common.stage_args import parse
    from whale.guard.stage import stage

    name, module = _module(argv)
    given = parse(module.Args, argv[1:], f"python -m whale.run {name}", module.__doc__)
    args = module.Args.load(given.item, **{each: getattr(given, each) for each in module.Args.inputs()})
    code = Path(str(module.__file__))
    _require_inside(given.out, given.metrics)
    with stage(name, given, args.deciding_values(), grace_seconds=args.grace_seconds, code=code) as run:
        module.run(args, run)
    if args.is_last:
        print(f"{name}: {given.out}", flush=True)
        from whale.tracking.mlflow_store import replay_all

        replay_all()


def _as_dvc_says(argv: Sequence[str]) -> list[str]:
    """A command line with every path: as given, or as dvc.yaml has them for this stage and item.

    `stage 7 of 30` is said where DVC runs the whole; it says the name itself.
    """
    from whale.common.errors import ConfigError
    from whale.pipeline_file import nodes_of, position

    nodes = nodes_of(Path.cwd())  # each command looks at every name
    if found := position(os.environ.get("DVC_STAGE", ""), nodes):
        print(f"stage {found[0]} of {found[1]}", file=sys.stderr, flush=True)
    if not argv or any(word.startswith("-") and word != "--item" for word in argv):
        return list(argv)
    name, _, item = argv[0].partition("@")
    of_dvc = os.environ.get("DVC_STAGE", "").rpartition(":")[2]  # DVC says ../dvc.yaml:NAME from a folder below
    wanted = of_dvc if of_dvc.partition("@")[0] == name else ""
    wanted = f"{name}@{item or argv[2]}" if item or (argv[1:2] == ["--item"] and len(argv) == 3) else wanted or name
    known = {node.name: node for node in nodes}
    if wanted in known:
        return list(known[wanted].arguments)
    if items := [each for each in known if each.startswith(f"{name}@")]:
        raise ConfigError("which item?", file="dvc.yaml", found=wanted, expected=", ".join(items))
    return list(argv)


def _require_inside(*outputs: Path | None) -> None:
    """A relative output lies in the project: through a link above it, a stage would write and delete elsewhere."""
    from whale.common.errors import RefusedError

    root = Path.cwd().resolve()
    for path in outputs:
        if path is None or path.is_absolute():
            continue
        links = [each for each in (path, *path.parents) if each.is_symlink()]
        if links or not path.resolve().is_relative_to(root):
            raise RefusedError(
                "an output outside the project", file=path, place=f"{links[-1]} is a link" if links else None,
                found=path.resolve(), expected=f"a folder below {root}",
                remedy="remove the link; `dvc cache dir` moves what takes the space to another disk",
            )  # fmt: skip


def _module(argv: Sequence[str]) -> tuple[str, ModuleType]:
    name = argv[0] if argv else ""
    known = sorted(each.name for each in pkgutil.iter_modules(importlib.import_module(STAGES).__path__))
    if name in ("-h", "--help"):
        print(f"{USAGE}\nstages: {', '.join(known)}")
        raise SystemExit(0)
    if name not in known:
        print(f"error: no such stage\n  found:    {name}\n  expected: {', '.join(known)}\n{USAGE}", file=sys.stderr)
        raise SystemExit(64)
    return name, importlib.import_module(f"{STAGES}.{name}")


if __name__ == "__main__":
    main(sys.argv[1:])
