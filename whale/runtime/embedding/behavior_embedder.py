"""The prior of a trained behavior model as the numpy callable that `embed_shard` takes.

Shapes: S segments, T window, R resolution, A = 7 action dimensions, K x M categories x classes of z.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from whale.common.errors import MissingInputError
from whale.common.json_files import read_json
from whale.data.segments.actions import ActionNormalizer
from whale.data.storage.shards import ShardSet
from whale.models.behavior.behavior import BehaviorModel
from whale.models.trunk.torch_process import set_up_torch
from whale.runtime.embedding.statistics_contract import require_same_statistics
from whale.runtime.maps.model_map import digest_of_parts, in_batches
from whale.runtime.maps.segment_maps import Embedder


def load_embedder(
    behavior_dir: Path, statistics: Mapping[str, Any], batch_segments: int, device: str = "cpu"
) -> Embedder:
    """The prior on `device`, for a dataset of these statistics; embed(...) gives float16 log-probs [S,T,K,M]."""
    set_up_torch(threads=1)
    behavior = BehaviorModel.restore(behavior_dir, device)

    @torch.inference_mode()
    def embed_batch(frames_STRRC: np.ndarray, actions_STA: np.ndarray) -> np.ndarray:
        log_probs = behavior.prior_log_probs(behavior.pixels(frames_STRRC), behavior.placed(actions_STA))
        return log_probs.cpu().numpy().astype(np.float16)

    def embed(frames_STRRC: np.ndarray, actions_STA: np.ndarray) -> np.ndarray:
        return in_batches(embed_batch, batch_segments, frames_STRRC, actions_STA)

    return Embedder(embed, ActionNormalizer.from_statistics(statistics), behavior.config.memory)


def prior_digest(behavior_dir: Path) -> str:
    """Digest of what decides z: the prior, and how far back it looks if it has a memory."""
    behavior = BehaviorModel.restore(behavior_dir)
    tensors, memory = digest_of_parts(behavior, ("prior_encoder", "prior_head")), behavior.config.memory
    return tensors if memory is None else hashlib.sha256(f"{tensors} memory {memory}".encode()).hexdigest()


def trained_statistics(behavior_dir: Path, shards: ShardSet) -> dict[str, Any]:
    """The action statistics the model was trained with; refused if those of the shards differ by now."""
    path = behavior_dir / "dataset_statistics.json"
    if not path.is_file():
        raise MissingInputError("a model without statistics", file=path, remedy="run its training stage again")
    known = read_json(path)
    require_same_statistics(known, shards.name, shards.statistics, path)
    return known[shards.name]
