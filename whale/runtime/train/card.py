"""README.md of a checkpoint folder: a model card made of facts of the training alone, so equal runs give equal cards.

Evaluations are not known yet when a model is published; `whale export` adds them.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whale.common.files import WEIGHTS
from whale.common.json_files import read_json
from whale.models.trunk.folder import tensor_shapes

CARD_NAME = "README.md"


def write_card(folder: Path, stage: str, item: str | None, params: Mapping[str, Any]) -> None:
    """Write the card of the model in `folder`, from the files that a training leaves there."""
    receipt, contracts, training, config = (
        read_json(folder / name) for name in ("receipt.json", "contract.json", "training.json", "config.json")
    )
    drawn = {name: row for name, row in receipt["datasets"].items() if row["segments"]}
    lines = [*_front_matter(config["kind"], drawn, contracts), ""]
    lines += [f"# {config['kind']}: {stage}{'' if item is None else f' @ {item}'}", ""]
    lines += [
        f"{_num_parameters(folder):,} parameters, float32 safetensors. Trained for {training['steps']} steps.",
        "",
    ]
    lines += _data(drawn, contracts)
    lines += _actions(contracts)
    lines += ["## Parameters", "```json", json.dumps(params, indent=1, sort_keys=True), "```", ""]
    lines += ["## Origin", "`lineage.json` names every dataset and input by sha256; `whale lineage verify` on this"]
    lines += ["folder holds all of it against the signed ledger. `MANIFEST.json` lists every file's sha256.", ""]
    (folder / CARD_NAME).write_text("\n".join(lines), encoding="ascii", errors="backslashreplace")


def _num_parameters(folder: Path) -> int:
    """Elements of all tensors, read off the header of the weights."""
    return sum(map(math.prod, tensor_shapes(folder / WEIGHTS).values()))


def _front_matter(kind: str, drawn: Mapping[str, Any], contracts: Mapping[str, Any]) -> list[str]:
    licences = sorted({_licence(contracts, name) for name in drawn})
    lines = ["---", f"tags: [robotics, world-model, {kind}]", "library_name: whale-world-model"]
    return [*lines, f"datasets: {json.dumps(sorted(drawn))}", f"dataset_licences: {json.dumps(licences)}", "---"]


def _data(drawn: Mapping[str, Any], contracts: Mapping[str, Any]) -> list[str]:
    lines = ["## Training data", "| dataset | robot | share of segments | valid frames | epochs | licence |"]
    lines.append("|---|---|---|---|---|---|")
    for name, row in sorted(drawn.items()):
        robot = contracts.get(name, {}).get("robot", "not recorded")
        numbers = f"{row['segment_share']:.4f} | {row['valid_frames']} | {row['epochs']:.2f}"
        lines.append(f"| {name} | {robot} | {numbers} | {_licence(contracts, name)} |")
    return [*lines, ""] if drawn else ["## Training data", "None: these are initial weights.", ""]


def _actions(contracts: Mapping[str, Any]) -> list[str]:
    lines = ["## Actions", "Raw units as below; normalised with `dataset_statistics.json`. Gripper: 1 = open.", ""]
    for name, contract in sorted(contracts.items()):
        words = [str(contract[key]) for key in ("form", "frame", "control_hz") if key in contract]
        lines.append(f"- {name}: {', '.join(words)} Hz; {', '.join(contract.get('dimensions', []))}")
    return [*lines, ""]


def _licence(contracts: Mapping[str, Any], name: str) -> str:
    licence = contracts.get(name, {}).get("licence", {})
    unread = " (evidence: unverified)" if licence.get("evidence") == "unverified" else ""
    return f"{licence.get('spdx', 'unknown')}{unread}"
