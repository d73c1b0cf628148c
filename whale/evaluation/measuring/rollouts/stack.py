"""The models that act together, loaded from their folders; and a digest that names them in a protocol."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from whale.common.errors import ConfigError, MissingInputError
from whale.common.files import MANIFEST_NAME, WEIGHTS, sha256_of_file
from whale.common.json_files import read_json
from whale.evaluation.measuring.rollouts.heldout import Dataset
from whale.evaluation.numbers.protocol import PARTS, model_name
from whale.models.behavior.behavior import BehaviorModel
from whale.models.dynamics.dynamics import Dynamics
from whale.models.tokenizer.tokenizer import VideoTokenizer
from whale.models.world.actions import ActionMap
from whale.models.world.learned import LearnedWorld


@dataclass(frozen=True)
class Stack:
    """One tokenizer and one behavior model, dynamics variants by name, and the digest of each variant's weights.

    `weights`: variant -> part -> sha256 of its weights and of its MANIFEST.json (null if it has none): full names, for
    files that must say which checkpoint they speak of.
    """

    tokenizer: VideoTokenizer
    behavior: BehaviorModel
    dynamics: Mapping[str, Dynamics]
    digests: Mapping[str, str]
    weights: Mapping[str, Mapping[str, Mapping[str, str | None]]]

    def world(self, name: str, dataset: Dataset) -> LearnedWorld:
        """Tokenizer, prior and one dynamics, for the raw actions of one dataset; ConfigError for an unknown name."""
        if name not in self.dynamics:
            raise ConfigError("no such trained dynamics", place="dynamics", found=name, expected=sorted(self.dynamics))
        return LearnedWorld(
            self.tokenizer, self.behavior, self.dynamics[name], dataset.window, ActionMap.of(dataset.normalizer)
        )

    def only(self, names: Collection[str] | None) -> Self:
        """With those dynamics alone that are among `names`; None: with all. ConfigError where that is none."""
        if names is None:
            return self
        if not (kept := [name for name in self.dynamics if name in names]):
            raise ConfigError("no such trained dynamics", place="models", found=sorted(names),
                              expected=f"some of {sorted(self.dynamics)}")  # fmt: skip
        parts: dict[str, Any] = {
            part: {name: getattr(self, part)[name] for name in kept} for part in ("dynamics", "digests", "weights")
        }
        return replace(self, **parts)


def load_stack(models_dir: Path, device: str = "cpu") -> Stack:
    """`<models_dir>/tokenizer`, `behavior` and every `dynamics/<name>` onto `device`; below `models/finetuned`, too."""
    parts = [models_dir / "tokenizer", models_dir / "behavior"]
    folders = sorted((models_dir / "dynamics").glob("*"))
    variants = [path for path in folders if (path / WEIGHTS).is_file() and _is_trained(path)]
    if not variants:
        raise MissingInputError("no dynamics model", file=models_dir / "dynamics", expected=f"<name>/{WEIGHTS}")
    shared = {path.name: _identity(path) for path in parts}
    weights = {path.name: {**shared, "dynamics": _identity(path)} for path in variants}
    return Stack(
        tokenizer=VideoTokenizer.restore(parts[0], device),
        behavior=BehaviorModel.restore(parts[1], device),
        dynamics={path.name: Dynamics.restore(path, device) for path in variants},
        digests={
            name: model_name(str(identities[part]["weights"]) for part in PARTS) for name, identities in weights.items()
        },
        weights=weights,
    )


def _is_trained(folder: Path) -> bool:
    """False for initial weights that are published for fine-tuning from scratch: there is nothing to evaluate."""
    record = folder / "training.json"
    return not record.is_file() or read_json(record)["steps"] > 0


def _identity(folder: Path) -> dict[str, str | None]:
    manifest = folder / MANIFEST_NAME
    return {
        "weights": sha256_of_file(folder / WEIGHTS),
        "manifest": sha256_of_file(manifest) if manifest.is_file() else None,
    }
