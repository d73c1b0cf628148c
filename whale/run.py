"""`python -m whale.run STAGE --name PATH ...`: one stage inside its guard, as dvc.yaml starts it.

pipelines/<stage>.py has `Args` (what it reads, and which values decide its result) and `run(args, run)`. Around them
stands the guard: inputs are proven, one writer holds the output, what was made is sealed, signed and published, and the
ledger says so. None of that is code of the stage, so no edit of it makes a stage run again.
"""

import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

STAGES = "pipelines"
USAGE = "usage: python -m whale.run STAGE --name PATH ...   (STAGE --help names its paths)"


def main(argv: Sequence[str]) -> None:
    """A stage as a process of its own: what it opens is heard, and errors end in one message and an exit code.

    The guard is imported here: worker processes import this module again, and need nothing of it.
    """
    from whale.guard import failure
    from whale.runtime.workers import environment, worker

    failure.install()  # an error before the guard (a wrong key in params.yaml) ends like one inside it
    environment.apply()
    _say_position()  # before anybody listens: dvc.yaml is no input
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
    values, grace = args.deciding_values(), args.grace_seconds
    with stage(name, given, values, grace_seconds=grace, code=code, unread=args.unread) as run:
        module.run(args, run)
    if args.is_last:
        print(f"{name}: {given.out}", flush=True)
        from whale.tracking.mlflow_store import replay_all

        replay_all()


def _say_position() -> None:
    """`stage 7 of 30`, where DVC runs the whole; it says the name itself."""
    if name := os.environ.get("DVC_STAGE"):
        from whale.pipeline_file import position

        if found := position(name, Path.cwd()):
            print(f"stage {found[0]} of {found[1]}", file=sys.stderr, flush=True)


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
