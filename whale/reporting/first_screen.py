"""The first screen: is the model good, does it know when it is wrong, where did it come from. The rest folds away."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from whale.common.config import load_sections
from whale.data.storage.shards import ShardSet
from whale.reporting.lineage_section import final_checkpoint
from whale.reporting.measured import Numbers, groups_of, horizons_of
from whale.reporting.page import NOT_MEASURED, number, parts, render
from whale.reporting.pictures import filmstrip, png
from whale.reporting.video_section import Arrays, title_of

SHOWN = 5  # imagined frames of the strip
FRAME_PX = 64
MEANINGS = {  # the glossary's lines, at the numbers
    "ee": "error of the end effector's position in imagined frames over that of standing still: 0 follows, 1 stands",
    "ssim": "likeness of structure, 1 is equal: imagined | last given frame repeated",
    "moving": "PSNR over the pixels that moved, in dB: imagined | last given frame repeated",
    "retracing": "correlation over rollouts of the retracing uncertainty with the true error; 1 is best, 0 is chance",
    "moved": "the same for how far the imagined frame lies from the last given one, which asks no model twice",
}
Cell = tuple[str, str, bool]  # words, meaning, worse than the baseline


def first_screen(
    films: dict[str, Arrays], video: Numbers, uncertainty: Numbers, shards: Sequence[Path], models: Path, profile: str
) -> Markup:
    """`films`: role.dataset.split -> arrays; `video`, `uncertainty`: flat metrics; `shards`: sealed datasets."""
    groups = [*groups_of(video, "pretrain"), *groups_of(video, "finetune")]
    horizons = _rollout_horizons(video)
    last = horizons[-1:]
    header = ["", *(f"effector error, {h}" for h in horizons)]
    header += [f"SSIM | still, {h}" for h in last] + [f"moving PSNR | still, {h}" for h in last]
    good = [(title_of(group), _goodness(video, group, horizons)) for group in groups]
    known = [*groups_of(uncertainty, "pretrain"), *groups_of(uncertainty, "finetune")]
    knows = [(title_of(group), _doubts(uncertainty, group)) for group in known]
    name, arrays = next(((name, each) for name, each in films.items() if len(each["recorded"])), ("", {}))
    final = final_checkpoint(models)
    return render(
        "first.html",
        strip=_strip(arrays) if arrays and "imagined.full" in arrays else None,
        title=title_of(name),
        header=header,
        good=good,
        knows=knows,
        data=[_origin(ShardSet.open(path)) for path in shards],
        final=final,
        model=f"artifacts/{profile}/models/{final['name']}" if final else None,
    )


def profile_of(params: Path) -> str:
    """The active profile's name."""
    return str(load_sections(params).get("profile", "demo"))


def _rollout_horizons(video: Numbers) -> list[str]:
    return horizons_of({key: None for key in video if ".dynamics.full.rollout.h" in key})


def _goodness(video: Numbers, group: str, horizons: Sequence[str]) -> list[Cell]:
    at = f"{group}.dynamics.full.rollout"
    cells = [_effector(video, f"{at}.{h}", f"{at}.ee_status") for h in horizons]
    for h in horizons[-1:]:
        cells.append(_beside(video, f"{at}.{h}.ssim", 3, MEANINGS["ssim"]))
        cells.append(_beside(video, f"{at}.{h}.psnr_moving", 1, MEANINGS["moving"]))
    return cells


def _effector(video: Numbers, at: str, status: str) -> Cell:
    """The ratio with its interval; what a probe too weak reads is no result."""
    value = video.get(f"{at}.ee")
    if isinstance(value, (int, float)):
        return _interval(video, f"{at}.ee"), MEANINGS["ee"], value > 1
    said = "probe too weak" if f"{at}.ee_unjudged" in video else str(video.get(status) or NOT_MEASURED)
    return said, MEANINGS["ee"], False


def _beside(video: Numbers, key: str, digits: int, meaning: str) -> Cell:
    ours, still = video.get(key), video.get(f"{key}_copy_last")
    if not isinstance(ours, (int, float)) or not isinstance(still, (int, float)):
        return NOT_MEASURED, meaning, False
    return f"{number(ours, digits)} | {number(still, digits)}", meaning, ours < still


def _doubts(uncertainty: Numbers, group: str) -> list[Cell]:
    keys = {name: f"{group}.{name}.latent.per_rollout.pearson" for name in ("retracing", "moved")}
    ours, rival = (uncertainty.get(key) for key in keys.values())
    is_worse = isinstance(ours, (int, float)) and isinstance(rival, (int, float)) and ours < rival
    return [
        (_interval(uncertainty, key), MEANINGS[name], is_worse and name == "retracing") for name, key in keys.items()
    ]


def _interval(numbers: Numbers, key: str) -> str:
    value, low, high = (numbers.get(key + end) for end in ("", ".low", ".high"))
    if low is None or high is None:
        return number(value)
    return f"{number(value)} [{number(low)}, {number(high)}]"


def _origin(shards: ShardSet) -> dict[str, Any]:
    has_contract = (shards.directory / "contract.json").is_file()
    licence = shards.contract.get("licence") or {} if has_contract else {}
    return {
        "name": shards.name,
        "episodes": sum(count["episodes"] for count in shards.manifest["kept"].values()),
        "licence": licence.get("spdx") or "licence not said",
        "evidence": licence.get("evidence") or "no evidence",
        "digest": shards.digest[:12],
    }


def _strip(arrays: Arrays) -> Markup:
    """Recorded, imagined and still frames of one unseen episode, evenly spread over the imagined steps."""
    recorded, imagined = arrays["recorded"][0], arrays["imagined.full"][0]
    lead, horizon = len(recorded) - len(imagined), len(imagined)
    steps = sorted({round(at * (horizon - 1) / max(SHOWN - 1, 1)) for at in range(SHOWN)})
    rows = {"recorded": recorded[lead:], "imagined": imagined}
    if "imagined.copy_last" in arrays:
        rows["still"] = arrays["imagined.copy_last"][0]
    drawn = []
    for label, frames in rows.items():
        strip = filmstrip(frames[steps])
        width = round(strip.shape[1] * FRAME_PX / frames.shape[1])
        drawn.append((label, parts.image(png(strip), "image/png", label, width, FRAME_PX)))
    return parts.strip(len(steps), drawn)
