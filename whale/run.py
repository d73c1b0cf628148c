"""`python -m whale.run STAGE`: one stage inside its guard, as dvc.yaml starts it; --name PATH ... where it is by hand.

pipelines/<stage>.py has `Args` (what it reads, and which values decide its result) and `run(args, run)`. Around them
stands the guard: inputs are proven, one writer holds the output, what was made is sealed, signed and published, and the
ledger says so. None of that is code of the stage, so no edit of it makes a stage run again.

dvc.yaml says `python -m whale.run STAGE` and no more: DVC gives a command to a shell, so no value may stand in it. The
item comes from DVC_STAGE, paths from dvc.yaml; a value of params.yaml that is no name ends here, before anything runs.
"""

import hashlib
import importlib
import os
import pkgutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

STAGES = "pipelines"
CHECK = "--check-values"
VALUES = ("params.yaml", "dvc.yaml", "data_specs")
USAGE = "usage: python -m whale.run STAGE[@ITEM] [--name PATH ...]   (STAGE --help names its paths), or --check-values"


def main(argv: Sequence[str]) -> None:
    """A stage as a process of its own: what it opens is heard, and errors end in one message and an exit code.

    The guard is imported here: worker processes import this module again, and need nothing of it.
    """
    from whale.common import printable
    from whale.guard import failure
    from whale.runtime.workers.process import environment, worker

    printable.install()
    failure.install()  # an error before the guard (a wrong key in params.yaml) ends like one inside it
    environment.apply()
    if list(argv) == [CHECK]:
        check_values()
        return
    _require_values()
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
    values, grace = args.deciding_values(), args.grace_seconds
    with stage(name, given, values, grace_seconds=grace, code=code, unread=args.unread) as run:
        module.run(args, run)
    if args.is_last:
        print(f"{name}: {given.out}", flush=True)
        _bring_tracking_up_to_date()


def _bring_tracking_up_to_date() -> None:
    """The output is published and signed: whatever MLflow says, the stage has ended well."""
    from whale.guard.experiment import home
    from whale.tracking.mlflow_store import replay_all

    try:
        replay_all(home())
    except Exception as error:
        remedy = "`whale track sync` tries again, and says where"
        print(f"warning: MLflow is not up to date: {type(error).__name__}: {error}; {remedy}", file=sys.stderr)


def check_values() -> None:
    """Load what every stage of dvc.yaml would load; ConfigError names all that is wrong, stage by stage."""
    from whale.common.config import load_sections
    from whale.common.errors import ConfigError
    from whale.pipeline_file import expand

    wrong: dict[str, list[str]] = {}
    for node in expand(load_sections(Path("dvc.yaml")), load_sections(Path("params.yaml"))):
        if node.stage in _known():
            kind = _module([node.stage])[1].Args
            try:
                kind.load(node.item, **{name: Path(name) for name in kind.inputs()})
            except ConfigError as error:
                wrong.setdefault(str(error), []).append(node.name)
    if wrong:
        lines = [f"{', '.join(names)}: {text}" for text, names in wrong.items()]
        raise ConfigError("a later stage would refuse its values", file="params.yaml", found="\n".join(lines),
                          remedy="correct them now: nothing has run yet")  # fmt: skip


def _require_values() -> None:
    """Before the first stage of `dvc repro` after an edit: every section, in a process of its own, which imports all.

    Raises SystemExit(64) when a stage's values are wrong; that process has said which.
    """
    from whale.common.files import write_atomically
    from whale.runtime.workers.process.environment import STATE_DIR

    if "DVC_STAGE" not in os.environ or not all(Path(name).is_file() for name in VALUES[:2]):
        return
    memory, digest = STATE_DIR / "values-checked", _values_digest()
    if memory.is_file() and memory.read_text() == digest:
        return
    ended = subprocess.run([sys.executable, "-m", "whale.run", CHECK], stdin=subprocess.DEVNULL, check=False)
    if ended.returncode:
        raise SystemExit(ended.returncode)
    write_atomically(memory, digest.encode(), lasts=False)


def _values_digest() -> str:
    """Of the values and of the code that reads them, the latter by size and time of each file."""
    digest = hashlib.sha256()
    for path in [Path(VALUES[0]), Path(VALUES[1]), *sorted(Path(VALUES[2]).glob("*.yaml"))]:
        digest.update(f"{path} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    for folder in (Path(__file__).parent, Path(__file__).parents[1] / STAGES):
        for path in sorted(folder.rglob("*.py")):
            about = path.stat()
            digest.update(f"{path} {about.st_size} {about.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _known() -> list[str]:
    return sorted(each.name for each in pkgutil.iter_modules(importlib.import_module(STAGES).__path__))


def _as_dvc_says(argv: Sequence[str]) -> list[str]:
    """A command line with every path: as given, or as dvc.yaml has them for this stage and item.

    `stage 7 of 30` is said where DVC runs the whole; it says the name itself.
    """
    from whale.common.errors import ConfigError
    from whale.pipeline_file import description, nodes_of, position

    description(Path.cwd(), argv[0].partition("@")[0] if argv else "")
    nodes = nodes_of(Path.cwd())  # each command looks at every name
    of_dvc = os.environ.get("DVC_STAGE", "").rpartition(":")[2]  # DVC says ../dvc.yaml:NAME from a folder below
    if found := position(of_dvc, nodes):
        print(f"stage {found[0]} of {found[1]}", file=sys.stderr, flush=True)
    if not argv or any(word.startswith("-") and word != "--item" for word in argv):
        return list(argv)
    name, _, item = argv[0].partition("@")
    wanted = of_dvc if of_dvc.partition("@")[0] == name else ""
    wanted = f"{name}@{item or argv[2]}" if item or (argv[1:2] == ["--item"] and len(argv) == 3) else wanted or name
    known = {node.name: node for node in nodes}
    if wanted in known:
        return list(known[wanted].arguments)
    if items := [each for each in known if each.startswith(f"{name}@")]:
        raise ConfigError("which item?", file="dvc.yaml", found=wanted, expected=", ".join(items))
    return list(argv)


def _module(argv: Sequence[str]) -> tuple[str, ModuleType]:
    name = argv[0] if argv else ""
    known = _known()
    if name in ("-h", "--help"):
        print(f"{USAGE}\nstages: {', '.join(known)}")
        raise SystemExit(0)
    if name not in known:
        print(f"error: no such stage\n  found:    {name}\n  expected: {', '.join(known)}\n{USAGE}", file=sys.stderr)
        raise SystemExit(64)
    return name, importlib.import_module(f"{STAGES}.{name}")


if __name__ == "__main__":
    main(sys.argv[1:])
