"""Statements that a person makes, not a stage: signed with the same key, appended to the same ledger."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whale.common.files import write_atomically
from whale.common.json_files import canonical_json
from whale.lineage import ledger, signing
from whale.lineage.taint import TAINTS_DIR, Taint, taint_statement

STATE_DIR = Path(".whale")


def sign_statement(statement: Mapping[str, Any], state_dir: Path = STATE_DIR) -> tuple[str, signing.Envelope]:
    """Append `statement` to the ledger; returns the id of its line, and the envelope."""
    envelope, keyid, pem = signing.sign(statement, signing.key_file(state_dir))
    signing.publish_key(keyid, pem)
    return ledger.append(envelope), envelope


def sign_taint(taint: Taint, declared: str) -> str:
    """Append the taint, keep a copy for the stages' guard; returns the id of its line."""
    entry, envelope = sign_statement(taint_statement(taint, declared))
    write_atomically(TAINTS_DIR / f"{entry[:16]}.dsse.json", canonical_json(envelope).encode() + b"\n")
    return entry
