"""Taints: statements that a person makes, not a stage, with a copy for the stages' guard."""

from whale.common.files import write_atomically
from whale.common.json_files import canonical_json
from whale.lineage.taint import TAINTS_DIR, Taint, taint_statement
from whale.lineage.trust import sign_into_ledger


def sign_taint(taint: Taint, declared: str) -> str:
    """Append the taint, keep a copy for the stages' guard; returns the id of its line."""
    entry, envelope = sign_into_ledger(taint_statement(taint, declared))
    write_atomically(TAINTS_DIR / f"{entry[:16]}.dsse.json", canonical_json(envelope).encode() + b"\n")
    return entry
