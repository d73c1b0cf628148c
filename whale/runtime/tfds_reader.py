"""Episodes as TensorFlow Datasets gives them: a witness for our own reader of RLDS, used by no stage."""

from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from whale.common.errors import ConfigError


class TfdsReader:
    """ConfigError without the extra `rlds-tf`; whatever TFDS raises of the files otherwise."""

    def __init__(self, directory: Path):
        try:
            self.version = version("tensorflow-datasets")
            import tensorflow_datasets as tfds
        except (PackageNotFoundError, ImportError):
            remedy = "install the extra `rlds-tf`, here or where the raw data lie"
            raise ConfigError("RLDS has no second reader here", found="no tensorflow_datasets", remedy=remedy) from None
        self._numpy = tfds.as_numpy
        self._builder = tfds.builder_from_directory(str(directory))
        steps = self._builder.info.features["steps"].feature
        self._decoders = {"steps": _undecoded(steps, tfds.features.Image, tfds.decode.SkipDecoding)}

    def count(self, split: str) -> int:
        """Episodes of a split of the source."""
        return int(self._builder.info.splits[split].num_examples)

    def episode(self, split: str, ordinal: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """(steps, what stands outside of them), names flattened with `/`; pictures are encoded as they are stored.

        TensorFlow's own decoder takes a faster transform: about 2 grey levels off, more than is to be found.
        """
        only = f"{split}[{ordinal}:{ordinal + 1}]"
        dataset = self._builder.as_dataset(split=only, shuffle_files=False, decoders=self._decoders)
        (episode,) = self._numpy(dataset)
        steps = [_flat(step) for step in episode.pop("steps")]
        return steps, _flat(episode)


def _undecoded(features: Any, image: type, skip: Callable[[], object]) -> dict[str, Any]:
    """`skip()` at the place of every picture; `features`: a dict of TFDS, which is no Mapping."""
    tree: dict[str, Any] = {}
    for name, feature in features.items():
        if isinstance(feature, image):
            tree[name] = skip()
        elif hasattr(feature, "items") and (below := _undecoded(feature, image, skip)):
            tree[name] = below
    return tree


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}/")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
