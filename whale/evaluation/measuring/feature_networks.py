"""The two published networks that perceptual metrics need, as plain modules: VGG16 with LPIPS heads, and I3D.

Weights are inputs, never downloaded: a safetensors file whose sha256 the parameters pin (how to convert the published
files: docs/how-to/feature-weights.md; a foreign .pt is never opened here). Names of tensors are those of the originals.
Shapes: B images or videos, T frames, H W image.
"""

from contextlib import AbstractContextManager
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from whale.common.config import Config
from whale.common.errors import MismatchError, MissingInputError
from whale.common.files import sha256_of_file
from whale.models.trunk.folder import load_tensors, require_shapes

VGG_CONVS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
VGG_WIDTHS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
VGG_TAPS, VGG_POOLS = (
    (2, 7, 14, 21, 28),
    (4, 9, 16, 23),
)  # LPIPS reads after these convolutions; max pooling stands here


class NetworkFile(Config):
    """Where the weights lie, and what they must be."""

    path: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


def load_network(file: NetworkFile, network: nn.Module, device: torch.device | str = "cpu") -> nn.Module:
    """`network` on `device` with the weights of `file`.

    Errors: not there (2), other bytes (1), tensors that do not fit (65).
    """
    path = Path(file.path)
    if not path.is_file():
        raise MissingInputError(
            "no feature weights", file=path, remedy="see docs/how-to/feature-weights.md, or set them to null"
        )
    found = sha256_of_file(path)
    if found != file.sha256:
        raise MismatchError(
            "feature weights are not the pinned ones", file=path, found=found, expected=file.sha256,
            remedy="see docs/how-to/feature-weights.md for where they come from and how they are converted",
        )  # fmt: skip
    require_shapes(network, path)
    network.load_state_dict(load_tensors(path))
    return network.eval().to(device)


def all_digits() -> AbstractContextManager:
    """On a GPU a convolution rounds its inputs to 10 bits (TF32) unless it is told not to."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


class LPIPS(nn.Module):
    """Learned perceptual distance, version 0.1 with VGG16 (Zhang et al., arXiv 1801.03924)."""

    def __init__(self) -> None:
        super().__init__()
        widths = dict(zip(VGG_CONVS, VGG_WIDTHS, strict=True))
        fan_in = (3, *VGG_WIDTHS[:-1])
        convs = {str(at): nn.Conv2d(n, widths[at], 3, padding=1) for at, n in zip(VGG_CONVS, fan_in, strict=True)}
        self.features = nn.ModuleDict(convs)
        for number, at in enumerate(VGG_TAPS):
            head = nn.ModuleDict({"model": nn.ModuleDict({"1": nn.Conv2d(widths[at], 1, 1, bias=False)})})
            setattr(self, f"lin{number}", head)

    @torch.inference_mode()
    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """uint8 images [B, H, W, 3] x 2, wherever they lie -> float64 [B] on the network's device."""
        device = self.features.get_parameter("0.weight").device
        left, right = left.to(device), right.to(device)
        total = torch.zeros(len(left), dtype=torch.float64, device=device)
        with all_digits():
            for number, (a, b) in enumerate(zip(self._taps(left), self._taps(right), strict=True)):
                squared = (channel_normalized(a) - channel_normalized(b)).square()
                total += getattr(self, f"lin{number}")["model"]["1"](squared).mean((1, 2, 3)).to(torch.float64)
        return total

    def _taps(self, images: Tensor) -> list[Tensor]:
        x = images.float().permute(0, 3, 1, 2) / 127.5 - 1
        shift, scale = x.new_tensor([-0.030, -0.088, -0.188]), x.new_tensor([0.458, 0.448, 0.450])
        x = (x - shift[:, None, None]) / scale[:, None, None]
        taps = []
        for place in range(VGG_CONVS[-1] + 1):
            if place in VGG_POOLS:
                x = F.max_pool2d(x, 2)
            elif place in VGG_CONVS:
                x = F.relu(self.features[str(place)](x))
                if place in VGG_TAPS:
                    taps.append(x)
        return taps


class _Unit3D(nn.Module):
    """Convolution with TensorFlow's SAME padding, batch norm, ReLU."""

    def __init__(self, fan_in: int, fan_out: int, kernel: int = 1, stride: int = 1, is_logits: bool = False):
        super().__init__()
        self.conv3d = nn.Conv3d(fan_in, fan_out, kernel, stride, bias=is_logits)
        self.kernel, self.stride, self.is_logits = (kernel,) * 3, (stride,) * 3, is_logits
        if not is_logits:
            self.bn = nn.BatchNorm3d(fan_out, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv3d(same_padded(x, self.kernel, self.stride))
        return x if self.is_logits else F.relu(self.bn(x))


class _Mixed(nn.Module):
    """An inception block: four branches, concatenated."""

    def __init__(self, fan_in: int, widths: tuple[int, int, int, int, int, int]):
        super().__init__()
        self.b0 = _Unit3D(fan_in, widths[0])
        self.b1a, self.b1b = _Unit3D(fan_in, widths[1]), _Unit3D(widths[1], widths[2], 3)
        self.b2a, self.b2b = _Unit3D(fan_in, widths[3]), _Unit3D(widths[3], widths[4], 3)
        self.b3b = _Unit3D(fan_in, widths[5])

    def forward(self, x: Tensor) -> Tensor:
        pooled = _max_pool(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], dim=1)


MIXED = {  # name -> input width, widths of b0, b1a, b1b, b2a, b2b, b3b; arXiv 1705.07750
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)), "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)), "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)), "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)), "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}  # fmt: skip
POOL_BEFORE = {
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}
I3D_MIN_FRAMES, I3D_SIZE, I3D_CLASSES = 9, 224, 400


class I3D(nn.Module):
    """Inflated Inception v1 for RGB, 400 classes of Kinetics: what FVD compares (arXiv 1812.01717)."""

    num_features = I3D_CLASSES  # torchmetrics reads this name

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = _Unit3D(3, 64, 7, 2)
        self.Conv3d_2b_1x1, self.Conv3d_2c_3x3 = _Unit3D(64, 64), _Unit3D(64, 192, 3)
        for name, (fan_in, widths) in MIXED.items():
            setattr(self, name, _Mixed(fan_in, widths))
        self.logits = _Unit3D(1024, I3D_CLASSES, is_logits=True)

    @torch.inference_mode()
    def forward(self, videos: Tensor) -> Tensor:
        """uint8 videos [B, T, H, W, 3] with T >= 9, wherever they lie -> mean logits over time [B, 400], on the CPU."""
        with all_digits():
            x = self.Conv3d_1a_7x7(_resized(videos.to(self.logits.conv3d.weight.device)))
            x = self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(_max_pool(x, (1, 3, 3), (1, 2, 2))))
            for name in MIXED:
                if name in POOL_BEFORE:
                    x = _max_pool(x, *POOL_BEFORE[name])
                x = getattr(self, name)(x)
            return self.logits(F.avg_pool3d(x, (2, 7, 7), 1)).flatten(2).mean(-1).cpu()


def _resized(videos: Tensor) -> Tensor:
    """uint8 [B, T, H, W, 3] -> [-1, 1] [B, 3, T, 224, 224], bilinear as the published evaluation resizes."""
    x = videos.float().flatten(0, 1).permute(0, 3, 1, 2)
    x = F.interpolate(x, (I3D_SIZE, I3D_SIZE), mode="bilinear", align_corners=False) / 127.5 - 1
    return x.unflatten(0, videos.shape[:2]).transpose(1, 2)


def channel_normalized(x: Tensor) -> Tensor:
    """[B, C, ...]: of each place, the unit vector of its channels; zeros stay zeros."""
    return x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)


def same_padded(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """[B, C, ...] with zeros around it, as TensorFlow's SAME pads: the odd one at the end."""
    pads: list[int] = []
    for size, k, s in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        total = max(k - s if size % s == 0 else k - size % s, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


def _max_pool(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    return F.max_pool3d(same_padded(x, kernel, stride), kernel, stride)
