"""What the tokenizer alone makes of recorded frames: the ceiling of every world model that draws with it.

Shapes: S segments, F frames of each, B windows, L frames, T window, R resolution.
"""

import numpy as np
import torch
from torch import Tensor

from whale.models.tokenizer.tokenizer import VideoTokenizer


@torch.inference_mode()
def reconstruct(tokenizer: VideoTokenizer, frames: np.ndarray, batch_size: int) -> np.ndarray:
    """Encode and decode segments, each from its own first frame. uint8 [S, F, R, R, 3] -> the same."""
    parts = []
    for start in range(0, len(frames), batch_size):
        tokens = tokenizer.encode(tokenizer.pixels(frames[start : start + batch_size]))
        parts.append(_to_uint8(tokenizer.decode(tokens)))
    return np.concatenate(parts)


@torch.inference_mode()
def reconstruct_long(tokenizer: VideoTokenizer, frames: np.ndarray, window: int, batch_size: int) -> np.ndarray:
    """What a rollout from the first frame shows if every token is right: its ceiling. uint8 [B, L, R, R, 3], the same.

    The first frame is given, and stays. Encoded in pieces of T + 1 frames, each beginning where the last one ended.
    """
    shown = frames[:, :1]
    for start in range(0, frames.shape[1] - 1, window):
        piece = frames[:, start : start + window + 1]
        parts = [
            _repainted(tokenizer, piece[at : at + batch_size], shown[at : at + batch_size, -1])
            for at in range(0, len(piece), batch_size)
        ]
        shown = np.concatenate([shown, np.concatenate(parts)], axis=1)
    return shown


def _repainted(tokenizer: VideoTokenizer, frames: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The frames behind the first, of which `first` is what is shown."""
    tokens = tokenizer.encode(tokenizer.pixels(frames))
    decoded, shown = torch.from_numpy(_to_uint8(tokenizer.decode(tokens))), [torch.from_numpy(first)]
    tokens = tokens.cpu()
    for number in range(1, frames.shape[1]):
        before, now = tokens[:, number - 1], tokens[:, number]
        shown.append(tokenizer.hold_pixels(decoded[:, number], now, shown[-1], before))
    return torch.stack(shown[1:], dim=1).numpy()


def _to_uint8(frames: Tensor) -> np.ndarray:
    """Rounded exactly as a rollout rounds, so that ceiling and rollout differ in the tokens only."""
    return (frames * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
