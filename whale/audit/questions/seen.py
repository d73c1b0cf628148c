"""Which training saw which episode, how often, and until which step (Q14): computed from plan and seed, not looked up.

Draw i of a plan is a pure function of (plan, i), so the draws of a training are known for ever from its plan, its
number of steps and its batch size. The plan is that of the `mix` run, or of the one fine-tuned dataset; its digest must
be the one in the training's receipt.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from whale.audit.facts import Dataset, datasets_of, receipt_of, trainings_of
from whale.audit.run_graph import RunGraph, StageRun
from whale.common.errors import IncompleteError, MismatchError, MissingInputError
from whale.data.loading.data_fraction import DataFraction
from whale.data.loading.sampler import Plan, SegmentSampler, single_dataset_plan
from whale.data.segments.grid import MIN_FRAMES, SegmentConfig, SegmentIndex

CHUNK = 2**18
DYNAMICS_PLAN = ("train_dynamics",)


@dataclass(frozen=True)
class Exposure:
    """What one training saw of one episode. Steps count from 1; 0 and 0 when it was never drawn."""

    stage: str
    dataset: str
    episode: str
    times: int
    first_step: int
    last_step: int
    by_segment: dict[int, int]


@dataclass(frozen=True)
class Episodes:
    """The episodes of a split that a training draws from, in the order in which segments are numbered."""

    keys: list[str]
    index: SegmentIndex

    @classmethod
    def of(
        cls, dataset: Dataset, split: str, segments: SegmentConfig, chosen: DataFraction | None = None
    ) -> "Episodes":
        table = dataset.episodes()
        rows = table.filter(pc.and_(table["kept"], pc.equal(table["split"], split))).sort_by("key")
        keys, steps = rows["key"].to_pylist(), rows["steps_out"].to_pylist()
        if chosen:  # among those that have a token sample, as the training chose
            long = [place for place, count in enumerate(steps) if count >= MIN_FRAMES]
            places = [long[place] for place in chosen.places(dataset.name, [keys[place] for place in long])]
            keys, steps = [keys[place] for place in places], [steps[place] for place in places]
        return cls(keys, SegmentIndex(steps, segments))

    def segments_of(self, key: str) -> range:
        """Numbers of the segments of one episode; empty for an unknown key."""
        if key not in self.keys:
            return range(0)
        ends = np.concatenate([[0], self.index._ends])
        place = self.keys.index(key)
        return range(int(ends[place]), int(ends[place + 1]))


@dataclass(frozen=True)
class Training:
    """One training's draws, and the datasets that they come from."""

    run: StageRun
    plan: Plan
    datasets: dict[str, Dataset]
    steps: int
    batch_size: int
    chosen: DataFraction | None = None

    @classmethod
    def of(cls, run: StageRun, graph: RunGraph) -> "Training":
        """Raises IncompleteError where a field is missing, MismatchError where plan and receipt are not of one kind."""
        receipt = receipt_of(run)
        if receipt is None:
            raise IncompleteError("no receipt of what it drew", place=run.name)
        datasets = {each.name: each for each in datasets_of(run, graph) if each.name in receipt["datasets"]}
        plan, chosen = _plan(run, graph, datasets)
        if plan.plan_digest != receipt["plan_digest"]:
            raise MismatchError(
                "plan and receipt are not of one kind", place=run.name, found=plan.plan_digest,
                expected=receipt["plan_digest"],
            )  # fmt: skip
        batch_size = run.params[run.stage]["optimization"]["batch_size"]
        return cls(run, plan, datasets, receipt["num_draws"] // batch_size, batch_size, chosen)

    def episodes(self, dataset: str) -> Episodes:
        segments = SegmentConfig(window=self.plan.window, phases=self.plan.phases)
        return Episodes.of(self.datasets[dataset], self.plan.split, segments, self.chosen)

    def draws(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(draw numbers, dataset numbers, segment numbers), in pieces."""
        sampler = SegmentSampler(self.plan)
        total = self.steps * self.batch_size
        for start in range(0, total, CHUNK):
            stop = min(start + CHUNK, total)
            yield np.arange(start, stop), *sampler.arrays(start, stop)

    def exposure(self, dataset: str, episode: str) -> Exposure:
        """How often the draws fall into the segments of `episode`."""
        wanted = self.episodes(dataset).segments_of(episode)
        number = [each.name for each in self.plan.datasets].index(dataset)
        draws, segments = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for indices, datasets, drawn in self.draws() if len(wanted) else ():
            hit = (datasets == number) & (drawn >= wanted.start) & (drawn < wanted.stop)
            draws.append(indices[hit])
            segments.append(drawn[hit] - wanted.start)
        steps = np.concatenate(draws) // self.batch_size + 1
        which, times = np.unique(np.concatenate(segments), return_counts=True)
        counted = dict(zip(which.tolist(), times.tolist(), strict=True))
        first, last = (int(steps.min()), int(steps.max())) if len(steps) else (0, 0)
        return Exposure(self.run.name, dataset, episode, len(steps), first, last, counted)


def seen(run: StageRun, episode: str, graph: RunGraph) -> list[Exposure]:
    """One Exposure per training at or above `run` that draws from the dataset of `episode`.

    `episode`: a key, or the first digits of its payload's or content's sha256. MissingInputError: no such episode.
    """
    dataset, key = find_episode(episode, datasets_of(run, graph))
    trainings = [Training.of(each, graph) for each in trainings_of(run, graph)]
    return [each.exposure(dataset.name, key) for each in trainings if dataset.name in each.datasets]


def find_episode(text: str, datasets: list[Dataset]) -> tuple[Dataset, str]:
    """(dataset, key) of an episode named by key, payload or content digest."""
    for dataset in datasets:
        if (key := dataset.key_of(text, ("payload_sha256", "content_sha256"))) is not None:
            return dataset, key
    remedy = "`whale lineage episodes CHECKPOINT` lists them"
    expected = "a key such as NAME-train-0000003, or a sha256"
    raise MissingInputError("no such episode in its datasets", found=text, expected=expected, remedy=remedy)


def _plan(run: StageRun, graph: RunGraph, datasets: dict[str, Dataset]) -> tuple[Plan, DataFraction | None]:
    """The plan of a training, and the part of the episodes that it draws from, if not all."""
    mixes = [each for each in graph.parents(run) if each.stage == "mix"]
    is_of_one = run.params[run.stage].get("role") == "finetune"  # a reward head of demonstrations; `mix` is passed over
    if mixes and not is_of_one:
        plans = mixes[-1].told("plan.json")
        if plans is None:
            raise MissingInputError("the sampling plan is gone", place=mixes[-1].name)
        name = "dynamics" if run.stage in DYNAMICS_PLAN else "pretrain"
        plan = Plan.parse(plans[name], file="plan.json", place=name)
        entry = run.params[run.stage]  # one of train_dynamics may have a seed and a fraction; others never
        own, fraction = entry.get("seed"), float(entry.get("data_fraction", 1))  # recorded as text
        chosen = DataFraction(fraction, plan.seed) if fraction < 1 else None
        if chosen:
            segments, split = SegmentConfig(window=plan.window, phases=plan.phases), plan.split
            names = [each.name for each in plan.datasets]
            counts = {name: Episodes.of(datasets[name], split, segments, chosen).index.num_segments for name in names}
            plan = plan.restricted(counts, chosen.provenance(plan.provenance))
        return (plan if own is None else plan.reseeded(own)), chosen
    ((name, dataset),) = datasets.items()
    segments = SegmentConfig(**run.params["segments"])
    index = Episodes.of(dataset, "train", segments).index
    plan = single_dataset_plan(
        name, index.num_segments, run.params["seed"], window=segments.window, phases=segments.phases,
        shards_digest=dataset.summary["manifest_sha256"],
    )  # fmt: skip
    return plan, None
