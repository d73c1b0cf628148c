"""Croissant 1.1 (MLCommons) of one ingested dataset: its shards and side files, each with its sha256.

https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html
"""

from pathlib import Path
from typing import Any

from whale.common.errors import ConfigError
from whale.common.json_files import read_json

TERMS = "citeAs column extract field fileObject fileProperty fileSet format includes key md5 recordSet references regex"
CONTEXT = {
    **{term: f"cr:{term}" for term in [*TERMS.split(), "source", "subField", "transform"]},
    "@language": "en",
    "@vocab": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
}


def croissant(folder: Path) -> dict[str, Any]:
    """Metadata of the shard set in `folder`, to be saved inside it; paths are relative to it."""
    if not (folder / "manifest.json").is_file():
        raise ConfigError("not an ingested dataset", file=folder, expected="a folder with manifest.json")
    manifest = read_json(folder / "manifest.json")
    licence = read_json(folder / "contract.json").get("licence", {})
    files = {row["file"]: row for row in manifest["shards"]} | manifest["files"]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": manifest["name"],
        "description": f"Robot episodes of {manifest['name']} as WebDataset shards, made by the stage ingest.",
        "license": licence.get("url") or licence.get("spdx") or "unknown",
        "citeAs": str(licence.get("citation") or "none"),
        "url": f"urn:whale:dataset:{manifest['name']}",
        "version": "1.0.0",
        "distribution": [_file(name, row) for name, row in sorted(files.items())],
        "recordSet": [_episodes()],
    }


def _file(name: str, row: dict[str, Any]) -> dict[str, Any]:
    kind = {".tar": "application/x-tar", ".parquet": "application/x-parquet"}.get(Path(name).suffix)
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name.replace("/", "-"),
        "contentUrl": name,
        "contentSize": f"{row['bytes']} B",
        "encodingFormat": kind or "application/json",
        "sha256": row["sha256"],
    }


def _episodes() -> dict[str, Any]:
    """One record per source episode."""
    columns = {"key": "sc:Text", "split": "sc:Text", "kept": "sc:Boolean", "steps_out": "sc:Integer"}
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"episodes/{name}",
            "name": name,
            "dataType": kind,
            "source": {"fileObject": {"@id": "episodes.parquet"}, "extract": {"column": name}},
        }
        for name, kind in columns.items()
    ]
    return {"@type": "cr:RecordSet", "@id": "episodes", "name": "episodes", "field": fields}
