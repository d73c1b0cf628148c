"""Statements that a person makes, not a stage: signed with the same key, appended to the same ledger."""

from pathlib import Path

from whale.common.files import write_atomically
from whale.common.json_files import canonical_json
from whale.lineage import ledger, signing
from whale.lineage.taint import TAINTS_DIR, Taint, taint_statement


def sign_taint(taint: Taint, declared: str, state_dir: Path = Path(".whale")) -> str:
    """Append the taint, keep a copy for the stages' guard; returns the id of its line."""
    envelope, keyid, pem = signing.sign(taint_statement(taint, declared), signing.key_file(state_dir))
    signing.publish_key(keyid, pem)
    entry = ledger.append(envelope)
    write_atomically(TAINTS_DIR / f"{entry[:16]}.dsse.json", canonical_json(envelope).encode() + b"\n")
    return entry
