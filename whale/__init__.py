"""WHALE world models. `whale.load(FOLDER)` gives a world to imagine with (whale.worlds.world.World)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whale.worlds.load import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    if name != "load":
        raise AttributeError(f"module 'whale' has no attribute {name!r}")
    from whale.worlds.load import load

    return load
