"""lineage.json: what a published folder says of its own origin when it lies alone, without ledger and without clock.

It is a function of params, inputs and the inputs' own lineage.json. Code is not in it: two runs of different code with
equal results give equal folders, and what follows from them need not run again. Which code made a folder is asked of
the ledger, by the folder's digest. `datasets` is transitive: every dataset that reached this folder through any input,
each named by the digest of its upstream files.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from whale.common.errors import BadDataError, MismatchError
from whale.common.files import sha256_of_file
from whale.common.json_files import read_json
from whale.common.stage_args import node_name
from whale.lineage.statement import Derivation

LINEAGE_NAME = "lineage.json"
FORMAT_VERSION = 2

Summary = dict[str, Any]


def summarize(derivation: Derivation, inputs: Iterable[Summary | None], own_datasets: Iterable[Summary]) -> Summary:
    """`inputs`: the lineage.json of each sealed folder that an input stands on, None for one that has none."""
    read = list(inputs)
    datasets = {each["id"]: each for each in own_datasets}
    for summary in read:
        datasets.update({each["id"]: each for each in (summary or {}).get("datasets", [])})
    return {
        "format_version": FORMAT_VERSION,
        "stage": derivation.stage,
        "item": derivation.item,
        "params": derivation.config,
        "inputs": derivation.inputs,
        "datasets": [datasets[key] for key in sorted(datasets)],
        "complete": all(summary is not None and summary.get("complete") is True for summary in read),
    }


def read_summary(folder: Path) -> Summary | None:
    """lineage.json of a published folder; None where there is none.

    Raises BadDataError for one that cannot be read, which says nothing of its origin and must not pass for one that
    never had any; MismatchError when another version of this project wrote it.
    """
    if not (folder / LINEAGE_NAME).is_file():
        return None
    found = read_json(folder / LINEAGE_NAME)
    if not isinstance(found, dict):
        raise BadDataError("not a lineage.json", file=folder / LINEAGE_NAME, found=type(found).__name__,
                           expected="an object", remedy="make the folder again")  # fmt: skip
    if found.get("format_version") != FORMAT_VERSION:
        raise MismatchError(
            "this folder is of another version of the project",
            file=folder / LINEAGE_NAME,
            place="format_version",
            found=found.get("format_version"),
            expected=FORMAT_VERSION,
            remedy=f"make it again: `dvc repro -f -s {node_name(str(found.get('stage')), found.get('item'))}`",
        )
    return found


def dataset_digest(sources: Iterable[Mapping[str, Any]]) -> str:
    """sha256 of the sorted lines `sha256  size  relpath` of a dataset's upstream files: name and version identify
    nothing, this does."""
    lines = sorted(f"{each['sha256']}  {each['bytes']}  {each['file']}\n" for each in sources)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def summarize_dataset(folder: Path, dataset: str, version: str) -> Summary:
    """What lineage.json says of an ingested dataset, read off its manifest.json and contract.json.

    `dataset`, `version`: the upstream's names for it.
    """
    manifest = read_json(folder / "manifest.json")
    contract = read_json(folder / "contract.json")
    digest = dataset_digest(manifest["sources"])
    return {
        "id": f"dataset:{manifest['name']}@sha256:{digest}",
        "name": manifest["name"],
        "upstream": {"dataset": dataset, "version": version, "files": len(manifest["sources"]), "sha256": digest},
        "spec_digest": manifest["spec_digest"],
        "manifest_sha256": sha256_of_file(folder / "manifest.json"),
        "robot": contract["robot"],
        "licence": contract["licence"],
        "read": manifest["read"],
        "kept": manifest["kept"],
        "dropped": manifest["dropped"],
    }
