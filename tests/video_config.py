"""A small section `evaluate_video`, as tests of whatever is measured of videos need it."""

from typing import Any

from whale.evaluation.uncertainty.estimation.decoding import Decoding
from whale.evaluation.video.video import EvaluateVideoConfig


def video_config(**changes: Any) -> EvaluateVideoConfig:
    """By argmax, from one frame, to horizons 1 and 4 of two windows an episode; `changes`: fields that matter here."""
    values: dict[str, Any] = {
        "seed": 0, "pretrain_splits": ["train"], "finetune_splits": ["train"], "max_episodes": 6,
        "max_train_episodes": 4, "windows_per_episode": 2, "context": 1, "horizons": [1, 4], "filmstrips": 2,
        "resamples": 100, "batch_size": 5, "action_episodes": 4, "lpips": None, "i3d": None, "percep_efflite0": None,
        "starts": "keyed", "decoding": Decoding(mode="argmax", temperature=1.0, samples=1),
    }  # fmt: skip
    return EvaluateVideoConfig(**values | changes)
