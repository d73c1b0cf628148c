"""The one way JSON is written: equal values give equal bytes."""

import hashlib
import json
from pathlib import Path

from whale.common.files import write_atomically


def canonical_json(value: object) -> str:
    """Sorted keys, no spaces, ASCII, no NaN: what digests and signatures are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def pretty_json(value: object) -> bytes:
    """For files that people read: sorted keys, two spaces, ASCII, no NaN, a newline at the end."""
    return (json.dumps(value, sort_keys=True, indent=2, ensure_ascii=True, allow_nan=False) + "\n").encode()


def write_json(path: Path, value: object) -> str:
    """`pretty_json` of `value` as the whole content of `path`; returns the sha256 of its bytes."""
    payload = pretty_json(value)
    write_atomically(path, payload)
    return hashlib.sha256(payload).hexdigest()
