"""Where the final checkpoint comes from: the digests of every folder it was made from, by their own manifests.

Digests only: no clock, host or commit, so that the page is a function of its inputs. Who ran what and when stands in
`lineage/runs/`.
"""

from pathlib import Path

from whale.common.files import MANIFEST_NAME, WEIGHTS, sha256_of_file
from whale.common.json_files import read_json
from whale.reporting.page import Section, render

FINAL = ("finetuned/dynamics/full", "dynamics/full")


def lineage_section(folders: dict[str, Path], models_dir: Path) -> Section:
    """`folders`: name -> folder that is sealed or holds sealed ones, in the order in which they were made."""
    rows = [row for name, folder in folders.items() for row in _sealed_rows(name, folder)]
    return Section(
        "Lineage", render("lineage.html", final=final_checkpoint(models_dir), made=rows, sources=_sources(folders))
    )


def final_checkpoint(models_dir: Path) -> dict[str, str] | None:
    """Name below models, sha256 of its seal and of its weights; the fine-tuned one where there is one."""
    for name in FINAL:
        manifest = models_dir / name / MANIFEST_NAME
        if manifest.is_file():
            files = read_json(manifest)["files"]
            weights = files.get(WEIGHTS, {}).get("sha256", "")
            return {"name": name, "folder": sha256_of_file(manifest), "weights": weights}
    return None


def _sealed_rows(name: str, folder: Path) -> list[list[object]]:
    rows: list[list[object]] = []
    for manifest in sorted(folder.glob(f"**/{MANIFEST_NAME}")):
        files = read_json(manifest)["files"]
        below = manifest.parent.relative_to(folder).as_posix()
        size = sum(entry["bytes"] for entry in files.values()) / 1e6
        rows.append([name if below == "." else f"{name}/{below}", sha256_of_file(manifest), len(files), f"{size:.2f}"])
    return rows


def _sources(folders: dict[str, Path]) -> list[list[str]]:
    """The raw files behind each ingested dataset, as its manifest recorded them."""
    rows = []
    for name, folder in folders.items():
        for path in sorted(folder.glob("shards/*/manifest.json")):
            manifest = read_json(path)
            rows += [[f"{name}/{manifest['name']}", source["file"], source["sha256"]] for source in manifest["sources"]]
    return rows
