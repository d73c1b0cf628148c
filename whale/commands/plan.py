"""`whale plan`: what `dvc repro` would run, and why."""

import json
import subprocess
import sys
from typing import Any

from whale.commands.output import AsJson, print_json, print_table
from whale.errors import WhaleError

EXAMPLE = "Example: whale plan"


def plan(as_json: AsJson = False) -> None:
    """Stages that are out of date for the active profile, each with its reason."""
    reasons = stale_stages()
    if as_json:
        print_json({"stages": reasons})
    elif reasons:
        print_table(["stage", "why"], [[name, "; ".join(why)] for name, why in reasons.items()])
    else:
        print("nothing: every stage is up to date")


def stale_stages() -> dict[str, list[str]]:
    """{stage: reasons} by `dvc status`."""
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise WhaleError("dvc status failed", found=done.stderr.strip().splitlines()[-1:] or "no message")
    return {name: _reasons(changes) for name, changes in json.loads(done.stdout or "{}").items()}


def _reasons(changes: list[Any]) -> list[str]:
    """Short ones: a stage without an output was never run; code is counted, everything else is named."""
    outs, deps = _paths(changes, "changed outs"), _paths(changes, "changed deps")
    if outs and all(how == "deleted" for how in outs.values()):
        return ["not made yet"]
    code = [path for path in deps if path.endswith(".py")]
    reasons = [str(change) for change in changes if isinstance(change, str)]  # "changed command"
    reasons += [f"{path}: {_how(how)}" for path, how in {**deps, **outs}.items() if path not in code]
    if code:
        reasons.append(f"code: {code[0]}" + (f" and {len(code) - 1} more" if len(code) > 1 else ""))
    return reasons


def _paths(changes: list[Any], kind: str) -> dict[str, Any]:
    return {path: how for change in changes if isinstance(change, dict) for path, how in change.get(kind, {}).items()}


def _how(how: Any) -> str:
    return how if isinstance(how, str) else ", ".join(f"{name} {what}" for name, what in how.items())
