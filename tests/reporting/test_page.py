import pytest
from jinja2 import UndefinedError

from whale.reporting.page import Section, Tile, page, parts, render


def test_text_is_escaped_wherever_it_is_printed():
    evil = '<script>"&'
    html = page(evil, evil, parts.tiles([Tile(evil, evil, evil)]), [Section(evil, parts.paragraph(evil))], evil)
    html += str(parts.table([evil], [[evil]]) + parts.card(evil, evil) + parts.image(b"", "image/png", evil, 1, 1))
    assert "<script" not in html and html.count("&lt;script&gt;") == 15


def test_what_a_template_made_is_not_escaped_again():
    assert "<p" in parts.card(parts.paragraph("words"))


def test_a_name_that_a_template_lacks_is_an_error():
    with pytest.raises(UndefinedError):
        render("training.html", models=[])
