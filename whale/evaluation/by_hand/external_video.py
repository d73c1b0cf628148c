"""Score anybody's generated videos by the protocol of evaluate_video: the way to fill the rows of other systems.

First the tasks are written: one folder per window with `context.npy` (uint8 [c, R, R, 3], the given frames) and
`actions.npy` (float32 [c-1+h, 7], raw units: the first is taken at the first given frame). A system answers each with
`frames.npy` (uint8 [h, R, R, 3]) in a folder of the same name: DIR/<role>.<dataset>.<split>/<episode>+<start>/. Every
task must be answered, and nothing else.
Shapes: B windows, c given frames, h horizon, R resolution.
"""

import hashlib
from itertools import islice
from pathlib import Path

import numpy as np

from whale.common.errors import BadDataError, BeyondLimitError, MissingInputError
from whale.common.limits import ANSWER_FILE_BYTES
from whale.data.storage.npy import read_npy
from whale.evaluation.measuring.objects import hue_borders
from whale.evaluation.measuring.roles import roles
from whale.evaluation.measuring.rollouts.heldout import Dataset, Windows, open_datasets
from whale.evaluation.measuring.rollouts.heldout import read_frames as recorded_frames
from whale.evaluation.numbers.metrics import under
from whale.evaluation.video.end_effector import fit_effector_probe
from whale.evaluation.video.imagined import imagined_metrics, scored
from whale.evaluation.video.perceptual import FeatureNetworks
from whale.evaluation.video.video import EvaluateVideoConfig
from whale.evaluation.video.video_report import rollout_protocol, rollout_windows

EXTERNAL = "external"


def rollout_sets(artifacts: Path, config: EvaluateVideoConfig) -> list[tuple[str, Dataset, str, Windows]]:
    """(`role.dataset.split`, dataset, split, windows) of everything evaluate_video imagines, in its order."""
    found = []
    for role, _, data in roles(artifacts / "models", artifacts / "data"):
        for dataset in open_datasets(data):
            for split in config.splits(role):
                windows = rollout_windows(dataset, split, config)
                found.append((f"{role}.{dataset.name}.{split}", dataset, split, windows))
    return found


def write_tasks(directory: Path, group: str, windows: Windows) -> int:
    """What a system is given: frames and raw actions of every window. Returns how many were written."""
    given, actions = windows.given, windows.with_earlier(windows.actions)
    for index, key in enumerate(windows.keys):
        folder = directory / group / key
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "context.npy", given[index], allow_pickle=False)
        np.save(folder / "actions.npy", actions[index], allow_pickle=False)
    return len(windows)


def read_frames(directory: Path, group: str, windows: Windows) -> tuple[np.ndarray, str]:
    """Answers uint8 [B, h, R, R, 3] in the order of `windows`, and the first 16 digits of sha256 over their bytes.

    MissingInputError for a task without an answer, BadDataError for an answer without a task or of a wrong shape.
    """
    folder = directory / group
    many = islice((path.name for path in folder.glob("*") if path.is_dir()), len(windows.keys) + 1)
    answered = set(many)  # one more than there are tasks is enough to name
    if unknown := sorted(answered - set(windows.keys)):
        raise BadDataError(
            "answers to tasks that do not exist", file=folder, found=unknown[:3], expected=windows.keys[:3]
        )
    expected = (windows.frames.shape[1] - 1, *windows.frames.shape[2:])
    digest, frames = hashlib.sha256(), []
    for key in windows.keys:
        frames.append(_read(folder / key / "frames.npy", expected))
        digest.update(f"{key}\n".encode() + frames[-1].tobytes())
    return np.stack(frames), digest.hexdigest()[:16]


def external_metrics(
    dataset: Dataset, split: str, windows: Windows, frames: np.ndarray, model: str, networks: FeatureNetworks,
    config: EvaluateVideoConfig,
) -> dict[str, object]:  # fmt: skip
    """The keys of `dynamics.<name>.rollout` for foreign frames [B, h, R, R, 3], with the same protocol string."""
    probe = fit_effector_probe(dataset, config.seed)
    hues = hue_borders(recorded_frames(dataset, "train", config.max_train_episodes))
    scores = scored(EXTERNAL, frames, windows)
    metrics = imagined_metrics(EXTERNAL, scores, windows, probe, hues, networks, config)
    return metrics | {"protocol": rollout_protocol(dataset, split, windows, config, model)}


def score_frames(
    artifacts: Path, directory: Path, networks: FeatureNetworks, config: EvaluateVideoConfig
) -> dict[str, object]:
    """Metrics of every set that DIR answers; at least one must be. Flat, under `role.dataset.split`."""
    metrics: dict[str, object] = {}
    for group, dataset, split, windows in rollout_sets(artifacts, config):
        if (directory / group).is_dir():
            frames, digest = read_frames(directory, group, windows)
            metrics |= under(group, external_metrics(dataset, split, windows, frames, digest, networks, config))
    if not metrics:
        raise MissingInputError(
            "no answers here",
            file=directory,
            expected="<role>.<dataset>.<split>/<episode>+<start>/frames.npy",
            remedy="whale evaluate video --tasks DIR writes what has to be answered",
        )
    return metrics


def _read(path: Path, expected: tuple[int, ...]) -> np.ndarray:
    if not path.is_file():
        raise MissingInputError("a task has no answer", file=path, expected=f"uint8 {list(expected)}")
    size = path.stat().st_size
    if size > ANSWER_FILE_BYTES:
        raise BeyondLimitError("file too large", file=path, found=f"{size} bytes",
                               expected=f"<= {ANSWER_FILE_BYTES} bytes")  # fmt: skip
    with open(path, "rb") as stream:
        frames = read_npy(stream, size, path)
    if frames.dtype != np.uint8 or frames.shape != expected:
        raise BadDataError(
            "frames of a wrong kind", file=path, found=f"{frames.dtype} {list(frames.shape)}",
            expected=f"uint8 {list(expected)}",
        )  # fmt: skip
    return frames
