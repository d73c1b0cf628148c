"""What the Hugging Face hub reads of a model card: https://huggingface.co/docs/hub/model-cards#model-card-metadata.

The licence is that of the data: nothing here says more about weights than where they came from. Names of datasets and
of the base model are this project's; who uploads them puts an owner in front.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from whale.audit.facts import datasets_of, trainings_of
from whale.audit.questions.licences import UNREAD
from whale.audit.run_graph import RunGraph, StageRun
from whale.common.files import MANIFEST_NAME

TASK, LIBRARY = "robotics", "whale-world-model"
LICENCES = "licences.json"  # beside the card: one row a dataset
# SPDX ids that the hub knows, in its spelling; https://huggingface.co/docs/hub/repositories-licenses
KNOWN_LICENCES = {
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "isc", "unlicense", "mpl-2.0", "lgpl-3.0", "gpl-3.0",
    "agpl-3.0", "cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-3.0", "cc-by-nc-4.0",
    "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "odbl", "pddl",
}  # fmt: skip


def hub_metadata(run: StageRun, graph: RunGraph, beside: Iterable[StageRun] = ()) -> dict[str, Any]:
    """Task, library, licence, datasets, and what the checkpoint that `run` made was fine-tuned from."""
    datasets = datasets_of(run, graph, beside)
    found: dict[str, Any] = {"pipeline_tag": TASK, "library_name": LIBRARY}
    found |= _licence([each.summary["licence"] for each in datasets])
    found["datasets"] = sorted({each.name for each in datasets})
    if (base := _base(run, graph)) is not None:
        found |= {"base_model": [hub_name(base)], "base_model_relation": "finetune"}
    return found


def hub_name(run: StageRun) -> str:
    """A name for the checkpoint that `run` made, as MLflow's registry has it: demo-finetuned-dynamics-full."""
    folder = next(Path(name).parent for name in run.outputs if Path(name).name == MANIFEST_NAME)
    below = folder.parts[folder.parts.index("models") + 1 :] if "models" in folder.parts else folder.parts[-1:]
    return "-".join([str(run.internal.get("profile") or "whale"), *below])


def _licence(licences: list[dict[str, Any]]) -> dict[str, str]:
    """One licence that all datasets have, and whose terms somebody has read; else what they have, by name."""
    ids = sorted({str(each["spdx"] or "unknown") for each in licences})
    is_read = all(str(each["evidence"]).strip().lower() not in UNREAD for each in licences)
    if len(ids) == 1 and ids[0].lower() in KNOWN_LICENCES and is_read:
        return {"license": ids[0].lower()}
    name = "-and-".join(ids).lower() + ("" if is_read else "-unverified")
    return {"license": "other", "license_name": name or "unknown", "license_link": LICENCES}


def _base(run: StageRun, graph: RunGraph) -> StageRun | None:
    """The training of the same kind whose checkpoint `run` went on from."""
    kind = run.stage.removeprefix("finetune_")
    read = set(run.read.values())
    return next((each for each in trainings_of(run, graph) if run.stage.startswith("finetune_")
                 and each.stage == f"train_{kind}" and read & set(each.subjects.values())), None)  # fmt: skip
