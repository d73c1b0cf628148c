"""What is the same code, and which definitions differ."""

import ast

import pytest

from whale.lineage.syntax import MODULE, changed_definitions, digest_of_source

CODE = b'''"""A module."""
RATE = 0.5


class Model:
    """Keeps a sum."""

    def __init__(self, start=1):
        self.total = start

    def add(self, value):
        """Add `value`."""
        double = value * 2
        self.total += double
        return self.total


def rate():
    return RATE
'''
SAME = {
    "comment": CODE.replace(b"    def add", b"    # why\n    def add"),
    "docstring edited": CODE.replace(b"Add `value`.", b"Add twice `value`."),
    "docstring removed": CODE.replace(b'        """Add `value`."""\n', b""),
    "docstring added": CODE.replace(b"def rate():\n", b'def rate():\n    """The rate."""\n'),
    "layout": CODE.replace(b"self, start=1", b"\n        self,\n        start=1,\n    ").replace(b"0.5", b"(0.50)"),
    "quotes": CODE.replace(b'"""A module."""', b"'A module.'"),
}
OTHER = {
    "constant": (CODE.replace(b"0.5", b"0.6"), [MODULE]),
    "default": (CODE.replace(b"start=1", b"start=2"), ["Model.__init__"]),
    "local variable": (CODE.replace(b"double", b"twice"), ["Model.add"]),
    "order": (
        CODE.replace(
            b"double = value * 2\n        self.total += double", b"self.total += double\n        double = value * 2"
        ),
        ["Model.add"],
    ),
    "removed": (CODE.replace(b"\n\ndef rate():\n    return RATE\n", b""), [MODULE, "rate"]),
    "added": (CODE + b"\n\ndef more():\n    return 1\n", [MODULE, "more"]),
    "base": (CODE.replace(b"class Model", b"class Model(dict)"), ["Model"]),
    "decorator": (CODE.replace(b"    def add", b"    @cache\n    def add"), ["Model.add"]),
}


@pytest.mark.parametrize("name", SAME)
def test_comments_docstrings_and_layout_are_no_code(name):
    assert SAME[name] != CODE and digest_of_source(SAME[name]) == digest_of_source(CODE)
    assert changed_definitions(CODE, SAME[name]) == []


@pytest.mark.parametrize("name", OTHER)
def test_any_other_edit_is_another_code_and_is_named(name):
    edited, names = OTHER[name]
    ast.parse(edited)
    assert digest_of_source(edited) != digest_of_source(CODE)
    assert changed_definitions(CODE, edited) == names


def test_of_two_definitions_with_one_name_the_one_that_differs_is_named():
    code = b"class A:\n    @property\n    def x(self): return 1\n    @x.setter\n    def x(self, value): pass\n"
    assert changed_definitions(code, code.replace(b"return 1", b"return 2")) == ["A.x"]
    assert changed_definitions(code, code.replace(b"pass", b"return")) == ["A.x (2)"]


def test_what_is_no_python_is_told_by_its_bytes():
    assert digest_of_source(b"def (") != digest_of_source(b"def  (")
