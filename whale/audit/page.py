"""The lineage as one local page: every run from the raw data to the artefact, every hash one click away. No script, no
network: a drawing in SVG, and below it one section per run that the drawing links to."""

from html import escape

from whale.audit.facts import is_training
from whale.audit.run_graph import RunGraph, StageRun, Target

WIDTH, HEIGHT, GAP_X, GAP_Y = 190, 34, 60, 14
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:1100px;padding:0 1em;color:#222;background:#fff}
code{font-size:13px;word-break:break-all}svg{max-width:100%;height:auto}svg text{font:13px system-ui,sans-serif}
section{border-top:1px solid #ddd;padding:.4em 0}section:target{background:#fff6d6}h2{font-size:1em}
td{padding:.1em .8em .1em 0;vertical-align:top}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}section:target{background:#332d12}
svg text{fill:#ddd}}
"""


def lineage_page(target: Target, graph: RunGraph) -> str:
    """ASCII HTML."""
    runs = graph.ancestors(target.run)
    places = _places(runs, graph)
    title = escape(f"Lineage of {target.name}")
    sections = "".join(_section(run) for run in reversed(runs))
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>"
        f"<h1>{title}</h1><p>sha256 <code>{target.sha256}</code>, {len(runs)} signed runs, raw data on the left. "
        f"Click a box for its hashes.</p>{_drawing(runs, places, graph)}{sections}</html>\n"
    )


def _places(runs: list[StageRun], graph: RunGraph) -> dict[str, tuple[int, int]]:
    """Left corner of each box: as far right as the longest way from a source, one under the other."""
    depth: dict[str, int] = {}
    rows: dict[int, int] = {}
    places = {}
    for run in runs:  # parents come first
        depth[run.id] = max((depth[parent.id] + 1 for parent in graph.parents(run)), default=0)
        row = rows[depth[run.id]] = rows.get(depth[run.id], -1) + 1
        places[run.id] = (depth[run.id] * (WIDTH + GAP_X), row * (HEIGHT + GAP_Y))
    return places


def _drawing(runs: list[StageRun], places: dict[str, tuple[int, int]], graph: RunGraph) -> str:
    width = max(x for x, _ in places.values()) + WIDTH + 4
    height = max(y for _, y in places.values()) + HEIGHT + 4
    lines = []
    for run in runs:
        for parent in graph.parents(run):
            (x0, y0), (x1, y1) = places[parent.id], places[run.id]
            start, end, middle = x0 + WIDTH, x1, (x0 + WIDTH + x1) // 2
            y0, y1 = y0 + HEIGHT // 2, y1 + HEIGHT // 2
            curve = f"M{start} {y0}C{middle} {y0} {middle} {y1} {end} {y1}"
            lines.append(f'<path d="{curve}" fill="none" stroke="#999" stroke-width="1"/>')
    boxes = [_box(run, *places[run.id]) for run in runs]
    return f'<svg viewBox="-2 -2 {width} {height}" role="img">{"".join(lines)}{"".join(boxes)}</svg>'


def _box(run: StageRun, x: int, y: int) -> str:
    colour = "#2a78d6" if is_training(run) else "#888"
    return (
        f'<a href="#run-{run.run_id}"><rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="5" fill="{colour}" '
        f'fill-opacity=".15" stroke="{colour}"/><text x="{x + 9}" y="{y + 22}">{escape(run.name[:26])}</text></a>'
    )


def _section(run: StageRun) -> str:
    rows = [("statement", run.id), ("derivation", run.internal["derivation_sha256"]), ("commit", run.code["commit"])]
    rows += [("code closure", run.code["closure_sha256"]), ("ran", f"{run.started} to {run.finished}")]
    rows += [(f"read {each.path}", each.sha256) for each in run.inputs]
    rows += [(f"used {name}", digest) for name, digest in run.settings.items()]
    rows += [(f"made {name}", digest) for name, digest in run.subjects.items()]
    cells = "".join(f"<tr><td>{escape(name)}<td><code>{escape(str(value))}</code>" for name, value in rows)
    return (
        f'<section id="run-{run.run_id}"><h2>{escape(run.name)} <code>{run.subjects[run.outputs[0]][:16]}</code></h2>'
        f"<table>{cells}</table></section>"
    )
