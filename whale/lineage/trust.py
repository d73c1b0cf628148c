"""The root of trust: `lineage/trust.json`, kept by git, pins the one key that a ledger's trust begins with.

The first signature in a project makes the key and pins it, and says so once. After that a key counts only by a
statement in the ledger (predicate urn:whale:trust:1) that a key which counts then has signed: `add`, `revoke`. A key
that is lost is never replaced in silence: signing refuses, and `replace-root` leaves a line that every verification
tells. audit/checks/trust_chain.py judges; here is what is written.

trust.json: {"format_version", "ledger": 32 hex digits that no other ledger has, "root": keyid, "signers": [keyid]}.
`signers` follows from the ledger; it is there so that a stage need not read all of it.
"""

import os
import re
import secrets
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from whale.common.errors import BadDataError, ConfigError, MismatchError, RefusedError
from whale.common.files import sha256_of_file, temporary_path, write_atomically
from whale.common.json_files import parse_json, pretty_json
from whale.lineage import keys, ledger, signing
from whale.lineage.statement import in_toto, placed

TRUST = Path("lineage/trust.json")
TRUST_TYPE = "urn:whale:trust:1"
FORMAT_VERSION = 1
LEDGER_ID = re.compile(r"[0-9a-f]{32}")

Action = Literal["add", "revoke", "replace-root"]


@dataclass(frozen=True)
class Trust:
    """What trust.json says."""

    ledger: str
    root: str
    signers: tuple[str, ...]

    def payload(self) -> bytes:
        """The only bytes that say this."""
        rows = {"format_version": FORMAT_VERSION, "ledger": self.ledger, "root": self.root}
        return pretty_json({**rows, "signers": sorted(self.signers)})


@dataclass(frozen=True)
class TrustChange:
    """A statement about a key. `vouched`: of `replace-root`, every key that signed before."""

    action: str
    keyid: str
    because: str
    on: str
    vouched: tuple[str, ...] = ()


def read_trust(root: Path = Path()) -> Trust | None:
    """None where no root is pinned; MismatchError for a file that is not, byte by byte, what this module writes."""
    path = root / TRUST
    if not path.exists():
        return None
    try:
        payload = path.read_bytes()
        rows = parse_json(payload, path)
        found = Trust(rows["ledger"], rows["root"], tuple(rows["signers"]))
        is_whole = bool(LEDGER_ID.fullmatch(found.ledger)) and found.payload() == payload
        is_whole &= all(signing.KEYID.fullmatch(each) for each in (found.root, *found.signers))
    except (OSError, BadDataError, ValueError, KeyError, TypeError):
        is_whole = False
    if not is_whole:
        raise MismatchError("not a trust file of this version", file=TRUST, remedy="take it from git")
    return found


def change_of(statement: Mapping[str, Any]) -> TrustChange | None:
    """The change of trust that a statement declares; None for another kind, and for one that is malformed."""
    predicate = statement.get("predicate")
    if statement.get("predicateType") != TRUST_TYPE or not isinstance(predicate, Mapping):
        return None
    texts = {name: predicate.get(name) for name in ("action", "keyid", "because", "on")}
    vouched = predicate.get("vouched", [])
    if not all(isinstance(each, str) for each in texts.values()) or not isinstance(vouched, list):
        return None
    return TrustChange(**{name: str(each) for name, each in texts.items()}, vouched=tuple(map(str, vouched)))


def require_signer() -> Path:
    """The private key to sign with here. In a project without records it is made, pinned as root, and told.

    RefusedError where the project has a root and no key of its signers is here: a second key in silence would be
    trusted by nobody, and would hide that one was lost.
    """
    trust, named = read_trust(), keys.named_key()
    if trust is None:
        _require_no_records()
        trust = _pin_root(named)
    if named is not None:
        keyid, pem = signing.public_half(named)
        if keyid not in trust.signers:
            raise _refused(f"{named}, whose public half is {keyid}", trust)
        _publish(keyid, pem)
        return named
    for keyid in trust.signers:
        if (path := keys.key_path(keyid)).is_file():
            keys.require_private(path)
            if not signing.public_file(keyid).exists():  # whoever pinned it was killed
                _publish(*signing.public_half(path))
            return path
    raise _refused(f"no such file in {keys.config_dir() / 'keys'}", trust)


def sign_into_ledger(
    statement: Mapping[str, Any], keep: Callable[[signing.Envelope], None] | None = None
) -> tuple[str, signing.Envelope]:
    """Sign `statement` for the place that it gets, and append it; returns the id of its line, and the envelope.

    `keep` is called with the envelope just before the line is written.
    """
    key, made = require_signer(), []
    trust = _trust_here()

    def seal(place: dict[str, Any]) -> signing.Envelope:
        made.append(signing.sign(placed(statement, {"ledger": trust.ledger, **place}), key))
        if keep is not None:
            keep(made[-1])
        return made[-1]

    return ledger.append(seal), made[-1]


def change_trust(action: Action, public: Path, because: str) -> str:
    """Sign that the key in the file `public` is trusted from now on, or no more; returns the id of the line."""
    keyid, pem = _public_key(public)
    trust = _trust_here()
    if (keyid in trust.signers) != (action == "revoke"):
        raise ConfigError("nothing to change", found=keyid, expected="a key that is trusted, to revoke; else another")
    if action == "revoke" and len(trust.signers) == 1:
        raise RefusedError("the last key cannot be revoked", found=keyid, remedy="first add the one that follows it")
    _publish(keyid, pem)
    line = _declare(action, keyid, because)
    left = {*trust.signers, keyid} if action == "add" else set(trust.signers) - {keyid}
    write_atomically(TRUST, Trust(trust.ledger, trust.root, tuple(left)).payload())
    return line


def replace_root(because: str, vouched: tuple[str, ...]) -> Trust:
    """A new key and a new root, where the old one is lost; `vouched`: keyids of all that signed before.

    The new root vouches for the ledger as it is now, by its head. That is no proof to anybody who knew the old root:
    every verification tells of it until the new fingerprint is expected by name.
    """
    old = read_trust()
    key = keys.named_key() or keys.make_key()
    keyid, pem = signing.public_half(key)
    _publish(keyid, pem)
    trust = Trust(old.ledger if old else secrets.token_hex(16), keyid, (keyid,))
    write_atomically(TRUST, trust.payload())
    _declare("replace-root", keyid, because, vouched=sorted(vouched))
    return trust


def _declare(action: Action, keyid: str, because: str, **more: Any) -> str:
    file = signing.public_file(keyid)
    subject = [{"name": file.as_posix(), "digest": {"sha256": sha256_of_file(file)}}]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    predicate = {"action": action, "keyid": keyid, "because": because, "on": now, **more}
    return sign_into_ledger(in_toto(TRUST_TYPE, subject, predicate))[0]


def _pin_root(named: Path | None) -> Trust:
    """The first process wins; what another pinned meanwhile holds."""
    key = named or keys.make_key()
    keyid, pem = signing.public_half(key)
    trust = Trust(secrets.token_hex(16), keyid, (keyid,))
    TRUST.parent.mkdir(parents=True, exist_ok=True)
    draft = temporary_path(TRUST)
    write_atomically(draft, trust.payload())
    try:
        os.link(draft, TRUST)
    except FileExistsError:
        if named is None:
            key.unlink()
        return _trust_here()
    finally:
        with suppress(FileNotFoundError):
            draft.unlink()
    _publish(keyid, pem)
    print(
        f"whale: this project's signing key is {key}; keep a copy of it.\n"
        f"whale: its fingerprint {keyid} is pinned in {TRUST}: commit that file, and tell the fingerprint to whoever "
        "verifies (`whale lineage verify FOLDER --expect-root FINGERPRINT`).",
        file=sys.stderr,
    )
    return trust


def _trust_here() -> Trust:
    if (trust := read_trust()) is None:
        raise RefusedError("no root of trust", file=TRUST, remedy="take it from git")
    return trust


def _require_no_records() -> None:
    if ledger.LEDGER.is_file() and ledger.LEDGER.stat().st_size:
        raise RefusedError(
            "this ledger has no root of trust", file=TRUST, found="nothing",
            remedy="take it from git; of a ledger from before roots were pinned: `whale lineage key replace-root "
            "--because TEXT` vouches for it as it is",
        )  # fmt: skip


def _refused(found: str, trust: Trust) -> RefusedError:
    return RefusedError(
        "no key here may sign for this project", file=TRUST, found=found,
        expected=f"the private key of {' or '.join(trust.signers)}",
        remedy=f"put it back into {keys.config_dir() / 'keys'} from your copy, or let {keys.KEY_VARIABLE} name it. If "
        "it is another's project: `whale lineage key new`, and have them run `whale lineage key add`. If it is lost "
        "for good: `whale lineage key replace-root --because TEXT`, which every verification will tell",
    )  # fmt: skip


def _publish(keyid: str, pem: bytes) -> None:
    if not (path := signing.public_file(keyid)).exists():
        write_atomically(path, pem)


def _public_key(file: Path) -> tuple[str, bytes]:
    """(keyid, PEM) of a public key that is named by its keyid, as `whale lineage key new` writes it."""
    if signing.load_public(file) is None:
        raise ConfigError("not a public key of this program", file=file, expected="KEYID.pub, an EC P-256 key in PEM")
    return file.stem, file.read_bytes()
