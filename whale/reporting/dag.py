"""The pipeline as a picture: dvc.yaml -> stages and arrows -> inline SVG, and what lies upstream of a stage.

Stages under foreach or matrix are one box. A stage depends on another if one of its deps lies in, or holds, one of the
other's outs. Names are filled in from params.yaml; what stays unknown stands for any one name.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whale.common.config import load_yaml
from whale.reporting.html import text

BOX_W, BOX_H, GAP_X, GAP_Y = 150, 34, 22, 40
BEND, BEND_W = "|", 8  # where a long arrow crosses a layer
SWEEPS = 5


@dataclass(frozen=True)
class StageNode:
    """`many`: it stands for several, one per entry of a foreach."""

    name: str
    desc: str
    many: bool
    deps: tuple[str, ...]
    outs: tuple[str, ...]


def read_stages(path: Path, params: Path | None = None) -> list[StageNode]:
    """Stages of a dvc.yaml in its order; `${...}` is looked up in `params` (params.yaml)."""
    stages = (load_yaml(path) or {}).get("stages", {})
    values = load_yaml(params) if params is not None and params.is_file() else {}
    return [_node(name, entry, values) for name, entry in stages.items()]


def arrows(stages: list[StageNode]) -> list[tuple[str, str]]:
    """(maker, user) pairs, sorted; what is implied by a longer way is left out."""
    direct = {
        (maker.name, user.name)
        for maker in stages
        for user in stages
        if maker is not user and any(_touch(out, dep) for out in maker.outs for dep in user.deps)
    }
    return sorted(edge for edge in direct if not _has_detour(edge, direct))


def draw(stages: list[StageNode]) -> str:
    """Boxes in layers from top to bottom; the tooltip of a box is its `desc`."""
    steps, rows = _layers(stages, arrows(stages))
    place = _places(rows)
    width = max(x + _width(name) for name, (x, _) in place.items()) + GAP_X
    height = len(rows) * (BOX_H + GAP_Y) - GAP_Y + 10
    lines = "".join(_arrow(a, b, place) for a, b in steps)
    boxes = "".join(_box(stage, *place[stage.name]) for stage in stages)
    return (
        f'<svg viewBox="0 0 {width:.1f} {height}" width="{width:.1f}" style="min-width:{min(width, 640):.0f}px" '
        f'role="img" aria-label="pipeline">{lines}{boxes}</svg>'
    )


def _node(name: str, entry: dict[str, Any], values: dict[str, Any]) -> StageNode:
    body = entry.get("do", entry)
    contexts = [values | item for item in _items(entry, values)]
    made = [*body.get("outs", []), *body.get("metrics", [])]
    return StageNode(
        name=name,
        desc=_fill(str(body.get("desc", "")), values),
        many="foreach" in entry or "matrix" in entry,
        deps=tuple(_paths(body.get("deps", []), contexts)),
        outs=tuple(_paths(made, contexts)),
    )


def _items(entry: dict[str, Any], values: dict[str, Any]) -> list[dict[str, Any]]:
    """The `item` (and `key`) of every instance of a foreach stage; a plain stage has one instance."""
    each = entry.get("foreach")
    if isinstance(each, str):
        each = _look_up(each.removeprefix("${").removesuffix("}"), values)
    if isinstance(each, dict):
        return [{"item": item, "key": key} for key, item in each.items()]
    return [{"item": item} for item in each] if isinstance(each, list) and each else [{}]


def _paths(entries: Iterable[Any], contexts: list[dict[str, Any]]) -> list[str]:
    """Paths of all instances, sorted; one that is unknown as a whole says nothing and is left out."""
    names = [str(next(iter(entry)) if isinstance(entry, dict) else entry) for entry in entries]
    return sorted({_fill(name, context) for name in names for context in contexts} - {"*"})


def _fill(name: str, context: dict[str, Any]) -> str:
    return re.sub(r"\$\{([^}]*)\}", lambda match: str(_look_up(match[1], context)), name)


def _look_up(dotted: str, context: Any) -> Any:
    for part in dotted.split("."):
        if not isinstance(context, dict) or part not in context:
            return "*"
        context = context[part]
    return context


def _touch(out: str, dep: str) -> bool:
    """One path is the other or lies below it, segment by segment."""
    parts = (path.strip("/").split("/") for path in (out, dep))
    return all(_same(x, y) for x, y in zip(*parts, strict=False))


def _same(left: str, right: str) -> bool:
    patterns = [re.escape(side).replace(r"\*", ".*") for side in (left, right)]
    return bool(re.fullmatch(patterns[0], right) or re.fullmatch(patterns[1], left))


def _has_detour(edge: tuple[str, str], direct: set[tuple[str, str]]) -> bool:
    start, goal = edge
    seen, todo = set(), [b for a, b in direct if a == start and b != goal]
    while todo:
        name = todo.pop()
        if name == goal:
            return True
        if name not in seen:
            seen.add(name)
            todo += [b for a, b in direct if a == name]
    return False


def _layers(stages: list[StageNode], edges: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], list[list[str]]]:
    """(arrows cut at every layer, names by layer). A long arrow gets a place of its own in each layer it crosses."""
    level = _levels(stages, edges)
    rows: list[list[str]] = [[] for _ in range(max(level.values(), default=0) + 1)]
    for stage in stages:
        rows[level[stage.name]].append(stage.name)
    steps = []
    for maker, user in edges:
        previous = maker
        for crossed in range(level[maker] + 1, level[user]):
            bend = f"{maker}{BEND}{user}{BEND}{crossed}"
            rows[crossed].append(bend)
            steps.append((previous, bend))
            previous = bend
        steps.append((previous, user))
    return steps, _ordered(rows, steps)


def _levels(stages: list[StageNode], edges: list[tuple[str, str]]) -> dict[str, int]:
    """Each stage one layer below its lowest maker."""
    level = {stage.name: 0 for stage in stages}
    for _ in stages:
        for maker, user in edges:
            level[user] = min(max(level[user], level[maker] + 1), len(stages))
    return level


def _ordered(rows: list[list[str]], steps: list[tuple[str, str]]) -> list[list[str]]:
    """Sweeps down and up: each name goes where its neighbours of the layer before stand on average."""
    rows = [list(row) for row in rows if row]
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        position: dict[str, float] = {}
        for row in rows if down else reversed(rows):
            near = {n: _mean([position[a] for a, b in (s if down else s[::-1] for s in steps) if b == n]) for n in row}
            row.sort(key=lambda name: near[name])
            position |= {name: (index + 1) / (len(row) + 1) for index, name in enumerate(row)}
    return rows


def _places(rows: list[list[str]]) -> dict[str, tuple[float, float]]:
    """Left upper corner of every name; layers are centred."""
    widths = [sum(_width(name) + GAP_X for name in row) for row in rows]
    place = {}
    for level, (row, width) in enumerate(zip(rows, widths, strict=True)):
        x = GAP_X + (max(widths) - width) / 2
        for name in row:
            place[name] = (x, 4.0 + level * (BOX_H + GAP_Y))
            x += _width(name) + GAP_X
    return place


def _width(name: str) -> int:
    return BEND_W if BEND in name else BOX_W


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.5


def _box(stage: StageNode, x: float, y: float) -> str:
    shadow = ""
    if stage.many:
        shadow = (
            f'<rect x="{x + 4}" y="{y + 4}" width="{BOX_W}" height="{BOX_H}" rx="8" fill="var(--card)" '
            'stroke="var(--line)"/>'
        )
    return (
        f"<g><title>{text(stage.desc or stage.name)}</title>{shadow}"
        f'<rect x="{x}" y="{y}" width="{BOX_W}" height="{BOX_H}" rx="8" fill="var(--card)" stroke="var(--accent)"/>'
        f'<text class="ink" x="{x + BOX_W / 2}" y="{y + BOX_H / 2 + 4}" text-anchor="middle" '
        f'style="font-size:12px">{text(stage.name)}</text></g>'
    )


def _arrow(maker: str, user: str, place: dict[str, tuple[float, float]]) -> str:
    """A curve between two layers; a bend is passed straight, and only a stage gets a head."""
    x1, y1 = place[maker][0] + _width(maker) / 2, place[maker][1] + BOX_H
    x2, y2 = place[user][0] + _width(user) / 2, place[user][1]
    half, style = (y2 - y1) / 2, 'fill="none" stroke="var(--soft)" stroke-opacity=".55" stroke-width="1.3"'
    straight = f"M{x1:.1f} {y1 - BOX_H:.1f}V{y1:.1f}" if BEND in maker else f"M{x1:.1f} {y1:.1f}"
    curve = f"{straight}C{x1:.1f} {y1 + half:.1f} {x2:.1f} {y2 - half:.1f} {x2:.1f} {y2:.1f}"
    if BEND in user:
        return f'<path d="{curve}" {style}/>'
    head = f"M{x2 - 4:.1f} {y2 - 7:.1f}L{x2:.1f} {y2 - 1:.1f}L{x2 + 4:.1f} {y2 - 7:.1f}z"
    return f'<path d="{curve}" {style}/><path d="{head}" fill="var(--soft)"/>'
