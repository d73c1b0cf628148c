"""Signed statements to take away: beside any export, and as `prove`, a folder that a third party verifies (Q12).

`prove` needs stock tools alone, and nothing of this project:
sha256sum -c SHA256SUMS
model_signing verify key artefact --signature model.sig --public_key public.pem
any in-toto verifier on statements.intoto.jsonl, with public/<keyid>.pub

A world's bundle (exports/world_bundle) is signed as a whole by who exports it: `sign_bundle`.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from whale.audit.exports.as_signed import require_as_signed, require_new
from whale.audit.exports.model_signature import model_signature
from whale.audit.run_graph import RunGraph, Target
from whale.common.files import MANIFEST_NAME, sha256_of_file
from whale.common.json_files import canonical_json
from whale.lineage import signing
from whale.lineage.acceptance import accepted_run
from whale.lineage.statement import floats_as_text, in_toto
from whale.lineage.trust import require_signer
from whale.seal import list_files, names_below

README = Path(__file__).parent / "templates/bundle.txt"
EXPORT, EXPORT_TYPE = "export.intoto.json", "urn:whale:export:1"


def intoto(target: Target, graph: RunGraph) -> str:
    """The signed envelopes of every run above `target`, one JSON object a line, sources first."""
    return "".join(canonical_json(run.entry.envelope) + "\n" for run in graph.ancestors(target.run))


def write_statements(target: Target, graph: RunGraph, out: Path) -> None:
    """What proves the origin of `target`: `intoto` as a file of the folder `out`, and every public key of the project.

    Edits of code that were accepted since stand in a file of their own: somebody's claim travels with the proof.
    """
    write_statements_of([target], graph, out)


def write_statements_of(targets: Sequence[Target], graph: RunGraph, out: Path) -> None:
    """`write_statements` of several targets together, each run once, sources first."""
    above = {run.id: run for target in targets for run in graph.ancestors(target.run)}
    ordered = sorted(above.values(), key=lambda run: run.entry.line)
    lines = [canonical_json(run.entry.envelope) + "\n" for run in ordered]
    (out / "statements.intoto.jsonl").write_text("".join(lines), encoding="ascii")
    runs = set(above)
    accepted = [entry.envelope for entry in graph.entries if accepted_run(entry.statement) in runs]
    if accepted:
        text = "".join(canonical_json(envelope) + "\n" for envelope in accepted)
        (out / "acceptances.intoto.jsonl").write_text(text, encoding="ascii")
    shutil.copytree(signing.PUBLIC_KEYS, out / "public")


def prove(target: Target, graph: RunGraph, out: Path) -> list[str]:
    """Write the bundle to a new folder `out`; returns the names of its files. MismatchError for bytes never signed."""
    require_new(out)
    require_as_signed(target)
    out.mkdir(parents=True)
    artefact = out / "artefact"
    if target.path.name == MANIFEST_NAME:
        shutil.copytree(target.folder, artefact)
    else:
        artefact.mkdir()
        shutil.copy(target.path, artefact)
    write_statements(target, graph, out)
    key = require_signer()
    (out / "public.pem").write_bytes(signing.public_half(key)[1])
    (out / "model.sig").write_bytes(model_signature(artefact, key))
    shutil.copy(README, out / "README.txt")
    files = [path for path in list_files(out) if path.name != "SHA256SUMS"]
    lines = [f"{sha256_of_file(path)}  {path.relative_to(out).as_posix()}\n" for path in files]
    (out / "SHA256SUMS").write_text("".join(lines), encoding="ascii")
    return [path.relative_to(out).as_posix() for path in files]


def sign_bundle(out: Path, rounded: Mapping[str, Any] | None) -> None:
    """Whoever exports `out` signs for every file of it: what a stage made has its own statement beside, the rest none.

    Not in the ledger, which is about runs. `rounded`: what was found when rounded weights were compared with others.
    """
    key = require_signer()
    keyid, pem = signing.public_half(key)
    if not (public := signing.public_file(keyid, out / "public")).exists():
        public.write_bytes(pem)
    names = sorted(set(names_below(out)) - {MANIFEST_NAME, EXPORT})
    subjects = [{"name": name, "digest": {"sha256": sha256_of_file(out / name)}} for name in names]
    predicate = {} if rounded is None else {"rounded": floats_as_text(dict(rounded))}
    envelope = signing.sign(in_toto(EXPORT_TYPE, subjects, predicate), key)
    (out / EXPORT).write_text(canonical_json(envelope) + "\n", encoding="ascii")
