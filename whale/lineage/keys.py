"""Where secrets lie: private keys and the machine's own secret, among the user's settings and never in the project.

`~/.config/whale/keys/<keyid>.pem` (below XDG_CONFIG_HOME where that is set, or the folder that WHALE_CONFIG_DIR names),
or the one file that WHALE_SIGNING_KEY names. All 0600. A key is named by its public half, so whoever knows which keys a
project trusts finds the one to sign with without reading any. `.whale/` in the project is a cache and holds none.
"""

import hmac
import os
import secrets
import stat
import sys
from functools import cache
from pathlib import Path

from whale.common.errors import CannotWriteError, ConfigError, WhaleError
from whale.common.files import is_abandoned, refusals_named, temporary_name_of, write_secret_once
from whale.lineage import signing

KEY_VARIABLE, CONFIG_VARIABLE = "WHALE_SIGNING_KEY", "WHALE_CONFIG_DIR"
SECRET_BYTES = 32


def config_dir() -> Path:
    """The user's folder for settings of this program."""
    if named := os.environ.get(CONFIG_VARIABLE):
        return Path(named).absolute()
    if os.path.isabs(base := os.environ.get("XDG_CONFIG_HOME", "")):
        return Path(base) / "whale"
    try:
        return Path.home() / ".config" / "whale"
    except RuntimeError:
        remedy = f"set HOME, XDG_CONFIG_HOME, {CONFIG_VARIABLE}, or {KEY_VARIABLE} to a key file"
        raise ConfigError("nobody says where this user's settings lie", place="HOME", remedy=remedy) from None


def key_path(keyid: str) -> Path:
    """Where the private key of this keyid lies, if it is here."""
    return config_dir() / "keys" / f"{keyid}.pem"


def named_key() -> Path | None:
    """The key that WHALE_SIGNING_KEY names; None where it is not set."""
    named = os.environ.get(KEY_VARIABLE)
    if not named:
        return None
    if not Path(named).is_file():
        remedy = "correct or unset it; `whale lineage key new --to FILE` makes a key"
        raise ConfigError("no such signing key", file=named, place=KEY_VARIABLE, remedy=remedy)
    if Path(".whale").resolve() in Path(named).resolve().parents:
        raise ConfigError("a key among caches, which people delete", file=named, remedy="move it out of .whale/")
    require_private(Path(named))
    return Path(named)


def require_private(file: Path) -> None:
    """ConfigError for a secret that others of this machine can read or replace."""
    if stat.S_IMODE(file.stat().st_mode) & 0o077:
        found = oct(stat.S_IMODE(file.stat().st_mode))
        raise ConfigError("others can read this secret", file=file, found=found, expected="0o600",
                          remedy=f"chmod 600 {file}")  # fmt: skip


def make_key(to: Path | None = None) -> Path:
    """A new private key in `to`, or under its keyid among the user's; returns the file. Never overwrites."""
    keyid, pem = signing.new_private_key()
    path = to or key_path(keyid)
    remedy = f"set {CONFIG_VARIABLE} to a private folder that can be written, or {KEY_VARIABLE} to a key file"
    try:
        with refusals_named(path.parent):
            _clear_drafts(path)
            is_new = write_secret_once(path, pem)
    except CannotWriteError as error:
        raise CannotWriteError(
            "no place for a signing key", file=path.parent, found=error.found, remedy=remedy
        ) from None
    if not is_new:
        raise CannotWriteError("the file exists", file=path, remedy="name another")
    return path


def _clear_drafts(path: Path) -> None:
    """What a process that was killed over the same file left beside it is a secret, too."""
    for draft in path.parent.glob(".*"):
        if (temporary_name_of(draft) or "").endswith(path.suffix or path.name) and is_abandoned(draft):
            draft.unlink(missing_ok=True)


@cache
def _secret(folder: Path) -> bytes | None:
    """Of this machine; where there can be none, said once: whoever waits for what is read again should know why."""
    path = folder / "machine-secret"
    try:
        if not path.exists():
            write_secret_once(path, secrets.token_bytes(SECRET_BYTES))
        require_private(path)
        found = path.read_bytes()
        if len(found) != SECRET_BYTES:
            raise ConfigError("not a secret of this program", file=path, found=f"{len(found)} bytes",
                              expected=f"{SECRET_BYTES}", remedy="remove it: it only guards caches")  # fmt: skip
    except (OSError, WhaleError) as error:
        _tell_once(str(error))
        return None
    return found


@cache
def _tell_once(error: str) -> None:
    print(f"warning: nothing is remembered of files that were read, each is read again: {error}", file=sys.stderr)


def mac(name: str, payload: bytes) -> str | None:
    """HMAC-SHA256 of a cache called `name` under this machine's secret; None where no secret can be kept here."""
    try:
        folder = config_dir()
    except ConfigError as error:
        _tell_once(str(error))
        return None
    secret = _secret(folder)
    return hmac.new(secret, name.encode() + b"\0" + payload, "sha256").hexdigest() if secret else None
