"""dvc.yaml: the one reader of the pipeline's stages, of the data they read and the folders they make.

Only what dvc.yaml uses is understood: `foreach: ${a.b}` over a mapping; `${profile}`, `${key}`, `${item.x}` in paths.
What fills them are names: no path leaves its place by them, and were one in a command, it could be no other command.
DVC refuses dvc.yaml as a dep, so the report reads its outline, which `make dag` writes: the same file without commands,
code and params.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from whale.common.config import load_sections
from whale.common.errors import ConfigError
from whale.common.printable import one_line, shown
from whale.common.stage_args import node_name

TEMPLATE = re.compile(r"\$\{([a-z_.]+)\}")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")
PATHS = {"item.raw"}  # where raw data lie is a person's path
CODE_FOLDERS = ("pipelines/", "whale/")
STAGE = "{cmd, meta: {input: path}, deps: [path], outs: [path], metrics: [path]}, for a foreach stage below `do`"
PARTS = ("deps", "outs", "metrics", "meta")
PIPELINE = Path("dvc.yaml")
OUTLINE = Path("docs/pipeline.yaml")
OUTLINE_HEADER = "# The data flow of dvc.yaml, for the report; written by `make dag`, compared by tests/test_dag.py.\n"


@dataclass(frozen=True)
class Node:
    """One stage, or one item of a foreach stage. `reads`: data, not code; `makes`: outputs and metrics files;
    `arguments`: what it is started with."""

    stage: str
    item: str | None
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    arguments: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As DVC names it."""
        return node_name(self.stage, self.item)


def is_code(dep: str) -> bool:
    """Code deps are files of the import closure, or folders that lie in it whole."""
    return dep.startswith(CODE_FOLDERS)


def stage_bodies(path: Path) -> dict[str, dict[str, Any]]:
    """{stage: its entry in a dvc.yaml}, `do` of a foreach stage unwrapped."""
    return {name: body.get("do", body) for name, body in _stages(load_sections(path), path).items()}


@cache
def description(root: Path, stage: str) -> str:
    """A stage's `desc`, empty without any. Kept: whale/run.py asks before anybody listens to what is opened."""
    bodies = stage_bodies(root / PIPELINE) if (root / PIPELINE).is_file() else {}
    return str(bodies.get(stage, {}).get("desc", ""))


def expand(document: Mapping[str, Any], params: Mapping[str, Any]) -> list[Node]:
    """Every node, in the order of dvc.yaml. Raises ConfigError for a template that params.yaml does not fill, or fills
    with what is no name."""
    nodes: list[Node] = []
    for stage, body in _stages(document, PIPELINE).items():
        if "foreach" not in body:
            nodes.append(_node(stage, None, body, params))
            continue
        section = body["foreach"].strip("${}")
        items = _look_up(section, params, stage)
        if not isinstance(items, Mapping):
            found = type(items).__name__
            raise ConfigError("not a mapping", file="params.yaml", place=section, found=found, expected="name: values")
        for key, item in items.items():
            _require_name(key, f"{section}, a key")
            nodes.append(_node(stage, str(key), body["do"], {**params, "key": key, "item": item}))
    return nodes


def nodes_of(root: Path) -> list[Node]:
    """Every node of the project in `root`; none where it has no dvc.yaml or no params.yaml."""
    files = [root / "dvc.yaml", root / "params.yaml"]
    if not all(file.is_file() for file in files):
        return []
    return expand(*map(load_sections, files))


def position(name: str, nodes: Sequence[Node]) -> tuple[int, int] | None:
    """(7, 30) for the 7th of 30 nodes, in the order of dvc.yaml; None where there is no such node."""
    names = [node.name for node in nodes]
    return (names.index(name) + 1, len(names)) if name in names else None


def _stages(document: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    stages = document.get("stages")
    if not isinstance(stages, Mapping):
        raise ConfigError("not a pipeline", file=path, place="stages", found=type(stages).__name__, expected=STAGE)
    for name, entry in stages.items():
        body = entry.get("do", entry) if isinstance(entry, Mapping) else None
        is_body = body is not None and isinstance(body, Mapping) and isinstance(entry.get("foreach", ""), str)
        if body is None or not is_body or not all(_are_texts(body.get(each)) for each in PARTS):
            raise ConfigError("not a stage", file=path, place=f"stages.{name}", found=shown(body), expected=STAGE)
    return stages


def _are_texts(value: object) -> bool:
    """Nothing, a list of texts, or texts by name."""
    texts = list(value.values()) if isinstance(value, Mapping) else [] if value is None else value
    return isinstance(texts, list) and all(isinstance(each, str) for each in texts)


def upstream(nodes: Iterable[Node]) -> dict[str, list[str]]:
    """{node: nodes that make something it reads}; a folder counts for all that lies in it, and the other way round."""
    nodes = list(nodes)
    return {
        node.name: [
            other.name
            for other in nodes
            if other.name != node.name and any(_overlap(read, made) for read in node.reads for made in other.makes)
        ]
        for node in nodes
    }


def outline(path: Path) -> str:
    """The text of OUTLINE for the dvc.yaml at `path`: what `expand` reads, and what each stage is for."""
    stages = {}
    for name, entry in _stages(load_sections(path), path).items():
        body = entry.get("do", entry)
        inner = {key: body[key] for key in ("desc", "outs", "metrics") if key in body}
        if data := [dep for dep in body.get("deps", []) if not is_code(dep)]:
            inner["deps"] = data
        stages[name] = {"foreach": entry["foreach"], "do": inner} if "foreach" in entry else inner
    return OUTLINE_HEADER + yaml.safe_dump({"stages": stages}, sort_keys=False, width=120)


def _node(stage: str, item: str | None, body: Mapping[str, Any], values: Mapping[str, Any]) -> Node:
    reads = [dep for dep in body.get("deps") or [] if not is_code(dep)]
    outs, metrics = (_fill(body.get(name) or [], values, stage) for name in ("outs", "metrics"))
    return Node(stage, item, _fill(reads, values, stage), (*outs, *metrics), _arguments(stage, item, body, values))


def _arguments(stage: str, item: str | None, body: Mapping[str, Any], values: Mapping[str, Any]) -> tuple[str, ...]:
    """As on a command line: --item, each input that `meta` names, --out, --metrics (a second output)."""
    inputs = body.get("meta") or {}
    made = dict(zip(("out", "metrics"), [*(body.get("outs") or []), *(body.get("metrics") or [])], strict=False))
    named = {**inputs, **made}
    filled = _fill(named.values(), values, stage)
    words = [word for name, path in zip(named, filled, strict=True) for word in (f"--{name}", path)]
    return (stage, *(["--item", item] if item is not None else []), *words)


def _fill(paths: Iterable[str], values: Mapping[str, Any], stage: str) -> tuple[str, ...]:
    def value(match: re.Match[str]) -> str:
        found = _look_up(match[1], values, stage)
        place = f"{stage}@{values['key']}: {match[1]}" if match[1].startswith("item.") else match[1]
        return _require_path(found, place) if match[1] in PATHS else _require_name(found, place)

    return tuple(TEMPLATE.sub(value, str(path)) for path in paths)


def _require_name(value: object, place: str) -> str:
    """What stands in paths and is the name of a stage's item."""
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not NAME.fullmatch(text):
        raise ConfigError("not a name", file="params.yaml", place=place, found=shown(value),
                          expected="small letters, digits, _ and -, a letter or digit first")  # fmt: skip
    return text


def _require_path(value: object, place: str) -> str:
    if not isinstance(value, str) or not value or value.startswith("-") or one_line(value) != value:
        raise ConfigError("not a path", file="params.yaml", place=place, found=shown(value),
                          expected="a path of visible characters that does not begin with -")  # fmt: skip
    return value


def _look_up(dotted: str, values: Mapping[str, Any], stage: str) -> Any:
    found: Any = values
    for key in dotted.split("."):
        if not isinstance(found, Mapping) or key not in found:
            raise ConfigError(
                "dvc.yaml asks for a value that is not there", file="params.yaml", place=dotted, found=f"stage {stage}"
            )
        found = found[key]
    return found


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")
