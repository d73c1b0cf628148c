"""Which splits the stages of params.yaml will ask of a dataset; its spec tells before anything is read or trained.

Ingest refuses by this, yet the sections of evaluation are no params of it in dvc.yaml: a refusal changes no byte, and a
stage that failed runs again anyway; declared, another choice of evaluation splits would ingest and train anew.
"""

from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from whale.common.errors import ConfigError
from whale.data.spec.spec import DatasetSpec

TRAINING = {"pretrain": {"train": "training", "val": "early stopping"}, "finetune": {"train": "fine-tuning"}}
EVALUATIONS = ("evaluate_video", "evaluate_uncertainty")
OF_ENTRIES = ("evaluate_values", "train_reward", "evaluate_scaling")  # splits stand in the entries of these
OF_DATASETS = "evaluate_behavior"  # in its entries, which have the names of datasets


def needed_splits(name: str, params: Mapping[str, Any]) -> dict[str, list[str]]:
    """Split -> what asks for it; empty for a dataset that `params` do not name."""
    role = section(section(params, "datasets"), name).get("role")
    needed = {split: [reader] for split, reader in TRAINING.get(str(role), {}).items()}
    for stage in EVALUATIONS:
        asked = section(params, stage).get(f"{role}_splits")
        for split in asked if needed and isinstance(asked, list) else ():  # the stage itself refuses anything else
            needed.setdefault(str(split), []).append(f"{stage}.{role}_splits")
    own = section(section(params, OF_DATASETS), name).get("splits")
    named = [(f"{OF_DATASETS}.{name}.splits", str(split)) for split in (own if isinstance(own, list) else ())]
    for place, split in (*_asked_by_entries(str(role), params), *named):
        if needed:
            needed.setdefault(split, []).append(place)
    return needed


def _asked_by_entries(role: str, params: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(what asks, split): values are those of all pretraining datasets, rewards and scaling those of a role."""
    values_of, rewards_of, scaling_of = OF_ENTRIES
    for entry, values in section(params, scaling_of).items():
        asked = values.get(f"{role}_splits") if isinstance(values, Mapping) else None
        yield from ((f"{scaling_of}.{entry}.{role}_splits", str(split))
                    for split in (asked if isinstance(asked, list) else ()))  # fmt: skip
    for entry, values in section(params, values_of).items():
        asked = values.get("pretrain_splits") if isinstance(values, Mapping) and role == "pretrain" else None
        yield from ((f"{values_of}.{entry}.pretrain_splits", str(split))
                    for split in (asked if isinstance(asked, list) else ()))  # fmt: skip
    for entry, values in section(params, rewards_of).items():
        if isinstance(values, Mapping) and values.get("role") == role and "test_split" in values:
            yield f"{rewards_of}.{entry}.test_split", str(values["test_split"])


def missing_splits(
    spec: DatasetSpec, params: Mapping[str, Any], empty: Collection[str] = (), specs: Path = Path("data_specs")
) -> ConfigError | None:
    """What is wrong if `spec` names fewer splits than `params` need of it; `empty`: named, but without a record."""
    needed, named = needed_splits(spec.name, params), spec.source.splits
    missing = [split for split in needed if split not in named or split in empty]
    if not missing:
        return None
    return ConfigError(
        f"dataset {spec.name} lacks a split that params.yaml asks for", file=specs / f"{spec.name}.yaml",
        place="source.splits", found=", ".join(f"{split} (no record)" if split in empty else split for split in named),
        expected="; ".join(f"{split} (for {', '.join(needed[split])})" for split in missing),
        remedy=f"{_remedy(spec, missing)}; or let params.yaml name splits that are there",
    )  # fmt: skip


def _remedy(spec: DatasetSpec, missing: list[str]) -> str:
    """All splits as they could be written: what is missing is cut from the end of `train`, or of the first there is."""
    slices = spec.source.slices()
    absent = [split for split in missing if split not in slices]
    empty = [split for split in missing if split in slices]
    said = [f"give a larger share to {', '.join(empty)}"] if empty else []
    donor = "train" if "train" in slices else next(iter(slices))
    part = slices[donor]
    if absent and part.stop - part.start >= 10 * len(absent):
        share = (part.stop - part.start) // 10
        named = list(dict.fromkeys(["train", donor, *absent]))  # the first keeps most
        bounds = [part.start, *(part.stop - share * left for left in range(len(named) - 1, -1, -1))]
        cut = {
            name: part.model_copy(update={"start": start, "stop": stop})
            for name, (start, stop) in zip(named, pairwise(bounds), strict=True)
        }
        written = (f'{name}: "{each.written()}"' for name, each in (slices | cut).items())
        said.append(f"cut from {donor}: {{{', '.join(written)}}}")
    elif absent:
        said.append(f"cut {', '.join(absent)} from a larger split of the source than {donor} is")
    return "; ".join(said)


def require_splits(spec: DatasetSpec, params: Mapping[str, Any], empty: Collection[str] = ()) -> None:
    """Raises ConfigError as `missing_splits` says."""
    if (error := missing_splits(spec, params, empty)) is not None:
        raise error


def section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Empty where there is none, or none that is a mapping: its own stage refuses that."""
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}
