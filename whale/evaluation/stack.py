"""The models that act together, loaded from their folders; and a digest that names them in a protocol."""

import hashlib
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
    variants = sorted(path for path in (models_dir / "dynamics").glob("*") if (path / WEIGHTS).is_file())
    if not variants:
        raise MissingInputError("no dynamics model", file=models_dir / "dynamics", expected=f"<name>/{WEIGHTS}")
    return Stack(
        tokenizer=VideoTokenizer.restore(parts[0]),
        behavior=BehaviorModel.restore(parts[1]),
        dynamics={path.name: Dynamics.restore(path) for path in variants},
        digests={path.name: _digest([*parts, path]) for path in variants},
    )


def _digest(folders: list[Path]) -> str:
    """First 16 hex digits of sha256 over the weights of all parts: a name, not a proof (MANIFEST.json is that)."""
    digest = hashlib.sha256()
    for folder in folders:
        digest.update(hashlib.sha256((folder / WEIGHTS).read_bytes()).digest())
    return digest.hexdigest()[:16]
