"""The models that act together, loaded from their folders; and a digest that names them in a protocol."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from whale.errors import MissingInputError
from whale.models.behavior import BehaviorModel
from whale.models.dynamics import Dynamics
from whale.models.folder import WEIGHTS
from whale.models.tokenizer import VideoTokenizer
from whale.models.world_model import WorldModel


@dataclass(frozen=True)
class Stack:
    """One tokenizer and one behavior model, dynamics variants by name, and the digest of each variant's weights."""

    tokenizer: VideoTokenizer
    behavior: BehaviorModel
    dynamics: Mapping[str, Dynamics]
    digests: Mapping[str, str]

    def world(self, name: str, window: int) -> WorldModel:
        """Tokenizer, prior and one dynamics."""
        return WorldModel(self.tokenizer, self.behavior, self.dynamics[name], window)


def load_stack(models_dir: Path) -> Stack:
    """`<models_dir>/tokenizer`, `behavior` and every `dynamics/<name>`; the same layout below `models/finetuned`."""
    parts = [models_dir / "tokenizer", models_dir / "behavior"]
    folders = sorted((models_dir / "dynamics").glob("*"))
    variants = [path for path in folders if (path / WEIGHTS).is_file() and _is_trained(path)]
    if not variants:
        raise MissingInputError("no dynamics model", file=models_dir / "dynamics", expected=f"<name>/{WEIGHTS}")
    return Stack(
        tokenizer=VideoTokenizer.restore(parts[0]),
        behavior=BehaviorModel.restore(parts[1]),
        dynamics={path.name: Dynamics.restore(path) for path in variants},
        digests={path.name: _digest([*parts, path]) for path in variants},
    )


def _is_trained(folder: Path) -> bool:
    """False for initial weights that are published for fine-tuning from scratch: there is nothing to evaluate."""
    record = folder / "training.json"
    return not record.is_file() or json.loads(record.read_text())["steps"] > 0


def _digest(folders: list[Path]) -> str:
    """First 16 hex digits of sha256 over the weights of all parts: a name, not a proof (MANIFEST.json is that)."""
    digest = hashlib.sha256()
    for folder in folders:
        digest.update(hashlib.sha256((folder / WEIGHTS).read_bytes()).digest())
    return digest.hexdigest()[:16]
