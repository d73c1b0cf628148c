"""How a number was measured, as one string; numbers measured in different ways are never compared.

`metric=psnr|data=fleet_delta/val|resolution=64|...|model=1f0c...|decoding=sample`: what defines the measurement comes
before `model=`; only the model, and how it was run, may differ between two numbers that stand side by side.
"""

import hashlib
from collections.abc import Iterable, Mapping

from whale.common.errors import ConfigError

PARTS = ("tokenizer", "behavior", "dynamics")  # of a world model, in the order in which they name it


def protocol(metric: str, *, model: str, run_with: Mapping[str, object] | None = None, **settings: object) -> str:
    """The protocol string of a group of numbers; settings are sorted by name, values must not contain '|'.

    run_with: how the model itself was run, such as its decoding, where another system has ways of its own.
    """
    own = dict(run_with or {})
    fields = {"metric": metric, **{key: settings[key] for key in sorted(settings)}, "model": model, **own}
    for key, value in fields.items():
        if "|" in str(value) or "=" in str(value):
            raise ConfigError(
                "a protocol value holds a separator", place=key, found=value, expected="no '|' and no '='"
            )
    return "|".join(f"{key}={value}" for key, value in fields.items())


def model_name(weights: Iterable[str]) -> str:
    """The `model` of a protocol, 16 hex digits, of its parts' weights by their sha256 (hex), in their order.

    A name, not a proof: MANIFEST.json is that.
    """
    digest = hashlib.sha256()
    for each in weights:
        digest.update(bytes.fromhex(each))
    return digest.hexdigest()[:16]


def require_comparable(left: str, right: str) -> None:
    """Raise ConfigError unless the two protocols differ in nothing but the model and how it was run."""
    a, b = _settings(left), _settings(right)
    unlike = sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))
    if unlike:
        raise ConfigError(
            "numbers of unlike protocols are not compared",
            place=", ".join(unlike),
            found=right,
            expected=left,
            remedy="measure both with the same settings",
        )


def _settings(text: str) -> dict[str, str]:
    measurement, _, _ = text.partition("|model=")
    return dict(part.split("=", 1) for part in measurement.split("|") if "=" in part)
