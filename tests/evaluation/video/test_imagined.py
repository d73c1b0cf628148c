from dataclasses import replace

import numpy as np
from video_config import video_config

from whale.evaluation.measuring.rollouts.heldout import read_windows
from whale.evaluation.video.imagined import grouped_metrics, scored

CONFIG = video_config(filmstrips=0)


def test_the_numbers_of_a_task_are_those_of_its_windows_alone(dataset):
    windows = read_windows(dataset, "train", 5, 6, 2)
    task = np.array(["far" if number % 2 else "near" for number in range(len(windows))])
    frames = windows.frames[:, 1:] + np.where(task == "far", 40, 2).astype(np.uint8)[:, None, None, None, None]
    scores = scored("full", frames, windows)
    found = grouped_metrics("full", scores, replace(windows, task=task), None, CONFIG)
    gain = scores.psnr["full"] - scores.psnr["copy_last"]
    for name in ("far", "near"):
        at = f"task.{name}.h4.psnr_above_copy_last"
        assert np.isclose(found[at], gain[task == name, 3].mean()) and found[f"{at}.low"] <= found[at]
        assert found[f"task.{name}.num_windows"] == (task == name).sum()
    assert found["task.near.h4.psnr_above_copy_last"] > found["task.far.h4.psnr_above_copy_last"]
    assert not [key for key in found if key.startswith("policy")]
    assert grouped_metrics("full", scores, windows, None, CONFIG) == {}
