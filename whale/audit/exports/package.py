"""`whale export`: a checkpoint as one folder to hand on, with what was found out about it after it was published.

| file | holds |
|---|---|
| all files of the checkpoint | as published; its manifest as `published.json` |
| `README.md` | the model card, then evaluations with their protocols, licences and citations |
| `evaluations/<stage>.json` | the metrics files of every evaluation that read this checkpoint |
| `calibration.json` | its entries of the uncertainty stage's calibration, if there are any |
| `licences.json` | licence, evidence and citation of every dataset that reached it |
| `OBLIGATIONS.md` | what is owed to their makers: attribution to copy, terms that bind, terms that nobody read |
| `statements.intoto.jsonl`, `public/` | the signed statements of all it came from, and the keys to check them |
| `MANIFEST.json` | sha256 of every file here; written last |
"""

import shutil
from pathlib import Path
from typing import Any

from whale.audit.exports.as_signed import require_folder_as_signed, require_new
from whale.audit.exports.bundle import write_statements
from whale.audit.exports.card import CARD, model_card
from whale.audit.exports.evaluations import evaluations_of, is_as_signed, metrics_of
from whale.audit.exports.terms import write_terms
from whale.audit.run_graph import RunGraph, StageRun, Target
from whale.common.files import MANIFEST_NAME, sha256_of_file
from whale.common.json_files import flatten, read_json, write_json
from whale.seal import names_below, seal

CALIBRATION = "calibration.json"


def export_folder(target: Target, graph: RunGraph, out: Path) -> list[str]:
    """Write the folder `out`, which must not exist, and return the names of its files.

    Raises ConfigError if `target` is no sealed folder, MismatchError if its bytes are not those that were signed.
    """
    require_folder_as_signed(target)
    require_new(out)
    shutil.copytree(target.folder, out)
    (out / MANIFEST_NAME).rename(out / "published.json")
    evaluations = evaluations_of(target, graph)
    for stage, values in metrics_of(evaluations).items():
        (out / "evaluations").mkdir(exist_ok=True)
        write_json(out / "evaluations" / f"{stage}.json", values)
    if calibration := _calibration(evaluations, target):
        write_json(out / CALIBRATION, calibration)
    write_terms(out, target, graph)
    write_statements(target, graph, out)
    (out / CARD).write_text(model_card(target, graph), encoding="ascii")
    seal(out, sha256_of_file)
    return sorted(names_below(out))


def _calibration(evaluations: list[StageRun], target: Target) -> dict[str, Any]:
    """The newest file with only the entries whose digests name a file of this checkpoint, in its own format version."""
    own = {digest for digest in target.run.subjects.values()}
    found: dict[str, Any] = {}
    for run in evaluations:
        for name, digest in run.subjects.items():
            if Path(name).name == CALIBRATION and is_as_signed(Path(name), digest):
                whole = read_json(Path(name))
                rows = [row for row in whole["checkpoints"] if own & set(map(str, flatten(row).values()))]
                found = {**whole, "checkpoints": rows} if rows else {}
    return found
