"""`whale export`: a checkpoint as one folder to hand on, with what was found out about it after it was published.

| file | holds |
|---|---|
| all files of the checkpoint | as published; its manifest as `published.json` |
| `README.md` | the model card, then evaluations with their protocols, licences and citations |
| `evaluations/<stage>.json` | the metrics files of every evaluation that read this checkpoint |
| `calibration.json` | its entries of the uncertainty stage's calibration, if there are any |
| `licences.json` | licence, evidence and citation of every dataset that reached it |
| `statements.intoto.jsonl`, `public/` | the signed statements of all it came from, and the keys to check them |
| `MANIFEST.json` | sha256 of every file here; written last |
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from whale.audit.exports.as_signed import require_as_signed
from whale.audit.exports.bundle import intoto
from whale.audit.facts import flatten, is_evaluation
from whale.audit.licences import LicencePolicy, licences
from whale.audit.runs import RunGraph, StageRun, Target
from whale.errors import CannotWriteError, ConfigError
from whale.files import sha256_of_file
from whale.lineage import signing
from whale.lineage.seal import MANIFEST_NAME, seal
from whale.lineage.statement import write_json

CALIBRATION = "calibration.json"


def export_folder(target: Target, graph: RunGraph, out: Path) -> list[str]:
    """Write the folder `out`, which must not exist, and return the names of its files.

    Raises ConfigError if `target` is no sealed folder, MismatchError if its bytes are not those that were signed.
    """
    if target.path.name != MANIFEST_NAME:
        raise ConfigError("not a checkpoint folder", file=target.path, expected="a published folder with MANIFEST.json")
    if out.exists():
        raise CannotWriteError("the folder exists", file=out, remedy="name another, or remove it")
    require_as_signed(target)
    shutil.copytree(target.folder, out)
    (out / MANIFEST_NAME).rename(out / "published.json")
    evaluations = [each for each in graph.descendants(target.run) if is_evaluation(each)]
    found_licences = licences(target.run, graph, LicencePolicy())["datasets"]
    metrics = dict(_metrics(evaluations))
    for stage, values in metrics.items():
        (out / "evaluations").mkdir(exist_ok=True)
        write_json(out / "evaluations" / f"{stage}.json", values)
    if entries := _calibration(evaluations, target):
        write_json(out / CALIBRATION, {"version": 1, "checkpoints": entries})
    write_json(out / "licences.json", {"datasets": found_licences})
    (out / "statements.intoto.jsonl").write_text(intoto(target, graph), encoding="ascii")
    shutil.copytree(signing.PUBLIC_KEYS, out / "public")
    _extend_card(out / "README.md", target, metrics, found_licences)
    seal(out, sha256_of_file)
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())


def _metrics(evaluations: list[StageRun]) -> Iterator[tuple[str, Any]]:
    """(stage, values) of the newest run of each evaluation whose metrics lie there as signed."""
    for run in evaluations:
        for name in run.outputs:
            path = Path(name)
            if path.suffix == ".json" and path.name != MANIFEST_NAME and _is_as_signed(path, run.subjects[name]):
                yield run.name, json.loads(path.read_bytes())


def _calibration(evaluations: list[StageRun], target: Target) -> list[dict[str, Any]]:
    """Entries whose digests name a file of this checkpoint."""
    own = {digest for digest in target.run.subjects.values()}
    found = []
    for run in evaluations:
        for name, digest in run.subjects.items():
            if Path(name).name == CALIBRATION and _is_as_signed(Path(name), digest):
                rows = json.loads(Path(name).read_bytes())["checkpoints"]
                found = [row for row in rows if own & {str(value) for _, value in flatten(row)}]
    return found


def _is_as_signed(path: Path, digest: str) -> bool:
    return path.is_file() and sha256_of_file(path) == digest


def _extend_card(card: Path, target: Target, metrics: dict[str, Any], found: list[dict[str, Any]]) -> None:
    lines = [card.read_text(encoding="ascii").rstrip() if card.is_file() else f"# {target.run.name}", ""]
    lines += [f"Published as `{target.name}`, sha256 `{target.sha256}` (`published.json`).", "", "## Evaluations"]
    for stage, values in metrics.items():
        protocols = sorted({str(value) for name, value in flatten(values) if name.rpartition(".")[2] == "protocol"})
        lines += [f"`evaluations/{stage}.json`, protocols:", *(f"- `{each}`" for each in protocols or ["none"]), ""]
    lines += [*([] if metrics else ["None is recorded.", ""]), "## Licences and citations"]
    lines += ["| dataset | licence | evidence | citation |", "|---|---|---|---|"]
    lines += [f"| {row['dataset']} | {row['spdx']} | {row['evidence']} | {row['citation']} |" for row in found]
    card.write_text("\n".join(lines) + "\n", encoding="ascii", errors="backslashreplace")
