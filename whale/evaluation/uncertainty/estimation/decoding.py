"""How the tokens of imagined frames are chosen: the likeliest, or drawn; the same for the same seed and window.

Tokens of one frame are chosen independently. By argmax a rollout settles where its model agrees with itself; drawn at
temperature 1 it follows the model's own distribution, at a cost in PSNR (`evaluate_uncertainty` measures both).
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from whale.common.config import Config

Mode = Literal["sample", "argmax"]
MODES: tuple[Mode, Mode] = ("sample", "argmax")
SEED_BYTES = 5  # of a window's name; another digest takes the frame's number in


class Decoding(Config):
    """`temperature` and `samples`, the draws of each query or window, count where tokens are drawn: mode `sample`."""

    mode: Mode
    temperature: float = Field(gt=0)
    samples: int = Field(ge=1)

    @property
    def draws(self) -> int:
        """Outcomes of one query: argmax has one."""
        return self.samples if self.mode == "sample" else 1

    def by(self, mode: Mode) -> "Decoding":
        """The same in another mode."""
        return self.model_copy(update={"mode": mode})

    def how(self, keys: Sequence[str], seed: int) -> dict[str, Any]:
        """Arguments of a rollout of these windows."""
        return {"temperature": self.temperature, "seed": row_seeds(keys, seed)} if self.mode == "sample" else {}

    def settings(self) -> dict[str, Any]:
        """For protocol strings."""
        if self.mode == "argmax":
            return {"decoding": "argmax"}
        return {"decoding": "sample", "temperature": self.temperature, "samples": self.samples}


def row_seeds(keys: Sequence[str], seed: int) -> list[int]:
    """A window draws by its name, so the same among whatever others."""
    return [int.from_bytes(hashlib.sha256(f"{seed}|{key}".encode()).digest()[:SEED_BYTES], "big") for key in keys]
