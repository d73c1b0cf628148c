"""A trained tokenizer as the numpy callable that `tokenize_shard` takes.

Shapes: S segments, T window, R resolution, N tokens per frame.
"""

from pathlib import Path

import numpy as np
import torch

from whale.models.tokenizer.tokenizer import VideoTokenizer
from whale.models.trunk.torch_process import set_up_torch
from whale.runtime.maps.model_map import digest_of_parts, in_batches
from whale.runtime.maps.segment_maps import Encode


def load_encode(tokenizer_dir: Path, batch_segments: int, device: str = "cpu") -> Encode:
    """encode(frames uint8 [S,T+1,R,R,3]) -> tokens uint16 [S,T+1,N], computed on `device`."""
    set_up_torch(threads=1)
    tokenizer = VideoTokenizer.restore(tokenizer_dir, device)

    @torch.inference_mode()
    def encode_batch(frames_STRRC: np.ndarray) -> np.ndarray:
        return tokenizer.encode(tokenizer.pixels(frames_STRRC)).cpu().numpy().astype(np.uint16)

    def encode(frames_STRRC: np.ndarray) -> np.ndarray:
        return in_batches(encode_batch, batch_segments, frames_STRRC)

    return encode


def encoder_digest(tokenizer_dir: Path) -> str:
    """Digest of what decides tokens, encoder and codebook: tuning the decoder keeps tokens valid."""
    return digest_of_parts(VideoTokenizer.restore(tokenizer_dir), ("encoder", "quantizer"))
