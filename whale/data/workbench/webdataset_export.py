"""A stand-alone Python module that draws our mixture with stock WebDataset, for people with their own training loop.

What it keeps: the weights (share of segments drawn), the segment grid, the files. What it can't keep, and says in its
docstring: exact shares, every segment once per epoch, and resuming at a sample; those need whale's own loader.
"""

import json
from pathlib import Path

from jinja2 import StrictUndefined, Template

from whale.common.errors import MismatchError
from whale.data.loading.sampler import Plan
from whale.data.storage.shards import ShardSet

TEMPLATE = Path(__file__).parent / "templates/webdataset_pipeline.txt"


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
    template = Template(TEMPLATE.read_text(encoding="ascii"), undefined=StrictUndefined, keep_trailing_newline=True)
    return template.render(
        digest=plan.plan_digest[:16], window=plan.window, phases=plan.phases, shares=json.dumps(shares, indent=4),
        shards=json.dumps(files, indent=4),
    )  # fmt: skip
