"""How close imagined frames are to recorded ones: PSNR, SSIM, PSNR where something moves, and two trivial baselines.

Shapes: ... any leading axes, H W C image. Frames are uint8 in [0, 255]; a score is one number per frame.
"""

import numpy as np

PEAK = 255.0
PSNR_CAP_DB = 100.0  # of two identical frames, whose PSNR is infinite and would swallow every mean
CHANGING_THRESHOLD = 25  # levels of 255: a tenth of the range, above JPEG noise


def squared_error(truth_HWC: np.ndarray, image_HWC: np.ndarray) -> np.ndarray:
    """Mean squared error per frame, in levels squared. uint8 [..., H, W, C] -> float64 [...]."""
    difference = truth_HWC.astype(np.float32) - image_HWC.astype(np.float32)
    return np.square(difference).mean(axis=(-3, -2, -1), dtype=np.float64)


def psnr(truth_HWC: np.ndarray, image_HWC: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio per frame in dB, at most 100. uint8 [..., H, W, C] -> float64 [...]."""
    return _decibel(squared_error(truth_HWC, image_HWC))


def psnr_of_changing_pixels(truth_HWC: np.ndarray, image_HWC: np.ndarray, changing_HW: np.ndarray) -> np.ndarray:
    """PSNR per frame over the pixels of `changing_HW` (bool [..., H, W]) only; NaN for a frame that has none."""
    squared_HW = np.square(truth_HWC.astype(np.float32) - image_HWC.astype(np.float32)).mean(axis=-1)
    count = changing_HW.sum(axis=(-2, -1))
    total = np.where(changing_HW, squared_HW, 0.0).sum(axis=(-2, -1), dtype=np.float64)
    return np.where(count > 0, _decibel(total / np.maximum(count, 1)), np.nan)


def changing_pixels(truth_HWC: np.ndarray, mean_HWC: np.ndarray, threshold: int = CHANGING_THRESHOLD) -> np.ndarray:
    """Pixels where a frame leaves its dataset's mean image by more than `threshold` levels in any channel.

    The mean image holds what never moves (table, walls), so this mask holds the arm and the objects.
    """
    return np.any(np.abs(truth_HWC.astype(np.float32) - mean_HWC.astype(np.float32)) > threshold, axis=-1)


def ssim(truth_HWC: np.ndarray, image_HWC: np.ndarray) -> np.ndarray:
    """Structural similarity per frame, mean over channels and over the pixels whose 11 x 11 window fits.

    Wang et al. 2004: Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03; a test compares with torchmetrics, which adds
    reflected borders to the mean and takes 2 s to import. uint8 [..., H, W, C] -> float64 [...].
    """
    x, y = truth_HWC.astype(np.float64), image_HWC.astype(np.float64)
    mean_x, mean_y = _blur(x), _blur(y)
    var_x, var_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    score = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    score /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return score.mean(axis=(-3, -2, -1))


def mean_image(frames_HWC: np.ndarray) -> np.ndarray:
    """The best constant guess: mean over all leading axes, rounded. uint8 [..., H, W, C] -> uint8 [H, W, C]."""
    leading = tuple(range(frames_HWC.ndim - 3))
    return np.rint(frames_HWC.mean(axis=leading, dtype=np.float64)).astype(np.uint8)


def copy_last(context_BTHWC: np.ndarray, horizon: int) -> np.ndarray:
    """The floor of a world model: repeat the last context frame. [B, c, H, W, C] -> [B, horizon, H, W, C]."""
    return np.repeat(context_BTHWC[:, -1:], horizon, axis=1)


def _decibel(mean_squared: np.ndarray) -> np.ndarray:
    floor = PEAK**2 / 10 ** (PSNR_CAP_DB / 10)
    return 10 * np.log10(PEAK**2 / np.maximum(mean_squared, floor))


def _blur(image_HWC: np.ndarray) -> np.ndarray:
    """Separable Gaussian filter of width 11 over H, then W; only positions where the window fits."""
    offset = np.arange(-5, 6)
    weight = np.exp(-0.5 * (offset / 1.5) ** 2)
    weight /= weight.sum()
    return _filter(_filter(image_HWC, weight, axis=-3), weight, axis=-2)


def _filter(image: np.ndarray, weight: np.ndarray, axis: int) -> np.ndarray:
    """Weighted sum of shifted views along `axis`: far faster than a product over strided windows."""
    moved = np.moveaxis(image, axis, 0)
    count = len(moved) - len(weight) + 1
    total = weight[0] * moved[:count]
    for index, value in enumerate(weight[1:], start=1):
        total += value * moved[index : index + count]
    return np.moveaxis(total, 0, axis)
