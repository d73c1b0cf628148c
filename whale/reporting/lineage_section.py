"""Where the final checkpoint comes from: the digests of every folder it was made from, by their own manifests.

Digests only: no clock, host or commit, so that the page is a function of its inputs. Who ran what and when stands in
`lineage/runs/`.
"""

import json
from pathlib import Path

from whale.common.files import sha256_of_file
from whale.reporting.html import Section, heading, paragraph, table, text

FINAL = ("finetuned/dynamics/full", "dynamics/full")


def lineage_section(folders: dict[str, Path], models_dir: Path) -> Section:
    """`folders`: name -> folder that is sealed or holds sealed ones, in the order in which they were made."""
    lead = "Each digest is the sha256 of a folder's MANIFEST.json, which lists the sha256 of every file below it."
    rows = [row for name, folder in folders.items() for row in _sealed_rows(name, folder)]
    body = paragraph(lead, "soft") + _final(models_dir)
    body += table(["made by this pipeline", "digest", "files", "MB"], rows, num_text_columns=2)
    return Section("Lineage", body + _sources(folders))


def _final(models_dir: Path) -> str:
    for name in FINAL:
        manifest = models_dir / name / "MANIFEST.json"
        if manifest.is_file():
            files = json.loads(manifest.read_text())["files"]
            weights = files.get("model.safetensors", {}).get("sha256", "")
            return (
                f"<p>Final checkpoint <code>{text(name)}</code>: folder <code>{sha256_of_file(manifest)}</code>, "
                f"weights <code>{text(weights)}</code></p>"
            )
    return paragraph("no final checkpoint was found", "note")


def _sealed_rows(name: str, folder: Path) -> list[list[object]]:
    rows: list[list[object]] = []
    for manifest in sorted(folder.glob("**/MANIFEST.json")):
        files = json.loads(manifest.read_text())["files"]
        below = manifest.parent.relative_to(folder).as_posix()
        size = sum(entry["bytes"] for entry in files.values()) / 1e6
        rows.append([name if below == "." else f"{name}/{below}", sha256_of_file(manifest), len(files), f"{size:.2f}"])
    return rows


def _sources(folders: dict[str, Path]) -> str:
    """The raw files behind each ingested dataset, as its manifest recorded them."""
    rows: list[list[object]] = []
    for name, folder in folders.items():
        for path in sorted(folder.glob("shards/*/manifest.json")):
            manifest = json.loads(path.read_text())
            rows += [[f"{name}/{manifest['name']}", source["file"], source["sha256"]] for source in manifest["sources"]]
    if not rows:
        return ""
    listing = table(["dataset", "raw file", "sha256"], rows, num_text_columns=3)
    return heading("Raw data") + f"<details><summary>{len(rows)} source files</summary>{listing}</details>"
