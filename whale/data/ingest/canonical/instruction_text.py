"""Words of an episode: instructions and metadata are data, never markup, a path or code.

Anything that is not clean UTF-8 of a bounded size is refused with the reason `unsafe`.
"""

import unicodedata
from collections.abc import Mapping
from typing import Any

import numpy as np

from whale.common.json_files import canonical_json
from whale.common.limits import LANGUAGE_CHARACTERS, METADATA_BYTES
from whale.data.spec.episode import EpisodeError, RawEpisode
from whale.data.spec.spec import Language


def instruction(raw: RawEpisode, language: Language, steps: slice) -> tuple[str, bool]:
    """The instruction of the first kept step, and whether it varies within the episode."""
    if language.key is None:
        return "", False
    if language.scope == "episode":
        if language.key not in raw.metadata:
            hint = ": it is a step feature, language.scope: step" if language.key in raw.steps else ""
            raise EpisodeError("missing_key", f"no metadata '{language.key}' of the episode{hint}")
        values: Any = [raw.metadata[language.key]]
    else:
        if language.key not in raw.steps:
            hint = ": it belongs to the episode, language.scope: episode" if language.key in raw.metadata else ""
            raise EpisodeError("missing_key", f"no step feature '{language.key}'{hint}")
        values = raw.steps[language.key][steps]
    if language.encoding == "utf8":
        return clean_text(values[0], language.key), any(value != values[0] for value in values)
    return _from_code_points(values[0], language.key), bool((np.asarray(values) != values[0]).any())


def _from_code_points(points: np.ndarray, key: str) -> str:
    """int32 (512,) of Unicode code points, zero padded -> text up to the first zero."""
    length = int(np.argmax(np.append(points, 0) == 0))
    try:
        return clean_text("".join(map(chr, points[:length])).encode(), key)
    except (ValueError, OverflowError):
        raise EpisodeError("unsafe", f"'{key}' holds a number that is no code point") from None


def clean_text(value: bytes, key: str) -> str:
    """UTF-8 without control characters: text is data, never markup or a path."""
    try:
        text = value.decode()
    except (UnicodeDecodeError, AttributeError):
        raise EpisodeError("unsafe", f"'{key}' is not UTF-8 text: {value!r:.60}") from None
    if len(text) > LANGUAGE_CHARACTERS:
        raise EpisodeError("unsafe", f"'{key}' has {len(text)} characters, at most {LANGUAGE_CHARACTERS}")
    if any(unicodedata.category(letter) == "Cc" and letter not in "\t\n\r" for letter in text):
        raise EpisodeError("unsafe", f"'{key}' holds control characters: {text[:60]!r}")
    return text


def flat_metadata(metadata: Mapping[str, object], language_varies: bool) -> dict[str, object]:
    """Flat JSON: `episode_metadata/` is dropped from names, byte strings that are no text (images) are left out."""
    flat: dict[str, object] = {"language_varies": True} if language_varies else {}
    for name, value in metadata.items():
        plain = _plain(value)
        if plain is not None:
            flat[name.removeprefix("episode_metadata/")] = plain
    if len(canonical_json(flat)) > METADATA_BYTES:
        raise EpisodeError("unsafe", f"episode metadata larger than {METADATA_BYTES} bytes")
    return flat


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return None
    array = np.asarray(value)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return None
    return array.tolist()
