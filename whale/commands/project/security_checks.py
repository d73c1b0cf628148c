"""What `whale doctor --security` looks at: switches, modes, links, commands, secrets. Static and offline."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from whale.commands.project.init import site_cache
from whale.common.config import load_sections
from whale.common.errors import RefusedError, WhaleError
from whale.common.printable import PASSWORD
from whale.guard.publish import require_contained
from whale.lineage.keys import config_dir
from whale.pipeline_file import PIPELINE, nodes_of, stage_bodies

Row = tuple[str, str, str]
# Unset, or one of these words.
UNSAFE_SWITCHES = (
    "RAY_DATA_AUTOLOAD_CLOUDPICKLE_TENSOR_METADATA",
    "RAY_DATA_WEBDATASET_ALLOW_UNSAFE_DESERIALIZATION",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION",
)
OFF = ("", "0", "false", "no")
COMMAND = re.compile(r"python -m whale\.run [a-z_]+")
SECRET = re.compile(r"(?i)(sk-[a-z0-9_-]{16,}|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{20,}|hf_[A-Za-z0-9]{20,}|"
                    r"-----BEGIN [A-Z ]*PRIVATE KEY|(password|secret|token|api_key)\s*[:=]\s*\S{6,})")  # fmt: skip
WITHOUT_SECRETS = ("params.yaml", "local.yaml", "dvc.yaml", ".dvc/config", ".dvc/config.local")


def security_checks() -> list[Row]:
    """(check, state, found); state is ok or what is wrong."""
    return [*_switches(), *_commands(), _names(), _links(), *_private(), *_secrets()]


def _switches() -> Iterator[Row]:
    for name in UNSAFE_SWITCHES:
        value = os.environ.get(name, "")
        yield f"{name} is off", "ok" if value.lower() in OFF else "wrong", value or "not set"


def _commands() -> Iterator[Row]:
    """DVC gives each command to a shell, its templates filled in."""
    try:
        bodies = stage_bodies(PIPELINE) if PIPELINE.is_file() else {}
    except WhaleError as error:
        yield "commands of dvc.yaml", "wrong", error.what
        return
    odd = [name for name, body in bodies.items() if not COMMAND.fullmatch(str(body.get("cmd")).strip())]
    yield "no value in a command", "wrong" if odd else "ok", ", ".join(odd[:5]) or f"{len(bodies)} stages"


def _names() -> Row:
    try:
        nodes = nodes_of(Path())
        load_sections("params.yaml")
    except WhaleError as error:
        return "names in params.yaml", "wrong", f"{error.what}: {error.place or ''} {error.found or ''}"
    return "names in params.yaml", "ok", f"{len(nodes)} nodes"


def _links() -> Row:
    """Through a link on the way to an output, DVC and stages would write elsewhere."""
    try:
        made = [Path(path) for node in nodes_of(Path()) for path in node.makes]
    except WhaleError:
        return "no link on the way to an output", "wrong", "params.yaml cannot be read"
    odd = sorted({str(path) for path in made if path.is_absolute() or _is_refused(path)})
    return "no link on the way to an output", "wrong" if odd else "ok", ", ".join(odd[:5]) or f"{len(made)} outputs"


def _is_refused(output: Path) -> bool:
    """As the stage that makes it would."""
    try:
        require_contained(output)
    except RefusedError:
        return True
    return False


def _private() -> Iterator[Row]:
    """What others must not read: the private keys, the site cache of DVC (it holds pickles), the Ray token."""
    whole = (site_cache(), config_dir())
    for path in (Path(".whale"), *whole):
        if not path.exists():
            continue
        files = [each for each in (path, *path.rglob("*")) if each.name.endswith((".key", ".pem", "token"))]
        open_ = [each for each in [*files, *([path] if path in whole else [])]
                 if stat.S_IMODE(each.stat().st_mode) & 0o077 or each.stat().st_uid != os.getuid()]  # fmt: skip
        yield f"{path} is private", "open" if open_ else "ok", ", ".join(map(str, open_[:5])) or f"{len(files)} secrets"


def _secrets() -> Iterator[Row]:
    """Where git or the record of a run would keep them; never shown."""
    for name in WITHOUT_SECRETS:
        path = Path(name)
        if not path.is_file():
            continue
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        places = [str(number) for number, line in enumerate(lines, 1) if SECRET.search(line) or PASSWORD.search(line)]
        yield f"no secret in {name}", "wrong" if places else "ok", f"line {', '.join(places)}" if places else "none"
