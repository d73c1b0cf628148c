"""Whoever exports a bundle signs for every file of it: what a stage made has its own statement beside, the rest none.

An in-toto statement of type urn:whale:export:1 in `export.intoto.json`; not in the ledger, which is about runs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whale.common.files import sha256_of_file
from whale.common.json_files import canonical_json
from whale.lineage import signing
from whale.lineage.statement import floats_as_text, in_toto
from whale.seal import MANIFEST_NAME, names_below

EXPORT, EXPORT_TYPE = "export.intoto.json", "urn:whale:export:1"


def sign_bundle(out: Path, rounded: Mapping[str, Any] | None, state_dir: Path = Path(".whale")) -> None:
    """Sign for all files of `out`. `rounded`: what was found when rounded weights were compared with published ones."""
    key = signing.key_file(state_dir)
    _, keyid, pem = signing.sign({}, key)
    if not (out / "public" / f"{keyid}.pub").exists():
        (out / "public" / f"{keyid}.pub").write_bytes(pem)
    names = sorted(set(names_below(out)) - {MANIFEST_NAME, EXPORT})
    subjects = [{"name": name, "digest": {"sha256": sha256_of_file(out / name)}} for name in names]
    predicate = {} if rounded is None else {"rounded": floats_as_text(dict(rounded))}
    envelope = signing.sign(in_toto(EXPORT_TYPE, subjects, predicate), key)[0]
    (out / EXPORT).write_text(canonical_json(envelope) + "\n", encoding="ascii")
