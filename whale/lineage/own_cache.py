"""Caches that are no authority: what another has written is not read.

A cache decides what is not read again, so whoever can write into it could hide a change. Each carries a MAC under a
secret of this machine, which lies outside of the project. One without it, or whose MAC does not hold, is as good as
absent: it costs time and nothing else. Where no secret can be kept (a home that is read-only) nothing is remembered.
"""

import hmac
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whale.common.errors import BadDataError
from whale.common.files import write_atomically
from whale.common.json_files import canonical_json, parse_json, remembered
from whale.lineage.keys import mac


def recall(path: Path | None) -> dict[str, Any]:
    """What `remember` wrote on this machine; empty where the file is absent, torn or not ours."""
    rows = remembered(path)
    text, said = rows.get("kept"), rows.get("mac")
    if path is None or not isinstance(text, str) or not isinstance(said, str):
        return {}
    own = mac(path.name, text.encode("utf-8", "replace"))
    if own is None or not hmac.compare_digest(own.encode(), said.encode("utf-8", "replace")):
        return {}
    try:
        found = parse_json(text, path)
    except BadDataError:
        return {}
    return found if isinstance(found, dict) else {}


def remember(path: Path, rows: Mapping[str, Any]) -> None:
    """Write `rows` for this machine alone; nothing where it has no secret."""
    text = canonical_json(dict(rows))
    if (own := mac(path.name, text.encode())) is not None:
        write_atomically(path, json.dumps({"kept": text, "mac": own}).encode(), lasts=False)
