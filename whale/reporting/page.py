"""The one HTML page: no network, no script, no font file. Words and layout stand in templates/, numbers come from here.

Jinja escapes every text that a template prints; only what a template itself made (Markup) passes as it is.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from whale.common.printable import printable

TEMPLATES = Path(__file__).parent / "templates"
NOT_MEASURED = "\u2013"  # a dash


@dataclass(frozen=True)
class Section:
    """`title` becomes heading, anchor and entry of the contents."""

    title: str
    body: Markup


@dataclass(frozen=True)
class Tile:
    """A key figure; `is_worse`: than the baseline that `note` names."""

    value: object
    label: str
    note: str = ""
    is_worse: bool = False


def page(
    title: str, lead: str, first: Markup, sections: Sequence[Section], closing: str, is_folded: bool = False
) -> str:
    """The whole document: `first` is what it opens with, the sections stand or fold away below it."""
    style = Markup((TEMPLATES / "page.css").read_text(encoding="utf-8"))
    return str(
        render(
            "page.html",
            title=title,
            lead=lead,
            first=first,
            is_folded=is_folded,
            sections=sections,
            closing=closing,
            style=style,
        )
    )


def render(template: str, **values: Any) -> Markup:
    """A template of templates/ filled in; a name that it uses and `values` lacks is an error."""
    return Markup(_ENVIRONMENT.get_template(template).render(values))


def macros(template: str) -> Any:
    """The macros of a template, as functions that return Markup."""
    return _ENVIRONMENT.get_template(template).module


def number(value: object, digits: int = 2) -> str:
    """A number for people; a dash for what was not measured."""
    if value is None:
        return NOT_MEASURED
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value) if isinstance(value, int) else f"{value:.{digits}f}"
    return str(value)


def anchor(title: str) -> str:
    """The name under which a heading is linked to."""
    return "".join(letter if letter.isalnum() else "-" for letter in title.lower())


def _base64(payload: bytes) -> str:
    return base64.b64encode(payload).decode("ascii")


def _shown(value: object) -> object:
    """Text without controls and bidirectional marks; what a template made passes."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
    lstrip_blocks=True, finalize=_shown,
)  # fmt: skip
_ENVIRONMENT.filters |= {"anchor": anchor, "base64": _base64}
parts = macros("parts.html")  # table, card, image, ...: for pages that are put together in Python
