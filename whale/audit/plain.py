"""Text of others as it may be shown: what a terminal would obey, and what hides or turns letters, stands as its code.

A signature says who wrote a statement, not that its words are harmless.
"""

import re
from collections.abc import Mapping
from typing import Any

# C0 and C1 controls, DEL, line and paragraph separators, marks that hide or turn what follows, lone surrogates.
OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
LINES = re.compile(f"(?![\n\t]){OBEYED.pattern}")


def plain(value: Any) -> Any:
    """`value` with every text in it on one line and harmless; numbers and None as they are."""
    if isinstance(value, str):
        return OBEYED.sub(_code, value)
    if isinstance(value, Mapping):
        return {plain(key): plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def plain_lines(text: str) -> str:
    """A text of several lines, harmless."""
    return LINES.sub(_code, text)


def _code(match: re.Match[str]) -> str:
    return ascii(match[0])[1:-1]
