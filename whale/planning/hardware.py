"""What a machine does per second: a stated peak and the share of it that training is assumed to reach (MFU)."""

import difflib
import re
from dataclasses import dataclass

from whale.common.errors import ConfigError


@dataclass(frozen=True)
class Device:
    """`peak` in FLOP/s of one device, `utilization` of it, `memory` in bytes (None: not a limit that we know)."""

    name: str
    peak: float
    utilization: float
    memory: float | None
    why: str
    bytes_per_value: int  # of an activation


@dataclass(frozen=True)
class Hardware:
    """`count` equal devices, used in parallel without loss."""

    count: int
    device: Device

    def hours(self, flops: float) -> float:
        """Wall time of `flops`, if nothing else is in the way."""
        return flops / (self.count * self.device.peak * self.device.utilization) / 3600

    def __str__(self) -> str:
        device = self.device
        speed = f"{device.peak / 1e12:g} TFLOP/s" if device.peak >= 1e12 else f"{device.peak / 1e9:g} GFLOP/s"
        return f"{self.count}x {device.name}, {speed} each, {device.utilization:.0%} of it used ({device.why})"


CPU = "cpu core"
DEVICES = {
    "cpu": Device(
        CPU,
        100e9,
        0.33,
        None,
        "fp32 matrix product 90-110 GFLOP/s per core measured; a third for small models",
        4,
    ),
    "rtx 4090": Device(
        "RTX 4090", 165e12, 0.29, 24e9, "dense bf16 peak; the share that the paper's X-base run implies", 2
    ),
    "h200": Device("H200", 790e12, 0.45, 141e9, "bf16, 80 % of the 989 printed; 45 % is a target, not measured", 2),
}
DEFAULT_CORES = 2


def parse_hardware(text: str) -> Hardware:
    """`cpu` (2 cores), `16x cpu`, `1x H200`, `8x RTX 4090`. Raises ConfigError with the nearest name."""
    match = re.fullmatch(r"(?:(\d{1,6})\s*x\s*)?(.+)", text.strip().lower())
    name = " ".join(match[2].split()) if match else ""
    if match is None or name not in DEVICES or match[1] == "0":
        close = difflib.get_close_matches(name, DEVICES, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"one of: {', '.join(DEVICES)}, with a count: 8x RTX 4090"
        raise ConfigError("unknown hardware", place="--hardware", found=text, expected=hint)
    return Hardware(int(match[1] or (DEFAULT_CORES if name == "cpu" else 1)), DEVICES[name])


def default_hardware(flops: float) -> Hardware:
    """Two cores where they need less than a day, else the paper's eight GPUs."""
    cores = parse_hardware("cpu")
    return cores if cores.hours(flops) < 24 else parse_hardware("8x RTX 4090")
