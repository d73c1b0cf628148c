"""The one HTML page: escaping, the frame around the sections, and its style. No network, no script, no font file.

Text reaches the page through `text` or through a function here that calls it; nothing else may hold user data.
"""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass

STYLE = """
:root{--bg:#fbfaf7;--card:#fff;--ink:#1d2126;--soft:#626a73;--line:#e3e0d8;--accent:#1f6f8b;--warm:#c8722c;
--good:#3b7d4f;--c0:#1f6f8b;--c1:#c8722c;--c2:#6b8f3a;--c3:#8a5a9e;--c4:#b3475a;--c5:#7d7466}
@media(prefers-color-scheme:dark){:root{--bg:#14171a;--card:#1b1f23;--ink:#e6e4df;--soft:#98a0a8;--line:#30363c;
--accent:#69b7d1;--warm:#e5a066;--good:#86c494;--c0:#69b7d1;--c1:#e5a066;--c2:#a9c878;--c3:#c59ad6;--c4:#e58c9b;--c5:#b5aa98}}
*{box-sizing:border-box}html{scroll-behavior:smooth}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main,header,footer{max-width:1080px;margin:0 auto;padding:0 20px}
header{padding-top:56px}h1{font-size:2.1rem;line-height:1.15;margin:0 0 10px;letter-spacing:-.02em;font-weight:650}
h2{font-size:1.35rem;margin:56px 0 6px;letter-spacing:-.01em;font-weight:640}
h3{font-size:1rem;margin:26px 0 8px;font-weight:620}p{max-width:72ch;margin:6px 0 14px}
.soft,figcaption,.note{color:var(--soft)}.note,figcaption{font-size:.86rem}
nav{display:flex;flex-wrap:wrap;gap:4px 18px;margin:18px 0 0;font-size:.92rem}
a{color:var(--accent);text-decoration:none}a:hover{text-decoration:underline}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:12px;margin:28px 0 0}
.tile,.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:14px 16px}
.tile b{display:block;font-size:1.55rem;font-weight:640;letter-spacing:-.02em;font-variant-numeric:tabular-nums}
.tile span{display:block;font-size:.86rem}.tile .note{margin-top:2px}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,310px),1fr));gap:14px}
.wide{overflow-x:auto;-webkit-overflow-scrolling:touch}figure{margin:0}figure+figure{margin-top:14px}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;padding:6px 12px 6px 0;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;color:var(--soft);font-size:.82rem}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
td.n{white-space:nowrap}.best{color:var(--good);font-weight:620}
code{font:.84em ui-monospace,SFMono-Regular,Menlo,monospace;overflow-wrap:anywhere}
img{max-width:none;image-rendering:pixelated;display:block;border-radius:4px}
.strip{display:grid;grid-template-columns:84px max-content;gap:4px 10px;align-items:center;font-size:.8rem;
color:var(--soft)}.gifs{display:flex;flex-wrap:wrap;gap:18px}.gifs figure{margin:0}
.films{grid-template-columns:minmax(0,1fr)}
.pairs{grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr))}
.wide+.cards{margin-top:18px}.beside{display:flex;flex-wrap:wrap;gap:16px 28px;align-items:end}.beside>*{min-width:0}
svg{display:block;max-width:100%;height:auto}svg text{font:11px system-ui,-apple-system,sans-serif;fill:var(--soft)}
svg .ink{fill:var(--ink)}.legend{display:flex;flex-wrap:wrap;gap:2px 14px;font-size:.8rem;color:var(--soft)}
.legend i{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:5px;vertical-align:-1px}
details{margin:8px 0}summary{cursor:pointer;color:var(--accent);font-size:.9rem}
footer{color:var(--soft);font-size:.84rem;padding-top:44px;padding-bottom:60px}
@media(max-width:560px){header{padding-top:34px}h1{font-size:1.6rem}h2{margin-top:42px}}
""".strip()


@dataclass(frozen=True)
class Section:
    """`body` is finished HTML; `title` is text and becomes heading, anchor and entry of the contents."""

    title: str
    body: str


def text(value: object) -> str:
    """Any value as escaped text."""
    return html.escape(str(value), quote=True)


def page(title: str, lead: str, tiles: str, sections: Sequence[Section], closing: str) -> str:
    """The whole document. `tiles` is finished HTML, the rest is text."""
    links = "".join(f'<a href="#{_anchor(section.title)}">{text(section.title)}</a>' for section in sections)
    parts = "\n".join(
        f'<section id="{_anchor(section.title)}"><h2>{text(section.title)}</h2>\n{section.body}</section>'
        for section in sections
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        f"<style>{STYLE}</style></head>\n<body><header><h1>{text(title)}</h1><p class=soft>{text(lead)}</p>\n"
        f"<nav>{links}</nav>{tiles}</header>\n<main>{parts}</main>\n<footer>{text(closing)}</footer></body></html>\n"
    )


def tile(value: object, label: object, note: object = "") -> str:
    """A key figure."""
    return f'<div class=tile><b>{text(value)}</b><span>{text(label)}</span><span class="note">{text(note)}</span></div>'


def tiles(items: Sequence[str]) -> str:
    return f"<div class=tiles>{''.join(items)}</div>"


def paragraph(value: object, css: str = "") -> str:
    return f'<p class="{css}">{text(value)}</p>'


def heading(value: object) -> str:
    return f"<h3>{text(value)}</h3>"


def card(body: str, title: object = "") -> str:
    """A framed block of finished HTML."""
    top = f"<h3 style='margin-top:0'>{text(title)}</h3>" if title else ""
    return f"<div class=card>{top}{body}</div>"


def cards(items: Sequence[str], css: str = "") -> str:
    return f'<div class="cards {css}">{"".join(items)}</div>'


def wide(body: str) -> str:
    """Scrolls sideways by itself on a narrow screen."""
    return f"<div class=wide>{body}</div>"


def table(header: Sequence[object], rows: Sequence[Sequence[object]], num_text_columns: int = 1) -> str:
    """The first `num_text_columns` columns are text, the others numbers (right-aligned)."""
    css = ["" if index < num_text_columns else " class=n" for index in range(len(header))]
    head = "".join(f"<th{c}>{text(cell)}</th>" for c, cell in zip(css, header, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{c}>{text(cell)}</td>" for c, cell in zip(css, row, strict=True)) + "</tr>"
        for row in rows
    )
    return wide(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")


def image(payload: bytes, mime: str, alt: object, width: int, height: int) -> str:
    """An image inside the page; `width` and `height` in CSS pixels."""
    data = base64.b64encode(payload).decode("ascii")
    return f'<img src="data:{mime};base64,{data}" alt="{text(alt)}" width="{width}" height="{height}">'


def number(value: object, digits: int = 2) -> str:
    """A number for people; a dash for what was not measured."""
    if value is None:
        return "\u2013"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value) if isinstance(value, int) else f"{value:.{digits}f}"
    return str(value)


def _anchor(title: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in title.lower())
