"""A stand-alone Python module that draws our mixture with stock WebDataset, for people with their own training loop.

What it keeps: the weights (share of segments drawn), the segment grid, the files. What it can't keep, and says in its
docstring: exact shares, every segment once per epoch, and resuming at a sample; those need whale's own loader.
"""

import json
from pathlib import Path

from whale.common.errors import MismatchError
from whale.data.loading.sampler import Plan
from whale.data.storage.shards import ShardSet

TEMPLATE = '''"""Weighted WebDataset pipeline over ingested episodes, made by `whale mix export --webdataset`.

Plan {digest}: shares of segments drawn at random, so they hold on average; segments of one episode come
together until the shuffle buffer mixes them; there is no exact resume. whale's own loader has exact counts and resumes.
Needs webdataset, numpy, simplejpeg. Usage: `for segment in pipeline(seed=0): ...`
"""

import io
import random

import numpy as np
import simplejpeg
import webdataset as wds

WINDOW, PHASES = {window}, {phases}  # a segment holds WINDOW + 1 frames
SHARES = {shares}
SHARDS = {shards}


def segments(samples):
    """Episodes -> segments: frames uint8 (WINDOW + 1, H, W, 3), action float32 (WINDOW, 7) raw, action_valid bool."""
    for sample in samples:
        names = sorted(name for name in sample if name.startswith("primary."))
        action = np.load(io.BytesIO(sample["action.npy"]), allow_pickle=False)
        valid = np.load(io.BytesIO(sample["action_valid.npy"]), allow_pickle=False)
        for start in range(0, len(names) - 1, WINDOW // PHASES):
            chosen = names[start : start + WINDOW + 1]
            frames = np.stack([simplejpeg.decode_jpeg(sample[name], strict=True) for name in chosen])
            steps, missing = len(chosen) - 1, WINDOW + 1 - len(chosen)
            yield {{
                "key": f"{{sample['__key__']}}+{{start}}",
                "frames": np.concatenate([frames, np.repeat(frames[-1:], missing, axis=0)]),
                "action": np.concatenate([action[start : start + steps], np.zeros((WINDOW - steps, 7), np.float32)]),
                "action_valid": np.concatenate([valid[start : start + steps], np.zeros(WINDOW - steps, bool)]),
            }}


def pipeline(seed=0, shuffle=1000):
    """Endless segments; a dataset starts again when it ends."""
    rng = random.Random(seed)
    random.seed(seed)  # RandomMix draws from Python's global generator
    datasets = []
    for name in sorted(SHARES):
        episodes = wds.WebDataset(SHARDS[name], shardshuffle=len(SHARDS[name]), seed=seed, empty_check=False).repeat()
        datasets.append(episodes.compose(segments).shuffle(shuffle, rng=random.Random(rng.random())))
    return wds.RandomMix(datasets, [SHARES[name] for name in sorted(SHARES)])
'''


def webdataset_module(plan: Plan, shards_dir: Path) -> str:
    """The module's text. Raises MismatchError if the shards are not those of the plan."""
    files: dict[str, list[str]] = {}
    for dataset in plan.datasets:
        shards = ShardSet.open(shards_dir / dataset.name)
        if shards.digest != dataset.shards_digest:
            raise MismatchError(
                "the plan was made for other shards", file=shards.directory, found=shards.digest,
                expected=dataset.shards_digest, remedy="`dvc repro mix`",
            )  # fmt: skip
        chosen = shards.episodes(plan.split).shards()
        files[dataset.name] = [str((shards.directory / file).absolute()) for file in chosen]
    shares = {dataset.name: dataset.per_block / plan.block for dataset in plan.datasets}
    return TEMPLATE.format(
        digest=plan.plan_digest[:16], window=plan.window, phases=plan.phases, shares=json.dumps(shares, indent=4),
        shards=json.dumps(files, indent=4),
    )  # fmt: skip
