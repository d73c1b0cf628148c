"""Recorded beside imagined: filmstrips, moving pictures, and uncertainty under them; PSNR by horizon."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup

from whale.reporting.charts import Values, line_chart, step_bars
from whale.reporting.page import Section, number, parts, render
from whale.reporting.pictures import GAP, columns, filmstrip, gif, png, side_by_side

FRAME_PX = 96
NAMES = {  # of what stands in the arrays, on the whole page
    "full": "with z", "without_z": "without z", "from_scratch": "from scratch", "copy_last": "still image",
    "tokenizer": "tokenizer", "rssm.dreamer": "RSSM",
}  # fmt: skip
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Movie:
    """A moving picture of `width` x `height` pixels, which the page enlarges, with what to say below it."""

    payload: bytes
    alt: str
    width: int
    height: int
    title: str
    key: str
    mime: str = "image/gif"


def load_arrays(folder: Path) -> dict[str, Arrays]:
    """`<role>.<dataset>.<split>` -> arrays of that file, pre-training first; no pickle is ever read."""
    found = {}
    for path in sorted(folder.glob("*.npz"), key=lambda path: (not path.name.startswith("pretrain."), path.name)):
        with np.load(path, allow_pickle=False) as archive:
            found[path.stem] = {name: archive[name] for name in archive.files}
    return found


def video_section(video: dict[str, Arrays], uncertainty: dict[str, Arrays]) -> Section:
    """Unseen episodes: what was recorded, what the model imagined from its first frames, and how far off it is."""
    movies = [
        _movie(rollout_gif(arrays, shown, 1), name, str(arrays["keys"][shown]))
        for name, arrays in uncertainty.items()
        for shown in range(len(arrays["imagined"]))
    ]
    scaled = {name: _factors(arrays) for name, arrays in video.items() if _factors(arrays)}
    controlled = [
        _movie(
            controlled_gif(video[name]["recorded"][0], [video[name][f"controlled.{each}"][0] for each in factors], 1),
            name,
            str(video[name]["keys"][0]),
        )
        for name, factors in scaled.items()
        if len(video[name]["recorded"])
    ]
    body = render(
        "imagination.html",
        given_in_movies=_given(uncertainty, "imagined"),
        given_in_strips=_given(video, "imagined.full"),
        movies=movies,
        controlled=controlled,
        factors=", ".join(next(iter(scaled.values()), [])),
        strips=[(title_of(name), _strips(arrays), arrays["keys"]) for name, arrays in video.items()],
        curves=[(title_of(name), *_curves(arrays)) for name, arrays in video.items()],
    )
    return Section("Imagination", body)


def rollout_gif(arrays: Arrays, shown: int, scale: int) -> tuple[bytes, tuple[int, int]]:
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


def uncertain_strip(arrays: Arrays) -> Markup:
    """Recorded and imagined frames of the first shown window over the bars of its uncertainty."""
    recorded, imagined = arrays["recorded"][0], arrays["imagined"][0]
    lead = len(recorded) - len(imagined)
    step = FRAME_PX * (1 + GAP / recorded.shape[1])
    u = arrays["retracing"][arrays["shown"][0]]
    rows = [("recorded", _strip(recorded, 0, "recorded")), ("imagined", _strip(imagined, lead, "imagined"))]
    rows.append(("uncertainty", step_bars([float(value) for value in u], step, 34, lead)))
    return parts.strip(len(recorded), rows)


def title_of(name: str) -> str:
    """`pretrain.fleet_delta.val` -> `fleet_delta, val`."""
    return ", ".join(name.split(".")[1:])


def _movie(made: tuple[bytes, tuple[int, int]], name: str, key: str) -> Movie:
    payload, (height, width) = made
    return Movie(payload, f"moving picture, {name}", width, height, title_of(name), key)


def _factors(arrays: Arrays) -> list[str]:
    names = [key.removeprefix("controlled.") for key in arrays if key.startswith("controlled.")]
    return sorted(names, key=float)


def _given(found: dict[str, Arrays], imagined: str) -> int:
    """Recorded frames that a rollout begins with."""
    return next((each["recorded"].shape[1] - each[imagined].shape[1] for each in found.values()), 0)


def _strips(arrays: Arrays) -> list[Markup]:
    """One filmstrip with all variants per stored episode."""
    lead = arrays["recorded"].shape[1] - arrays["imagined.full"].shape[1]
    kinds = [(label, f"imagined.{kind}") for kind, label in NAMES.items() if f"imagined.{kind}" in arrays]
    return [
        parts.strip(
            len(recorded),
            [
                ("recorded", _strip(recorded, 0, "recorded")),
                *((label, _strip(arrays[kind][index], lead, label)) for label, kind in kinds),
            ],
        )
        for index, recorded in enumerate(arrays["recorded"])
    ]


def _strip(frames: np.ndarray, lead: int, label: str) -> Markup:
    strip = filmstrip(frames, lead)
    scale = FRAME_PX / frames.shape[1]
    return parts.image(png(strip), "image/png", label, round(strip.shape[1] * scale), FRAME_PX)


def _curves(arrays: Arrays) -> tuple[Markup, str]:
    """The chart, and its last values in words."""
    series: dict[str, tuple[Values, Values]] = {}
    for kind, name in NAMES.items():
        if f"psnr.{kind}" in arrays:
            values = arrays[f"psnr.{kind}"]
            series[name] = (list(range(1, len(values) + 1)), values)
    last = ", ".join(f"{name} {number(float(values[-1]), 1)}" for name, (_, values) in series.items())
    return line_chart(series, "imagined step", "PSNR (dB)"), last


def _relative(everything: np.ndarray, values: np.ndarray) -> np.ndarray:
    """In [0, 1] against the 95 % quantile of this data set, so that one outlier does not flatten the rest."""
    finite = everything[np.isfinite(everything)]
    top = float(np.quantile(finite, 0.95)) if len(finite) else 0.0
    return np.clip(values / top, 0, 1) if top > 0 else np.zeros_like(values)
