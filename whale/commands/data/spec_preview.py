"""`whale spec preview`: one local page that shows what a spec makes of a dataset, before anything is ingested.

Shapes: T steps, A = 7.
"""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from whale.data.spec.episode import ACTION_NAMES
from whale.data.spec.spec import DatasetSpec
from whale.data.storage.images import decode, resize
from whale.data.workbench.draft.preview import Look, Preview, gripper_events
from whale.reporting.charts import histogram, line_chart
from whale.reporting.page import Section, Tile, page, parts
from whale.reporting.pictures import filmstrip, png

HEIGHT, EPISODES_SHOWN, EVENTS_SHOWN, AROUND = 96, 3, 4, (-2, 0, 2, 4)
SEEN = "primary"  # the one role that training and evaluation read
OUTCOMES = ("fault", "accepted", "advice", "not_judged", "undecided", "ok", "absent")


def preview_page(spec: DatasetSpec, preview: Preview) -> str:
    """The whole document; no file and no address is referred to."""
    verdicts = preview.report["verdicts"]
    faults = [verdict for verdict in verdicts if verdict["outcome"] == "fault"]
    steps = sum(look.episode.num_steps for look in preview.looks)
    top = [
        Tile(
            len(preview.looks) + len(preview.rejected),
            "episodes looked at",
            f"of {preview.total} of train; {len(preview.rejected)} could not be used",
        ),
        Tile(f"{steps:,}", "steps", f"{spec.robot.control_hz:g} Hz"),
        Tile(len(faults), "faults", "of the whole dataset"),
        Tile(spec.licence.spdx, "licence", spec.licence.evidence),
    ]
    sections = [
        Section("Verdicts", _verdicts(preview)),
        Section("Frames", _frames(spec, preview.looks)),
        Section("Actions", _actions(spec, preview.looks)),
        Section("Gripper", _gripper(preview.looks)),
        Section("Distributions", _distributions(preview.looks)),
    ]
    source = spec.source
    lead = f"{spec.robot.name}: {source.format} {source.dataset} {source.version}, read through its spec."
    return page(
        f"Preview of {spec.name}",
        lead,
        parts.tiles(top),
        sections,
        "Made by `whale spec preview` from local files only.",
    )


def _verdicts(preview: Preview) -> Markup:
    verdicts = sorted(
        preview.report["verdicts"], key=lambda v: (OUTCOMES.index(v["outcome"]), v["detector"], v["scope"])
    )
    rows = [[v["outcome"], v["detector"], v["scope"], v["found"], v["expected"]] for v in verdicts]
    lead = "What the quality gate of ingest says of these episodes. Undecided is not ok: there is too little to tell."
    body = parts.paragraph(lead, "soft") + parts.table(["outcome", "detector", "of", "found", "expected"], rows, 5)
    of_episodes = [
        [outcome, name, group["count"], group["first"][0]]
        for outcome, listed in (("fault", "quarantined"), ("accepted", "accepted"))
        for name, group in preview.report[listed].items()
    ]
    if of_episodes:
        body += parts.heading("Of single episodes") + parts.table(
            ["outcome", "detector", "episodes", "first"], of_episodes, 2
        )
    if preview.rejected:
        rejected = [[each.reason, each.source_file, each.record_index, each.detail[:200]] for each in preview.rejected]
        body += parts.heading("Not usable") + parts.table(["reason", "file", "record", "detail"], rejected, 4)
    return body


def _frames(spec: DatasetSpec, looks: Sequence[Look]) -> Markup:
    others = ", ".join(role for role in spec.cameras if role != SEEN)
    lead = "Each camera as stored (above) and as it would stand in the shards (below): square, upright, red first."
    lead += f" Models see {SEEN} and no other camera."
    if others:
        lead += f" {others}: stored beside it if ingest.cameras in params.yaml names them, read by no model."
    shown = []
    for look in looks[:EPISODES_SHOWN]:
        strips = Markup("").join(
            parts.paragraph(f"{_role(role)}: {spec.cameras[role].key}, {spec.cameras[role].channels}", "note")
            + _strip(look.raw[role], f"{role} as stored")
            + _strip(look.canonical[role], f"{role} canonical")
            for role in look.raw
        )
        shown.append(parts.card(parts.paragraph(f'"{look.episode.language}"', "soft") + strips, look.episode.key))
    return parts.paragraph(lead, "soft") + parts.cards(shown, "films")


def _role(role: str) -> str:
    return f"{role} ({'what models see' if role == SEEN else 'no model sees it'})"


def _strip(frames: Sequence[np.ndarray], alt: str) -> Markup:
    small = [_at_height(frame) for frame in frames]
    strip = filmstrip(np.stack(small))
    return parts.wide(parts.image(png(strip), "image/png", alt, strip.shape[1], strip.shape[0]))


def _at_height(image_HWC: np.ndarray) -> np.ndarray:
    """Nearest rows and columns: a preview must not smooth what is wrong."""
    height, width = image_HWC.shape[:2]
    rows = np.arange(HEIGHT) * height // HEIGHT
    columns = np.arange(max(HEIGHT * width // height, 1)) * height // HEIGHT
    return image_HWC[rows][:, np.minimum(columns, width - 1)]


def _actions(spec: DatasetSpec, looks: Sequence[Look]) -> Markup:
    units = [spec.action.translation.unit or "filled", spec.action.rotation.unit or "filled"]
    names = (f"translation per step ({_shown(units[0])})", f"rotation per step ({_shown(units[1])})")
    charts = []
    for look in looks[:EPISODES_SHOWN]:
        time = np.arange(look.episode.num_steps)
        action = np.where(look.episode.action_valid[:, None], look.episode.action, np.nan)
        for dims, label in ((range(3), names[0]), (range(3, 6), names[1])):
            lines = {ACTION_NAMES[d]: (time, action[:, d]) for d in dims}
            charts.append(parts.card(line_chart(lines, "step", label), look.episode.key))
    lead = f"Frame: {spec.action.contract.frame}. Form: {spec.action.contract.form}. Live: {spec.action.contract.live}."
    return parts.paragraph(lead, "soft") + parts.cards(charts)


def _shown(unit: str) -> str:
    """Operations bring metric units to metres and radians."""
    return {"m": "m", "mm": "m", "rad": "rad", "deg": "rad", "one": "rad"}.get(unit, unit)


def _gripper(looks: Sequence[Look]) -> Markup:
    """Command and sensor, and the frames around each change: does it open where the command says open?"""
    shown = []
    busiest = sorted(looks, key=lambda look: -len(gripper_events(look.episode.action[:, 6])))
    for look in busiest[:EPISODES_SHOWN]:
        time, command = np.arange(look.episode.num_steps), look.episode.action[:, 6]
        lines = {"command, 1 = open": (time, command)}
        if np.isfinite(look.opening).all():
            lines["sensor"] = (time, look.opening)
        body = line_chart(lines, "step", "gripper")
        for event in gripper_events(command)[:EVENTS_SHOWN]:
            word = "opens" if command[event] > 0.5 else "closes"
            steps = [t for t in (event + offset for offset in AROUND) if 0 <= t < look.episode.num_steps]
            frames = [resize(decode(look.episode.frames["primary"][t]), HEIGHT) for t in steps]
            label = f"the command {word} at step {event}; frames {', '.join(map(str, steps))}"
            body += parts.paragraph(label, "note") + _strip(frames, label)
        shown.append(parts.card(body, look.episode.key))
    return parts.cards(shown, "pairs") if shown else parts.paragraph("no episode", "note")


def _distributions(looks: Sequence[Look]) -> Markup:
    if not looks:
        return parts.paragraph("no episode", "note")
    values = np.concatenate([look.episode.action[look.episode.action_valid] for look in looks])
    lengths = np.array([look.episode.num_steps for look in looks], np.float64)
    charts = [histogram(values[:, d], name) for d, name in enumerate(ACTION_NAMES)]
    return parts.beside(charts) + parts.heading("Steps of an episode") + histogram(lengths, "steps")
