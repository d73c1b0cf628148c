"""Docstrings are plain text: shapes such as [B, T][N], <name> and *.tar are no Markdown. A griffe extension of the API
reference (mkdocs.yml) that says so; what stands in backticks, in tables and in indented blocks stays as it is.
"""

import re
from typing import Any

from griffe import Extension, Object

CODE = re.compile(r"(`+.+?`+)", re.DOTALL)
MARKUP = re.compile(r"([\\<\[\]*_#])")


class PlainText(Extension):
    """Escapes what Markdown would take for markup."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = plain(obj.docstring.value)


def plain(text: str) -> str:
    """Paragraph by paragraph; one that is indented is code."""
    paragraphs = re.split(r"(\n\s*\n)", text)
    return "".join(each if each.startswith(("    ", "|")) else _escaped(each) for each in paragraphs)


def _escaped(paragraph: str) -> str:
    pieces = CODE.split(paragraph)
    return "".join(piece if piece.startswith("`") else MARKUP.sub(r"\\\1", piece) for piece in pieces)
