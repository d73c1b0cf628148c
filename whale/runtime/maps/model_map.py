"""What the mapping stages share: a trained model over the frame shards of one dataset, on the configured engine.

One torch thread per process, in every engine: sums then do not depend on where or beside whom a shard is mapped. A
batch never mixes episodes.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from whale.common.config import Config
from whale.common.run import Run
from whale.data.segments.grid import SegmentConfig
from whale.data.segments.token_shards import write_manifest
from whale.data.storage.shards import ShardSet
from whale.models.trunk.folder import tensor_digest
from whale.runtime.maps.ray_map import map_shards
from whale.runtime.maps.segment_maps import ShardTask, grid_of_shards, shard_tasks
from whale.runtime.workers.process.execution import load_execution


class MapConfig(Config):
    """Section of a mapping stage. `batch_segments`: how many segments of an episode go through the model at once."""

    batch_segments: int = Field(gt=0)


def map_dataset(
    run: Run,
    kind: Literal["tokens", "z"],
    function: Callable[[Any, ShardTask], dict[str, Any]],
    make_state: Callable[..., Any],
    *,
    made_by: str,
    shards_dir: Path,
    out_dir: Path,
    segments: SegmentConfig,
) -> None:
    """Apply `function` to every frame shard and write the manifest.

    `make_state(device=...)` loads the model, whose tensors have the digest `made_by`.
    """
    execution = load_execution()
    device = execution.chosen_device()
    run.note(engine={"device": device})
    tasks = run.sampled(shard_tasks(shards_dir, out_dir, segments))
    shards = ShardSet.open(shards_dir)
    num_frames = sum(int(shards.episodes(split).num_steps.sum()) for split in shards.splits)
    with run.progress(len(tasks), "shards") as progress:
        fragments = map_shards(
            function,
            tasks,
            make_state=partial(make_state, device=device),
            engine=execution.engine_for(run.stage, num_frames),
            num_workers=execution.mappers(),
            needs_gpu=device == "cuda",
            ray_address=execution.ray_address,
            progress=progress,
            add_compute=run.add_compute,
        )
    name = shards.name
    totals = write_manifest(out_dir, kind, name, grid_of_shards(shards_dir, segments), made_by, fragments)
    run.log_metrics({f"{name}/{what}": count for what, count in totals.items()})


def in_batches(function: Callable[..., np.ndarray], size: int, *arrays: np.ndarray) -> np.ndarray:
    """`function` on slices of at most `size` rows, joined."""
    starts = range(0, len(arrays[0]), size)
    return np.concatenate([function(*(array[start : start + size] for array in arrays)) for start in starts])


def digest_of_parts(model: torch.nn.Module, parts: tuple[str, ...]) -> str:
    """Digest of the tensors below these submodules: what decides the mapped values, and nothing else."""
    prefixes = tuple(f"{part}." for part in parts)
    return tensor_digest({name: tensor for name, tensor in model.state_dict().items() if name.startswith(prefixes)})
