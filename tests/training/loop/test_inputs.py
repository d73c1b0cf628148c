"""What a training stage reads from shards."""

import json

import numpy as np
from tiny_shards import SIZE, write_tiny_shards

from whale.data.segments.grid import SegmentConfig
from whale.training.loop.inputs import PixelInputs


def test_the_mean_image_weighs_every_dataset_the_same_however_long_it_is(tmp_path):
    """A tiny frame's red is 10 x its step, its green 20 x its episode; first frames of segments of a window of 4."""
    statistics = {}
    for name, lengths in {"long": [9, 9, 9, 9], "short": [5]}.items():
        folder = write_tiny_shards(tmp_path / "shards" / name, name, lengths)
        statistics[name] = json.loads((folder / "statistics.json").read_text())
    (tmp_path / "mix").mkdir()
    (tmp_path / "mix/statistics.json").write_text(json.dumps(statistics))
    inputs = PixelInputs(tmp_path / "shards", tmp_path / "mix", SegmentConfig(window=4, phases=1), SIZE, seed=0)
    mean = inputs.mean_image()
    assert mean.shape == (SIZE, SIZE, 3)
    expected = np.mean([[20, 30, 128], [0, 0, 128]], axis=0) / 255  # long: steps 0 and 4, episodes 0 to 3
    np.testing.assert_allclose(mean.numpy(), np.broadcast_to(expected, mean.shape), atol=2.5 / 255)  # JPEG
    assert (mean == inputs.mean_image()).all()
