"""`whale doctor`: is this machine ready, and are its switches safe?"""

import os
import platform
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from whale.commands.output import AsJson, print_json, print_table
from whale.commands.project.init import site_cache
from whale.common.errors import MissingInputError
from whale.guard import machine
from whale.runtime.workers.process import environment
from whale.sim.metaworld.simulator.opengl import drawn_by

EXAMPLE = "Example: whale doctor, whale doctor --security"
MIN_FREE_GB = 10.0


def doctor(
    as_json: AsJson = False,
    security: Annotated[bool, typer.Option("--security", help="Switches, modes, links, commands, secrets.")] = False,
) -> None:
    """Check versions, disk and settings. Exit code 1 when something needs attention; what is optional needs none.

    --security looks, offline, at what docs/security.md lists, and at nothing else.
    """
    if security:
        from whale.commands.project.security_checks import security_checks

        checks = security_checks()
        facts: dict[str, Any] = {}
    else:
        checks, facts = _machine()
    if as_json:
        print_json({"checks": [dict(zip(("check", "state", "found"), row, strict=True)) for row in checks], **facts})
    else:
        print_table(["check", "state", "found"], checks)
        if packages := facts.get("packages"):
            print("packages: " + ", ".join(f"{name} {version}" for name, version in sorted(dict(packages).items())))
    raise typer.Exit(0 if all(state in ("ok", "optional") for _, state, _ in checks) else 1)


def _machine() -> tuple[list[tuple[str, str, str]], dict[str, Any]]:
    environment.apply()
    is_tested = sys.version_info[:2] == (3, 11)
    checks = [("python 3.11", "ok" if is_tested else "wrong", platform.python_version()), _disk(), _link_type()]
    checks += [_private(Path(os.environ["RAY_AUTH_TOKEN_PATH"]), 0o600), _private(site_cache(), 0o700), _metaworld()]
    return checks, dict(machine.describe())


def _disk() -> tuple[str, str, str]:
    free = shutil.disk_usage(".").free / 1e9
    return f"free disk >= {MIN_FREE_GB:.0f} GB", "ok" if free >= MIN_FREE_GB else "low", f"{free:.1f} GB"


def _link_type() -> tuple[str, str, str]:
    """Exactly `hardlink`: a list that starts with reflink leaves full copies on ext4."""
    command = [sys.executable, "-m", "dvc", "config", "cache.type"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return "dvc cache.type", "ok" if found == "hardlink" else "wrong", found or "not set"


def _metaworld() -> tuple[str, str, str]:
    """Its profiles need packages and an OpenGL that no other profile does."""
    try:
        drawn = drawn_by()
    except MissingInputError as error:
        return "Meta-World", "optional", f"{error.what}: {error.remedy}"
    return "Meta-World", "ok", f"{drawn['metaworld']}, drawn by {drawn['gl_version']}"


def _private(path: Path, mode: int) -> tuple[str, str, str]:
    """Owned by this user, with this mode."""
    name = f"{path.name} is private"
    if not path.exists():
        return name, "missing", "run `whale init`"
    found = path.stat()
    is_private = found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) == mode
    return name, "ok" if is_private else "open", oct(stat.S_IMODE(found.st_mode))
