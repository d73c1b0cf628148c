"""dvc.yaml: the one reader of the pipeline's stages, of the data they read and the folders they make.

Only what dvc.yaml uses is understood: `foreach: ${a.b}` over a mapping; `${profile}`, `${key}`, `${item.x}` in paths.
DVC refuses dvc.yaml as a dep, so the report reads its outline, which `make dag` writes: the same file without commands,
code and params.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from whale.common.config import load_yaml
from whale.common.errors import ConfigError
from whale.common.stage_args import node_name

TEMPLATE = re.compile(r"\$\{([a-z_.]+)\}")
CODE_FOLDERS = ("pipelines/", "whale/")
PIPELINE = Path("dvc.yaml")
OUTLINE = Path("docs/pipeline.yaml")
OUTLINE_HEADER = "# The data flow of dvc.yaml, for the report; written by `make dag`, compared by tests/test_dag.py.\n"


@dataclass(frozen=True)
class Node:
    """One stage, or one item of a foreach stage. `reads`: data, not code; `makes`: outputs and metrics files."""

    stage: str
    item: str | None
    reads: tuple[str, ...]
    makes: tuple[str, ...]

    @property
    def name(self) -> str:
        """As DVC names it."""
        return node_name(self.stage, self.item)


def is_code(dep: str) -> bool:
    """Code deps are files of the import closure, or folders that lie in it whole."""
    return dep.startswith(CODE_FOLDERS)


def stage_bodies(path: Path) -> dict[str, dict[str, Any]]:
    """{stage: its entry in a dvc.yaml}, `do` of a foreach stage unwrapped."""
    return {name: body.get("do", body) for name, body in load_yaml(path)["stages"].items()}


def expand(document: Mapping[str, Any], params: Mapping[str, Any]) -> list[Node]:
    """Every node, in the order of dvc.yaml. Raises ConfigError for a template that params.yaml does not fill."""
    nodes: list[Node] = []
    for stage, body in document["stages"].items():
        if "foreach" not in body:
            nodes.append(_node(stage, None, body, params))
            continue
        for key, item in _look_up(body["foreach"].strip("${}"), params, stage).items():
            nodes.append(_node(stage, str(key), body["do"], {**params, "key": key, "item": item}))
    return nodes


def position(name: str, root: Path) -> tuple[int, int] | None:
    """(7, 30) for the 7th of 30 nodes, in the order in which DVC runs them; None where `root` has no such node.

    Both files are read by the C parser, for a stage asks this as it starts: 10 ms instead of 150.
    """
    document, params = (_read(root / file) for file in ("dvc.yaml", "params.yaml"))
    names = [node.name for node in expand(document, params)] if document and params else []
    return (names.index(name) + 1, len(names)) if name in names else None


def _read(path: Path) -> Any:
    """A file that DVC has just read, too."""
    return yaml.CSafeLoader(path.read_bytes()).get_single_data() if path.is_file() else None


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
    for name, entry in load_yaml(path)["stages"].items():
        body = entry.get("do", entry)
        inner = {key: body[key] for key in ("desc", "outs", "metrics") if key in body}
        if data := [dep for dep in body.get("deps", []) if not is_code(dep)]:
            inner["deps"] = data
        stages[name] = {"foreach": entry["foreach"], "do": inner} if "foreach" in entry else inner
    return OUTLINE_HEADER + yaml.safe_dump({"stages": stages}, sort_keys=False, width=120)


def _node(stage: str, item: str | None, body: Mapping[str, Any], values: Mapping[str, Any]) -> Node:
    reads = [dep for dep in body.get("deps", []) if not is_code(dep)]
    makes = [*body.get("outs", []), *body.get("metrics", [])]
    return Node(stage, item, _fill(reads, values, stage), _fill(makes, values, stage))


def _fill(paths: Iterable[str], values: Mapping[str, Any], stage: str) -> tuple[str, ...]:
    return tuple(TEMPLATE.sub(lambda match: str(_look_up(match[1], values, stage)), path) for path in paths)


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
