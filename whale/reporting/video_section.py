"""Recorded beside imagined: filmstrips, moving pictures, and uncertainty under them; PSNR by horizon."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from whale.reporting.charts import Values, line_chart, step_bars
from whale.reporting.html import Section, card, cards, heading, image, number, paragraph, text, wide
from whale.reporting.pictures import GAP, columns, filmstrip, gif, png, side_by_side

FRAME_PX = 64
ROWS = {"recorded": "recorded", "full": "imagined", "without_z": "without z", "from_scratch": "from scratch"}
CURVES = ("full", "without_z", "from_scratch", "copy_last", "tokenizer")


def load_arrays(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """`<role>.<dataset>.<split>` -> arrays of that file, pre-training first; no pickle is ever read."""
    found = {}
    for path in sorted(folder.glob("*.npz"), key=lambda path: (not path.name.startswith("pretrain."), path.name)):
        with np.load(path, allow_pickle=False) as archive:
            found[path.stem] = {name: archive[name] for name in archive.files}
    return found


def video_section(video: dict[str, dict[str, np.ndarray]], uncertainty: dict[str, dict[str, np.ndarray]]) -> Section:
    """Unseen episodes: what was recorded, what the model imagined from one frame, and how far off it is."""
    lead = (
        "Unseen episodes. The model sees one recorded frame and the actions, and imagines the rest. "
        "Under the moving pictures: first the given frames, then imagination; the bar is the retracing uncertainty."
    )
    gifs = "".join(moving_picture(name, arrays) for name, arrays in uncertainty.items())
    strips = cards([_strips(name, arrays) for name, arrays in video.items()], "films")
    curves = cards([card(_curves(arrays), title_of(name)) for name, arrays in video.items()])
    scaled = "".join(_controlled(name, arrays) for name, arrays in video.items())
    less_and_more = (
        "The same first frame; the recorded pose actions, scaled. Left to right: recorded, then imagined with "
        "0.8, 1.0 and 1.2 times the motion (Fig. 8)."
    )
    body = (
        paragraph(lead, "soft") + f"<div class=gifs>{gifs}</div>" + heading("Move less, move more")
        + paragraph(less_and_more, "soft") + f"<div class=gifs>{scaled}</div>"
        + heading("Frame by frame, from one frame") + strips
    )  # fmt: skip
    return Section("Imagination", body + heading("PSNR by imagined step (dB)") + curves)


def moving_picture(name: str, arrays: dict[str, np.ndarray], shown: int = 0) -> str:
    """A figure with recorded | imagined and the bar."""
    if shown >= len(arrays["imagined"]):
        return ""
    payload, (height, width) = rollout_gif(arrays, shown)
    caption = f"{text(title_of(name))}<br><code>{text(arrays['keys'][shown])}</code>"
    picture = image(payload, "image/gif", f"rollout, {name}", width, height)
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def rollout_gif(arrays: dict[str, np.ndarray], shown: int, scale: int = 2) -> tuple[bytes, tuple[int, int]]:
    """GIF bytes and (height, width): the given frames on both sides, then recorded against imagined."""
    recorded, imagined = arrays["recorded"][shown], arrays["imagined"][shown]
    context = len(recorded) - len(imagined)
    right = np.concatenate([recorded[:context], imagined])
    level = np.full(len(recorded), np.nan)
    level[context:] = _relative(arrays["retracing"], arrays["retracing"][arrays["shown"][shown]])
    movie = side_by_side(recorded, right, level, scale)
    return gif(movie), (movie.shape[1], movie.shape[2])


def controlled_gif(recorded: np.ndarray, imagined: Sequence[np.ndarray], scale: int) -> tuple[bytes, tuple[int, int]]:
    """GIF bytes and (height, width): recorded, then every imagined movie; each begins with the given frames.

    recorded uint8 [c+h, R, R, 3]; imagined: uint8 [h, R, R, 3] each.
    """
    given = recorded[: len(recorded) - len(imagined[0])]
    movie = columns([recorded, *(np.concatenate([given, frames]) for frames in imagined)], scale)
    return gif(movie), (movie.shape[1], movie.shape[2])


def _controlled(name: str, arrays: dict[str, np.ndarray]) -> str:
    factors = sorted(
        (key for key in arrays if key.startswith("controlled.")), key=lambda key: float(key.split(".", 1)[1])
    )
    if not factors or not len(arrays["recorded"]):
        return ""
    payload, (height, width) = controlled_gif(arrays["recorded"][0], [arrays[key][0] for key in factors], 1)
    picture = image(payload, "image/gif", f"scaled actions, {name}", width, height)
    return f"<figure>{picture}<figcaption>{text(title_of(name))}</figcaption></figure>"


def _strips(name: str, arrays: dict[str, np.ndarray]) -> str:
    rows = [("recorded", arrays["recorded"][0], 0)]
    for variant, label in ROWS.items():
        if f"imagined.{variant}" in arrays:
            rows.append((label, arrays[f"imagined.{variant}"][0], 1))
    rows.append(("tokenizer", arrays["imagined.tokenizer"][0], 1))
    body = "".join(f"<span>{text(label)}</span>{_strip(frames, lead, label)}" for label, frames, lead in rows)
    key = f"<p class=note><code>{text(arrays['keys'][0])}</code></p>"
    return card(wide(f"<div class=strip>{body}</div>") + key, title_of(name))


def uncertain_strip(arrays: dict[str, np.ndarray]) -> str:
    """Recorded and imagined frames of the first shown window over the bars of its uncertainty."""
    recorded, imagined = arrays["recorded"][0], arrays["imagined"][0]
    lead = len(recorded) - len(imagined)
    step = FRAME_PX * (1 + GAP / recorded.shape[1])
    u = arrays["retracing"][arrays["shown"][0]]
    rows = [("recorded", _strip(recorded, 0, "recorded")), ("imagined", _strip(imagined, lead, "imagined"))]
    rows.append(("uncertainty", step_bars([float(value) for value in u], step, 34, lead)))
    return "<div class=strip>" + "".join(f"<span>{label}</span>{cell}" for label, cell in rows) + "</div>"


def _strip(frames: np.ndarray, lead: int, label: str) -> str:
    strip = filmstrip(frames, lead)
    scale = FRAME_PX / frames.shape[1]
    return image(png(strip), "image/png", label, round(strip.shape[1] * scale), FRAME_PX)


def _curves(arrays: dict[str, np.ndarray]) -> str:
    series: dict[str, tuple[Values, Values]] = {}
    for name in CURVES:
        if f"psnr.{name}" in arrays:
            values = arrays[f"psnr.{name}"]
            series[name.replace("_", " ")] = (list(range(1, len(values) + 1)), values)
    last = ", ".join(f"{name} {number(float(values[-1]), 1)}" for name, (_, values) in series.items())
    return line_chart(series, "imagined step", "PSNR") + f"<p class=note>last step: {text(last)}</p>"


def _relative(everything: np.ndarray, values: np.ndarray) -> np.ndarray:
    """In [0, 1] against the 95 % quantile of this data set, so that one outlier does not flatten the rest."""
    finite = everything[np.isfinite(everything)]
    top = float(np.quantile(finite, 0.95)) if len(finite) else 0.0
    return np.clip(values / top, 0, 1) if top > 0 else np.zeros_like(values)


def title_of(name: str) -> str:
    """`pretrain.fleet_delta.val` -> `fleet_delta, val`."""
    return ", ".join(name.split(".")[1:])
