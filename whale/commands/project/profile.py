"""`whale profile`: complete parameter sets in profiles/; params.yaml is the active one."""

from pathlib import Path
from typing import Any

import typer

from whale.commands.output import AsJson, print_json, print_table
from whale.commands.project import plan
from whale.commands.project.timings import active_profile
from whale.common.errors import ConfigError, nearest
from whale.common.files import write_atomically
from whale.common.json_files import changed, flatten

PROFILES, PARAMS = Path("profiles"), Path("params.yaml")

app = typer.Typer(no_args_is_help=True, help="Choose a complete set of parameters.")


@app.command("list", epilog="Example: whale profile list")
def list_profiles(as_json: AsJson = False) -> None:
    """List the profiles. The active one is marked."""
    active = active_profile()
    names = sorted(path.stem for path in PROFILES.glob("*.yaml"))
    if as_json:
        print_json({"active": active, "profiles": names})
        return
    for name in names:
        state = "" if name != active else "  (active)" if not _changes(name) else "  (active, edited)"
        print(f"{name}{state}")


@app.command("use", epilog="Example: whale profile use demo")
def use(name: str, force: bool = typer.Option(False, help="Overwrite hand-made edits of params.yaml.")) -> None:
    """Make a profile the active one. Says what would run, what it would cost, and which data are missing."""
    path = profile_path(name)
    active = active_profile()
    if active is not None and not force and (PROFILES / f"{active}.yaml").is_file() and _changes(active):
        remedy = f"`whale profile diff {active}` shows them; --force overwrites them"
        raise ConfigError("params.yaml holds edits that no profile has", file=PARAMS, remedy=remedy)
    changes = _changes(name)
    write_atomically(PARAMS, path.read_bytes())
    print(
        f"params.yaml is now profiles/{name}.yaml: {len(changes)} values changed. `whale plan` shows all that follows."
    )
    if Path("dvc.yaml").is_file():
        made = plan.make_plan()
        print("\n".join(plan.summary(made)))
        print("\n".join(plan.blocked(made)), end="\n" * bool(plan.blocked(made)))


@app.command("diff", epilog="Example: whale profile diff demo")
def diff(name: str, as_json: AsJson = False) -> None:
    """Compare a profile with params.yaml. Exit code 1 if they differ."""
    profile_path(name)
    changes = _changes(name)
    if as_json:
        print_json({key: {"params": old, "profile": new} for key, (old, new) in changes.items()})
    elif changes:
        rows = [
            [key, *("(absent)" if value is None else str(value) for value in pair)] for key, pair in changes.items()
        ]
        print_table(["value", "params.yaml", name], rows)
    raise typer.Exit(1 if changes else 0)


def profile_path(name: str) -> Path:
    """The file of a profile; ConfigError names those there are."""
    path = PROFILES / f"{name}.yaml"
    if "/" in name or not path.is_file():
        known = sorted(each.stem for each in PROFILES.glob("*.yaml"))
        raise ConfigError("no such profile", file=path, found=name, expected=nearest(name, known))
    return path


def _changes(name: str) -> dict[str, list[Any]]:
    """{dotted name: [value in params.yaml, value in the profile]} where they differ."""
    from whale.common.config import load_sections

    old = flatten(load_sections(PARAMS)) if PARAMS.is_file() else {}
    new = flatten(load_sections(PROFILES / f"{name}.yaml"))
    return changed(old, new)
