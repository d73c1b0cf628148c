"""What differs between the readings of one episode: each field's first place, found and expected.

Source: our reader's raw columns, texts and pixels against the other library's. Shards: what a stock reader finds there
against what the source means, computed a second time; and against what our own reader of shards gives.
Shapes: T steps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from whale.audit.conversion.meaning import Meaning, columns_of
from whale.audit.conversion.pixels import BLOCK_TOLERANCE, MEAN_TOLERANCE, after_jpeg, decoded, difference, resized
from whale.audit.conversion.plain import PlainEpisode
from whale.audit.conversion.stored import Sample
from whale.data.spec.episode import ACTION_NAMES, RawEpisode
from whale.data.storage.images import decode

if TYPE_CHECKING:
    from whale.data.spec.spec import Camera, DatasetSpec

ACTION_ABSOLUTE, ACTION_RELATIVE = 1.0e-6, 1.0e-5
NEARER = 0.25  # grey levels by which a neighbour must be nearer to be what a frame shows
NEIGHBOURS = (-3, -2, -1, 1, 2, 3)
ANGLES = (3, 4, 5)


@dataclass(frozen=True)
class Difference:
    """`field`: "source: action" is our reader against another library's, "action" the shards against the source."""

    episode: str
    step: int | None
    field: str
    found: str
    expected: str

    def __str__(self) -> str:
        where = self.episode if self.step is None else f"{self.episode} step {self.step}"
        return f"{where}: {self.field}: found {self.found}, expected {self.expected}"


@dataclass
class Measured:
    """How much was compared, and the largest distances found: mean and worst block of a frame, and of an action.

    episodes: kept ones, compared field by field; dropped: those of which the spec says so, too.
    """

    episodes: int = 0
    dropped: int = 0
    frames: int = 0
    actions: int = 0
    steps: int = 0
    frame_mean: float = 0.0
    frame_block: float = 0.0
    action: float = 0.0
    differences: list[Difference] = field(default_factory=list)

    def add(self, episode: str, step: int | None, where: str, found: object, expected: object) -> None:
        self.differences.append(Difference(episode, step, where, str(found)[:200], str(expected)[:200]))


def compare_source(key: str, raw: RawEpisode, plain: PlainEpisode, spec: "DatasetSpec", seen: Measured) -> None:
    """Everything that the spec reads, as our reader gives it."""
    if raw.num_steps != plain.num_steps:
        seen.add(key, None, "source: length", raw.num_steps, plain.num_steps)
        return
    for name in sorted(_read_columns(spec)):
        ours, theirs = np.asarray(raw.steps[name]).reshape(raw.num_steps, -1), columns_of(plain, name)
        if ours.shape != theirs.shape:
            seen.add(key, None, f"source: {name}", ours.shape, theirs.shape)
            continue
        wrong_TD = ~((ours == theirs) | (np.isnan(ours) & np.isnan(theirs)))
        if wrong_TD.any():
            step = int(wrong_TD.any(axis=1).argmax())
            seen.add(key, step, f"source: {name}", ours[step].tolist(), theirs[step].tolist())
    text = spec.language.key
    if text is not None and text in plain.texts and spec.language.scope == "step":
        pairs = zip(raw.steps[text], plain.texts[text], strict=True)
        wrong = next(((t, a, b) for t, (a, b) in enumerate(pairs) if a != b), None)
        if wrong is not None:
            seen.add(key, wrong[0], f"source: {text}", wrong[1], wrong[2])


def compare_shards(
    key: str, sample: Sample, plain: PlainEpisode, means: Meaning, spec: "DatasetSpec", side: int, quality: int,
    roles: Sequence[str], seen: Measured,
) -> None:  # fmt: skip
    """Length, text, actions, validity and every frame of one kept episode."""
    found, count = sample.about, len(means.steps)
    seen.steps += count
    lengths = {name: len(array) for name, array in sample.arrays.items()}
    lengths |= {role: len(frames) for role, frames in sample.frames.items()} | {"episode.json": found["num_steps"]}
    for name, length in lengths.items():
        if length != count:
            seen.add(key, None, f"length of {name}", length, count)
    if found["language"] != means.language:
        seen.add(key, None, "language", repr(found["language"]), repr(means.language))
    if found["key"] != key:
        seen.add(key, None, "key", found["key"], key)
    if lengths["action"] == lengths["action_valid"] == count:
        _compare_actions(key, sample, means, seen)
    for role in roles:
        _compare_camera(key, role, spec.cameras.get(role), sample, plain, means, side, quality, seen)


def compare_stored(key: str, sample: Sample, ours: Mapping[str, np.ndarray], frames: Mapping[str, Any],
                   seen: Measured) -> None:  # fmt: skip
    """Our reader of shards against a stock one: arrays to the bit, frames by two decoders.

    frames: camera -> uint8 (T, H, W, 3) of our reader.
    """
    for name, array in sample.arrays.items():
        if name not in ours or not np.array_equal(ours[name], array, equal_nan=array.dtype.kind == "f"):
            seen.add(key, None, f"stored: {name}", "another array by our reader", "that of the shard")
    for role in sorted({*frames, *sample.frames}):
        images, encoded = frames.get(role, ()), sample.frames.get(role, ())
        if len(images) != len(encoded):
            seen.add(
                key, None, f"stored: {role}", f"{len(images)} frames by our reader", f"{len(encoded)} in the shard"
            )
            continue
        for step, (mine, data) in enumerate(zip(images, encoded, strict=True)):
            mean, block = difference(mine, decoded(data))
            if mean > MEAN_TOLERANCE or block > BLOCK_TOLERANCE:
                seen.add(key, step, f"stored: {role}", f"{mean:.2f} grey levels away", f"at most {MEAN_TOLERANCE}")
                break


def _read_columns(spec: "DatasetSpec") -> set[str]:
    action = spec.action
    keys = {part.key for part in (action.translation, action.rotation, action.gripper) if part.key is not None}
    if spec.state is not None:
        keys |= {spec.state.pose.key} | ({spec.state.gripper.key} if spec.state.gripper else set())
    return keys


def _compare_actions(key: str, sample: Sample, means: Meaning, seen: Measured) -> None:
    found_TA, expected_TA = sample.arrays["action"].astype(np.float64), means.action
    away_TA = np.abs(found_TA - expected_TA)
    for d in ANGLES:
        away_TA[:, d] = np.minimum(away_TA[:, d], np.abs(2 * np.pi - away_TA[:, d]))
    seen.actions += len(away_TA)
    seen.action = max(seen.action, float(away_TA.max(initial=0.0)))
    wrong_TA = ~(away_TA <= ACTION_ABSOLUTE + ACTION_RELATIVE * np.abs(expected_TA))
    if wrong_TA.any():
        step, dimension = (int(place) for place in np.argwhere(wrong_TA)[0])
        more = f" ({int(wrong_TA.any(axis=1).sum())} of {len(wrong_TA)} steps differ)"
        found, expected = found_TA[step, dimension], expected_TA[step, dimension]
        seen.add(key, step, f"action {ACTION_NAMES[dimension]}", f"{found:.9g}{more}", f"{expected:.9g}")
    wrong_T = sample.arrays["action_valid"] != means.valid
    if wrong_T.any():
        step = int(wrong_T.argmax())
        seen.add(key, step, "action_valid", bool(sample.arrays["action_valid"][step]), bool(means.valid[step]))


def _compare_camera(
    key: str, role: str, camera: "Camera | None", sample: Sample, plain: PlainEpisode, means: Meaning, side: int,
    quality: int, seen: Measured,
) -> None:  # fmt: skip
    pictures = None if camera is None else plain.pictures(camera.key)
    if camera is None or pictures is None:
        if role in sample.frames:
            seen.add(key, None, role, f"{len(sample.frames[role])} frames", "none in the source")
        elif camera is not None and not camera.optional:
            seen.add(key, None, role, "no picture by the other reader", f"pictures of {camera.key}")
        return
    if role not in sample.frames:
        seen.add(key, None, role, "no frames", f"{len(means.steps)} frames")
        return
    if len(pictures) != plain.num_steps:
        seen.add(key, None, f"source: {camera.key}", f"{len(pictures)} pictures", f"{plain.num_steps} steps")
        return
    expected = [_upright(pictures[step], camera, side) for step in means.steps]
    for step, image in enumerate(sample.pixels(role)[: len(expected)]):
        seen.frames += 1
        mean, block = _away(image, expected[step], quality)
        seen.frame_mean, seen.frame_block = max(seen.frame_mean, mean), max(seen.frame_block, block)
        near = {
            other: _away(image, expected[other], quality)[0]
            for other in (step + offset for offset in NEIGHBOURS)
            if 0 <= other < len(expected) and mean > NEARER
        }
        nearest = min(near, key=lambda other: near[other], default=step)
        is_other = bool(near) and near[nearest] + NEARER < mean
        if is_other or mean > MEAN_TOLERANCE or block > BLOCK_TOLERANCE:
            said = f"{mean:.2f} grey levels away (worst block {block:.1f})"
            said += f"; nearer to step {nearest} ({near[nearest]:.2f})" if is_other else ""
            bound = f"the source's step {means.steps[step]} within {MEAN_TOLERANCE} (block {BLOCK_TOLERANCE})"
            seen.add(key, step, role, said, bound)
            return


def compare_pictures(key: str, raw: RawEpisode, plain: PlainEpisode, spec: "DatasetSpec", roles: Sequence[str],
                     seen: Measured) -> None:  # fmt: skip
    """Our reader's and decoder's pictures of the source against the other library's."""
    for role in roles:
        camera = spec.cameras.get(role)
        theirs = None if camera is None else plain.pictures(camera.key)
        if camera is None or theirs is None or camera.key not in raw.steps:
            continue
        ours = raw.steps[camera.key]
        if len(ours) != len(theirs):
            seen.add(key, None, f"source: {camera.key}", f"{len(ours)} pictures by our reader", f"{len(theirs)}")
            continue
        for step, (data, image) in enumerate(zip(ours, theirs, strict=True)):
            mine = decode(data)
            same = mine.shape == image.shape
            mean, block = difference(mine, image) if same else (0.0, 0.0)
            if not same or mean > MEAN_TOLERANCE or block > BLOCK_TOLERANCE:
                found = f"{mean:.2f} grey levels away" if same else mine.shape
                seen.add(key, step, f"source: {camera.key}", found, "the other decoder's" if same else image.shape)
                break


def _upright(image_HWC: np.ndarray, camera: "Camera", side: int) -> np.ndarray:
    """As the spec says that a picture must be turned and its channels read, then resized."""
    image_HWC = image_HWC[:, :, [2, 1, 0]] if camera.channels == "bgr" else image_HWC
    if camera.flip is not None:
        image_HWC = np.flipud(image_HWC) if camera.flip == "vertical" else np.fliplr(image_HWC)
    return resized(np.rot90(image_HWC, 2) if camera.rotate == 180 else image_HWC, side)


def _away(image: np.ndarray, expected: np.ndarray, quality: int) -> tuple[float, float]:
    if image.shape != expected.shape:
        return 255.0, 255.0
    return min(difference(image, expected), difference(image, after_jpeg(expected, quality)))
