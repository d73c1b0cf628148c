"""README and docs/: links lead somewhere, commands exist, every room and every page can be found."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from whale.cli import app

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]
)
MAX_README_LINES = 150
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?\)")
SHELL = re.compile(r"```(?:sh|console)\n(.*?)```", re.DOTALL)
TICKED = re.compile(r"`(whale [^`]+)`")
# Old words that readers stumbled over; what to say in their place.
INSTEAD = {"anew": "again", "held against": "compared with", "goes on at": "resumes", "is told from": "differs from"}


def parametrize_pages():
    return pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


@parametrize_pages()
def test_links_lead_to_files(page):
    assert not [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]


@parametrize_pages()
def test_pages_are_ascii_and_in_plain_words(page):
    text = page.read_bytes().decode("ascii")
    assert not [f"{old}: say {new}" for old, new in INSTEAD.items() if re.search(rf"\b{old}\b", text)]


def test_the_readme_is_short_and_has_one_block_of_metrics():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= MAX_README_LINES
    assert [text.count(f"<!-- metrics:{end} -->") for end in ("begin", "end")] == [1, 1]
    assert text.index("<!-- metrics:begin -->") < text.index("<!-- metrics:end -->")


def test_every_page_is_in_the_index_and_in_the_navigation():
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert set(re.findall(r"(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)) == pages
    index = (ROOT / "docs" / "index.md").read_text() + (ROOT / "docs" / "reference" / "api" / "index.md").read_text()
    assert not {page for page in pages - {"index.md"} if page.removeprefix("reference/api/") not in index}


def test_pages_that_code_names_are_there():
    named = {
        (path.relative_to(ROOT).as_posix(), page)
        for folder in ("whale", "pipelines", "tests", "profiles", "data_specs", "scripts", "benchmarks")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".yaml", ".txt")
        for page in re.findall(r"(?<![\w/:.])docs/[\w/.-]+\.(?:md|yaml)", path.read_text())
    }
    assert named and not {(path, page) for path, page in named if not (ROOT / page).is_file()}


def test_every_room_is_described_and_has_a_page_of_the_api():
    rooms = {path.parent.relative_to(ROOT) for path in (ROOT / "whale").glob("*/__init__.py")}
    described = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
    assert not {room.as_posix() for room in rooms if f"`{room.as_posix()}/" not in described}
    shown = {
        Path(*name.split("."))
        for page in (ROOT / "docs" / "reference" / "api").glob("*.md")
        for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
    }
    modules = {path.relative_to(ROOT).with_suffix("") for path in (ROOT / "whale").rglob("*.py")}
    hidden = {each for each in modules if each.name != "__init__" and not {each, *each.parents} & shown}
    assert not {each.as_posix() for each in hidden}


@parametrize_pages()
def test_commands_and_their_options_exist(page):
    wrong = {line: why for line in commands(page.read_text()) if (why := problem(shlex.split(line)[1:]))}
    assert not wrong


def commands(text: str) -> list[str]:
    """Every `whale ...` line of a shell block, and every one in backticks without a placeholder's brackets."""
    lines = [line.removeprefix("$ ") for block in SHELL.findall(text) for line in block.splitlines()]
    found = [line.split(" #")[0] for line in lines if line.startswith("whale ")]
    return found + [line for line in TICKED.findall(text) if not re.search(r"[|,\[\n']|\.\.\.", line)]


def problem(words: list[str]) -> str | None:
    """What `whale` would not understand; None if it would."""
    command = typer.main.get_command(app)
    while words and (below := getattr(command, "commands", None)) is not None:
        if words[0] not in below:
            return f"no command {words[0]}"
        command, words = below[words[0]], words[1:]
    known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)} | {"--help", "-h"}
    options = [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    return next((f"no option {each}" for each in options if each not in known), None)
