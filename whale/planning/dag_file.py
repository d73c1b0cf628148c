"""dvc.yaml against the import closure: a stage's code deps are the files that `pipelines/<stage>.py` reaches.

A folder of `whale/` whose every file is reached stands for its files: DVC reads and writes its whole lock file at each
stage, so that every dep less is time. A new file in such a folder that the stage does not reach unfolds it.

python -m whale.planning.dag_file [--write]
"""

import argparse
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

import yaml

from whale.common.files import write_atomically
from whale.lineage.closure import TEMPLATES, import_closure
from whale.pipeline_file import OUTLINE, PIPELINE, is_code, outline, stage_bodies

WIDTH = 120
DEPS = re.compile(r"( +)deps:.*")
STAGE = re.compile(r"  ([a-z_]+):")


@dataclass(frozen=True)
class Difference:
    """What the code deps of `stage` lack, and what they list in vain."""

    stage: str
    add: list[str]
    drop: list[str]

    def __str__(self) -> str:
        return f"{self.stage}: add {self.add}, drop {self.drop} (`make dag` does it)"


def compare(root: Path) -> list[Difference]:
    """One difference per stage whose code deps are not its closure."""
    found = []
    for name, body in stage_bodies(root / PIPELINE).items():
        expected = code_deps(root, name)
        listed = [dep for dep in body.get("deps", []) if is_code(dep)]
        add, drop = sorted(set(expected) - set(listed)), sorted(set(listed) - set(expected))
        if add or drop:
            found.append(Difference(name, add, drop))
    return found


def code_deps(root: Path, stage: str) -> list[str]:
    """The closure of `pipelines/<stage>.py`, its own file first, whole folders folded."""
    entry = Path("pipelines") / f"{stage}.py"
    if not (root / entry).is_file():
        return [entry.as_posix()]
    return [entry.as_posix(), *fold(root, set(import_closure(root, entry)) - {entry})]


def fold(root: Path, files: set[Path]) -> list[str]:
    """`files` (relative to `root`), sorted, with every folder below whale/ that holds nothing else in their place."""
    folders = sorted({parent for path in files for parent in path.parents if len(parent.parts) > 1})
    whole = [folder for folder in folders if _sources(root, folder) <= files]
    tops = [folder for folder in whole if not any(other in folder.parents for other in whole)]
    loose = {path for path in files if not any(folder in path.parents for folder in tops)}
    return sorted(path.as_posix() for path in {*tops, *loose})


def _sources(root: Path, folder: Path) -> set[Path]:
    """The code in `folder`, as .dvcignore leaves it to DVC; an empty __init__.py can change no result."""
    paths = (path for path in (root / folder).rglob("*") if path.is_file() and _is_code(path))
    return {path.relative_to(root) for path in paths if path.name != "__init__.py" or path.stat().st_size}


def _is_code(path: Path) -> bool:
    is_hidden = path.name.startswith(".") or "__pycache__" in path.parts
    return not is_hidden and (path.suffix == ".py" or path.parent.name == TEMPLATES)


def rewrite(text: str, root: Path) -> str:
    """dvc.yaml with the `deps` of every stage written anew: data as they were, then code; other lines stay as they are.

    Many to a line: what a stage reads and makes must not drown in the names of files.
    """
    stages = yaml.safe_load(text)["stages"]
    lines: list[str] = []
    stage, inside = "", ""
    for line in text.splitlines():
        if match := STAGE.fullmatch(line):
            stage = match[1]
        if inside and line.startswith((f"{inside}- ", f"{inside} ", f"{inside}]")):
            continue
        inside = ""
        if match := DEPS.fullmatch(line):
            inside = match[1]
            body = stages[stage].get("do", stages[stage])
            data = [dep for dep in body["deps"] if not is_code(dep)]
            lines += _paragraphs(inside, data, code_deps(root, stage))
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


def _paragraphs(indent: str, *groups: list[str]) -> list[str]:
    """`deps` as one flow list, each group beginning a line, the first behind the word itself."""
    lines: list[str] = []
    for group in filter(None, groups):
        words = [f'"{each}",' if "$" in each else f"{each}," for each in group]
        first = f"{indent}  " if lines else f"{indent}deps: ["
        lines += textwrap.wrap(" ".join(words), WIDTH, initial_indent=first, subsequent_indent=f"{indent}  ",
                               break_long_words=False, break_on_hyphens=False)  # fmt: skip
    lines[-1] = lines[-1].removesuffix(",") + "]"
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="rewrite dvc.yaml, and its outline for the report")
    root = Path.cwd()
    if parser.parse_args().write:
        write_atomically(PIPELINE, rewrite(PIPELINE.read_text(), root).encode())
        write_atomically(OUTLINE, outline(PIPELINE).encode())
    for difference in compare(root):
        print(difference)


if __name__ == "__main__":
    main()
