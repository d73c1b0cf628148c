"""Checkpoints in MLflow: one LoggedModel each, by reference, and a version in the registry.

A checkpoint is known by the sha256 of its MANIFEST.json: made again with equal bytes it is the same LoggedModel and the
same version. Metrics are linked to the checkpoint they were measured of, through the digests that the run read.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whale.common.files import MANIFEST_NAME, sha256_of_file
from whale.tracking.mlflow_rows import opened, require_few, store_of
from whale.tracking.mlflow_search import every
from whale.tracking.spooled_run import MAX_TEXT, Line, SpooledRun, below_profile, milliseconds

DIGEST, FOLDER = "whale.manifest_sha256", "whale.folder"
CURRENT = "current"  # the alias of the version that lies in artifacts/
MAX_DIGEST = 36  # of a data set, in MLflow
ROLES = {"pretrain": "models", "finetune": "models/finetuned"}
MAKERS = ("train", "finetune")  # stages whose numbers are never of a checkpoint that they read
PARTS = {"tokenizer": "tokenizer", "policy": "behavior", "z": "behavior"}  # of a metric's name -> what it is of
SCALING = "evaluate_scaling"
ENTRIES = ("dynamics", "rssm")  # of which there are several, by name


@dataclass(frozen=True)
class Source:
    """What a metric was measured of, and on: either may be unknown."""

    model_id: str | None = None
    dataset: tuple[str, str] | None = None  # name and digest, as the run's inputs have them


class Models:
    """LoggedModels of one experiment."""

    def __init__(self, client: Any, experiment: str, root: Path):
        """`root`: of the project, which paths in spools are relative to."""
        self.client, self.experiment, self.root = client, experiment, root
        self._known: dict[str, str | None] = {}

    def find(self, digest: str) -> str | None:
        """The id of the LoggedModel whose MANIFEST.json has this sha256."""
        if self._known.get(digest) is None:
            self._known[digest] = self._newest(digest)
        return self._known[digest]

    def _newest(self, digest: str) -> str | None:
        """By rows: a search of MLflow's would bring every metric that was ever linked to the model."""
        with opened(store_of(self.client)) as rows:
            tagged: dict[str, str | int] = {
                "experiment_id": int(self.experiment),
                "tag_key": DIGEST,
                "tag_value": digest,
            }
            named = [model_id for (model_id,) in rows.of("logged_model_tags", ["model_id"], **tagged)]
            about = ["creation_timestamp_ms", "model_id", "lifecycle_stage"]
            found = [row for each in named for row in rows.of("logged_models", about, model_id=each)]
        kept = [(made, model_id) for made, model_id, stage in found if stage != "deleted"]
        return max(kept)[1] if kept else None

    def log(self, run: SpooledRun, run_id: str) -> None:
        """The checkpoint that `run` made, if it made one."""
        from mlflow.entities import LoggedModelOutput

        for line in run.of("model"):
            model_id = self.find(line["sha256"]) or self._create(run, run_id, line)
            outputs = self.client.get_run(run_id).outputs
            if model_id not in {each.model_id for each in (outputs.model_outputs if outputs else [])}:
                self.client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])

    def made_by(self, run: SpooledRun) -> str | None:
        """The LoggedModel that `run` made."""
        return next((self.find(line["sha256"]) for line in run.of("model")), None)

    def read_by(self, run: SpooledRun) -> dict[str, str]:
        """Folder below artifacts/<profile>/ -> id, of every checkpoint that `run` read."""
        holders = run.holders().items()
        found = {below_profile(path, run.start["profile"]): self.find(digest) for path, (digest, _) in holders
                 if "models" in path.split("/")}  # fmt: skip
        return {path: model_id for path, model_id in found.items() if model_id}

    def _create(self, run: SpooledRun, run_id: str, line: Line) -> str:
        from mlflow.entities import LoggedModelStatus

        folder = below_profile(line["path"], run.start["profile"])
        name = folder.removeprefix("models/").replace("/", "-")
        tags = {DIGEST: line["sha256"], FOLDER: line["path"], "whale.weights_sha256": line["weights_sha256"]}
        tags |= {"mlflow.model.isExternal": "true", **run.start["tags"]}
        params = {key: text[:MAX_TEXT] for key, text in run.params().items()}
        kind = run.start["stage"].partition("_")[2]
        model = self.client.create_logged_model(self.experiment, name, run_id, tags, params, kind)
        self.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        self._register(f"{run.start['profile']}-{name}", model.model_id, run_id, line)
        self._known[line["sha256"]] = model.model_id
        return model.model_id

    def _register(self, name: str, model_id: str, run_id: str, line: Line) -> None:
        if not self.client.search_registered_models(f"name = '{name}'", max_results=1):
            about = f"{line['path']}: every version by reference, told by the sha256 of its {MANIFEST_NAME}"
            self.client.create_registered_model(name, {FOLDER: line["path"]}, about)
        tags = {DIGEST: line["sha256"], "whale.weights_sha256": line["weights_sha256"]}
        about = (
            f"`{line['path']}` with {MANIFEST_NAME} {line['sha256']}; where it came from: `whale audit {line['path']}`"
        )
        source = (self.root / line["path"]).absolute().as_uri()
        version = self.client.create_model_version(
            name, source, run_id, tags, description=about, await_creation_for=0, model_id=model_id
        ).version
        versions = json.dumps([{"name": name, "version": version}])
        self.client.set_logged_model_tags(model_id, {"mlflow.modelVersions": versions})


def point_at_current(client: Any, root: Path) -> None:
    """The alias `current` at the version whose bytes lie in artifacts/ of the project at `root`; at none if no
    version is that."""
    require_few(client)
    for registered in every(client.search_registered_models):
        manifest = root / registered.tags.get(FOLDER, "") / MANIFEST_NAME
        now = sha256_of_file(manifest) if FOLDER in registered.tags and manifest.is_file() else None
        versions = every(client.search_model_versions, f"name = '{registered.name}'") if now else iter(())
        wanted = next((str(each.version) for each in versions if each.tags.get(DIGEST) == now), None)
        pointed = registered.aliases.get(CURRENT)
        if wanted and str(pointed) != wanted:
            client.set_registered_model_alias(registered.name, CURRENT, wanted)
        elif pointed and not wanted and FOLDER in registered.tags:
            client.delete_registered_model_alias(registered.name, CURRENT)


class Sources:
    """Of the metrics of one run: which checkpoint and which data set each was measured of."""

    def __init__(self, run: SpooledRun, run_id: str, models: Models):
        self._run_id, self._models = run_id, models
        self._linked: dict[str, set[tuple[str, int, int]]] = {}
        self._own, makes = models.made_by(run), run.start["stage"].partition("_")[0] in MAKERS
        self._read = {} if self._own or makes else models.read_by(run)
        self._stage, self._params = run.start["stage"], run.params()
        self._datasets = {path.rpartition("/")[2]: (below_profile(path, run.start["profile"]), digest[:MAX_DIGEST])
                          for path, (digest, _) in run.holders().items() if "shards" in path.split("/")}  # fmt: skip

    def of(self, name: str) -> Source:
        """`name`: role.dataset.split.metric, or a name that the stage alone knows, as `loss`."""
        if self._own or not self._read:
            return Source(self._own)
        words = name.split(".")
        role, dataset, _, kind, *rest = words if words[0] in ROLES and len(words) > 3 else (*self._asked(), "", "")
        if self._stage == SCALING:  # of models by name, or of the line through them, which is no model's
            kind, rest = "dynamics", words[words.index("models") + 1 :] if "models" in words else []
            if not rest:
                return Source(None, self._datasets.get(dataset))
        entry = rest[0] if kind in ENTRIES and rest else self._params.get(f"{self._stage}.model", "full")
        part = PARTS.get(kind, f"{kind if kind in ENTRIES else 'dynamics'}/{entry}")
        folders = [f"{ROLES[each]}/{part}" for each in (role, "pretrain")]
        model_id = next((self._read[folder] for folder in folders if folder in self._read), None)
        return Source(model_id, self._datasets.get(dataset))

    def is_linked(self, model_id: str, point: tuple[str, int, int]) -> bool:
        """Whether (name, milliseconds, step) of this run is there: MLflow refuses many of them a second time."""
        if model_id not in self._linked:  # of this run alone: all that was ever measured of it has no limit
            point_of = ["metric_name", "metric_timestamp_ms", "metric_step"]
            with opened(store_of(self._models.client)) as rows:
                found = rows.of("logged_model_metrics", point_of, model_id=model_id, run_id=self._run_id)
                self._linked[model_id] = {(name, time, step) for name, time, step in found}
        return point in self._linked[model_id]

    def _asked(self) -> tuple[str, str]:
        """(role, dataset) that the stage was asked for, where the names of its metrics do not say."""
        found = (self._params.get(f"{self._stage}.{name}", "") for name in ("role", "dataset"))
        role, dataset = found
        return role if role in ROLES else "pretrain", dataset


def points(lines: list[Line], sources: Sources | None = None) -> Iterator[Any]:
    """MLflow's Metric of every number in `lines`, linked to what it was measured of."""
    from mlflow.entities import Metric

    for line in lines:
        for name, text in line["metrics"].items() if line["kind"] == "metrics" else ():
            source, step = sources.of(name) if sources else Source(), line["step"] or 0
            if sources and source.model_id and sources.is_linked(source.model_id, (name, milliseconds(line), step)):
                source = Source()
            data, digest = source.dataset if source.model_id and source.dataset else (None, None)
            yield Metric(name, float(text), milliseconds(line), step, source.model_id, data, digest)
