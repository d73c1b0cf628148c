"""`whale export --as lerobot`: a checkpoint in the layout of a LeRobot pretrained model.

| file | holds |
|---|---|
| `config.json` | ours, and beside it LeRobot's names: `type`, input and output features, normalisation modes |
| `model.safetensors` | the published weights, byte for byte |
| `policy_preprocessor.json`, `policy_preprocessor_step_0_*` | what the loader does to actions, as LeRobot's step |
| `datasets/NAME/meta/stats.json` | action statistics in LeRobot's dialect |
| `README.md`, `published.json`, `statements.intoto.jsonl`, `public/` | the card, and what proves the origin |
| `MANIFEST.json` | sha256 of every file here; written last |

Where a model has several datasets, each has its preprocessor, below `datasets/NAME/`. LeRobot has no format for world
models: its stock code reads the preprocessor, and refuses `type`. https://huggingface.co/docs/lerobot
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from whale.audit.exports.as_signed import require_folder_as_signed, require_new
from whale.audit.exports.bundle import write_statements
from whale.audit.exports.card import CARD, model_card
from whale.audit.exports.terms import write_terms
from whale.audit.facts import datasets_of, trainings_of, weights_of
from whale.audit.run_graph import RunGraph, Target
from whale.common.errors import ConfigError
from whale.common.files import MANIFEST_NAME, WEIGHTS, sha256_of_file
from whale.common.json_files import read_json, write_json
from whale.data.segments.actions import ActionNormalizer
from whale.data.workbench.dialects import export_statistics
from whale.seal import names_below, seal

CONFIG, STATISTICS = "config.json", "dataset_statistics.json"
PREPROCESSOR = "policy_preprocessor"
STATE = f"{PREPROCESSOR}_step_0_normalizer_processor.safetensors"
IMAGE, ACTION = "observation.images.primary", "action"
GRIPPER = 6

NOTE = Path(__file__).parent / "templates/lerobot.md"  # what stock LeRobot can do with it
RESTORE = {
    "video_tokenizer": "`VideoTokenizer.restore(FOLDER)`",
    "behavior_model": "`BehaviorModel.restore(FOLDER)`",
    "dynamics": "`Dynamics.restore(FOLDER)`",
}


def export_lerobot(target: Target, graph: RunGraph, out: Path) -> list[str]:
    """Write the folder `out`, which must not exist, and return the names of its files.

    ConfigError if `target` is no checkpoint, MismatchError if its bytes are not those that were signed.
    """
    require_folder_as_signed(target)
    if not all((target.folder / name).is_file() for name in (CONFIG, WEIGHTS, STATISTICS)):
        raise ConfigError("not a checkpoint", file=target.folder, expected=f"{CONFIG}, {WEIGHTS}, {STATISTICS}")
    require_new(out)
    config = lerobot_config(read_json(target.folder / CONFIG), _resolution(target, graph))
    out.mkdir(parents=True)
    folders = write_normalisation(out, read_json(target.folder / STATISTICS))
    write_json(out / CONFIG, config)
    shutil.copy(target.folder / WEIGHTS, out / WEIGHTS)
    shutil.copy(target.folder / MANIFEST_NAME, out / "published.json")
    write_terms(out, target, graph)
    write_statements(target, graph, out)
    note = NOTE.read_text(encoding="ascii").format(
        type=config["type"], call=RESTORE.get(config["kind"], "as its stage does"), folders=", ".join(folders)
    )
    card = "\n".join([model_card(target, graph), note, *_parts(target, graph)])
    (out / CARD).write_text(card, encoding="ascii")
    seal(out, sha256_of_file)
    return sorted(names_below(out))


def lerobot_config(config: Mapping[str, Any], resolution: int) -> dict[str, Any]:
    """Our config.json with LeRobot's keys beside ours, which whale.models.trunk.folder still reads."""
    image = {"type": "VISUAL", "shape": [3, resolution, resolution]}
    action = {"type": "ACTION", "shape": [7]}
    predicts_actions = config["kind"] == "behavior_model"
    return {
        **config,
        "type": f"whale_{config['kind']}",
        "input_features": {IMAGE: image} if config["kind"] == "video_tokenizer" else {IMAGE: image, ACTION: action},
        "output_features": {ACTION: action} if predicts_actions else {IMAGE: image},
        "normalization_mapping": {"VISUAL": "IDENTITY", "ACTION": "QUANTILES"},
    }


def write_normalisation(out: Path, statistics: Mapping[str, Any]) -> list[str]:
    """A preprocessor per dataset and its meta/stats.json; returns the preprocessors' folders below `out`."""
    folders = {name: Path() if len(statistics) == 1 else Path("datasets") / name for name in sorted(statistics)}
    for name, folder in folders.items():
        (out / folder).mkdir(parents=True, exist_ok=True)
        low, high = quantiles(ActionNormalizer.from_statistics(statistics[name]))
        state = {f"{ACTION}.q01": low, f"{ACTION}.q99": high}
        (out / folder / STATE).write_bytes(safetensors.numpy.save(state))
        write_json(out / folder / f"{PREPROCESSOR}.json", _pipeline())
    for name, content in export_statistics("lerobot", statistics).items():
        (out / "datasets" / name).parent.mkdir(parents=True, exist_ok=True)
        write_json(out / "datasets" / name, content)
    return [f"./{folder.as_posix()}" if folder.parts else "./" for folder in folders.values()]


def quantiles(normalizer: ActionNormalizer) -> tuple[np.ndarray, np.ndarray]:
    """(q01, q99), float32 (7,), with which LeRobot's 2 (x - q01) / (q99 - q01) - 1 gives what our loader gives."""
    low = np.where(normalizer.dead, normalizer.constant - 1.0, normalizer.low)
    high = np.where(normalizer.dead, normalizer.constant + 1.0, normalizer.high)
    if not normalizer.dead[GRIPPER]:
        low[GRIPPER], high[GRIPPER] = -1.0, 1.0
    return low.astype(np.float32), high.astype(np.float32)


def _pipeline() -> dict[str, Any]:
    features = {ACTION: {"type": "ACTION", "shape": [7]}}
    settings = {"eps": 1.0e-8, "features": features, "norm_map": {"ACTION": "QUANTILES"}}
    step = {"registry_name": "normalizer_processor", "config": settings, "state_file": STATE}
    return {"name": PREPROCESSOR, "steps": [step]}


def _resolution(target: Target, graph: RunGraph) -> int:
    """Of the frames that every dataset of the checkpoint was ingested to."""
    found = {int(each.run.params["ingest"]["resolution"]) for each in datasets_of(target.run, graph)}
    if len(found) != 1:
        raise ConfigError("frames of one resolution are needed", place=target.run.name, found=sorted(found))
    return found.pop()


def _parts(target: Target, graph: RunGraph) -> list[str]:
    """The other checkpoints that it was built on; each is exported in the same way."""
    others = [each for each in trainings_of(target.run, graph) if each.id != target.run.id]
    if not others:
        return []
    rows = [f"- {each.name}: {each.outputs[0]}, weights sha256 `{weights_of(each)}`" for each in others]
    return ["It was built on these checkpoints, each exported in the same way:", "", *rows, ""]
