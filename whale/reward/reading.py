"""Rewards read off episodes of frames, recorded, imagined or another system's, by a head and its tokenizer.

Shapes: B episodes, H steps, R resolution, F features of a frame, A actions.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from whale.models.tokenizer.tokenizer import VideoTokenizer
from whale.models.trunk.folder import tensor_digest
from whale.reward.reward import RewardHead, Seen


def encoder_digest(tokenizer: VideoTokenizer) -> str:
    """Names the encoder: sha256 of its weights rounded to float16, so that a small bundle's rounded ones are the same.

    Fine-tuning that leaves the encoder alone leaves the name, and with it every head that reads it.
    """
    return tensor_digest({name: tensor.half() for name, tensor in tokenizer.encoder.state_dict().items()})


def features(tokenizer: VideoTokenizer, frames_BTRRC: Tensor) -> Tensor:
    """Frames in [0, 1] -> [B, T, F]: the encoder's latents, each frame described by itself."""
    flat = frames_BTRRC.flatten(0, 1)[:, None]
    return tokenizer.latents(flat).flatten(1).unflatten(0, frames_BTRRC.shape[:2])


@torch.inference_mode()
def read_rewards(
    head: RewardHead, tokenizer: VideoTokenizer, frames: np.ndarray, actions: np.ndarray, instructions: Sequence[str],
    first: np.ndarray | None = None, batch_size: int = 32,
) -> np.ndarray:  # fmt: skip
    """float64 [B, H]: what each action earned.

    frames uint8 [B, H + 1, R, R, 3], the first of them before any action; actions [B, H, A], NORMALISED; first
    [B, R, R, 3]: how the episodes began, if not with these frames. ConfigError for a task that the head does not know.
    """
    task_B, parts = head.tasks(instructions), []
    begun = frames[:, 0] if first is None else first
    for start in range(0, len(frames), batch_size):
        some = slice(start, start + batch_size)
        seen_BTF = features(tokenizer, tokenizer.pixels(frames[some]))
        first_BF = features(tokenizer, tokenizer.pixels(begun[some])[:, None])
        after_BHF = seen_BTF[:, 1:]
        shape = after_BHF.shape[:2]
        seen = Seen(
            first=first_BF.expand(*shape, -1), before=seen_BTF[:, :-1], after=after_BHF,
            action=head.placed(actions[some]), task=task_B[some, None].expand(shape),
        )  # fmt: skip
        parts.append(head.predict(seen).double().cpu().numpy())
    return np.concatenate(parts)
