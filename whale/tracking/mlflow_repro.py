"""One parent run per `dvc repro` (or per experiment of DVC): its stages hang below it, and it is compared as a whole.

It has the parameters of all its stages, the few numbers and the files of the report, and ends as its stages ended.
"""

from datetime import UTC, datetime
from typing import Any

from whale.tracking.mlflow_models import points
from whale.tracking.mlflow_search import every
from whale.tracking.spooled_run import MAX_METRICS, MAX_NAME, MAX_PARAMS, MAX_TEXT, SpooledRun, batches, milliseconds

REPRO, KIND, COMMIT = "whale.dvc", "whale.kind", "mlflow.source.git.commit"
SUMMARY = "report"  # the stage whose numbers and files stand for the whole
OPEN, FAILED = "RUNNING", ("FAILED", "KILLED")


class Repros:
    """The parent runs of one experiment of MLflow."""

    def __init__(self, client: Any, experiment: str):
        self.client, self.experiment = client, experiment
        self._ids: dict[str, str] = {}

    def parent_of(self, run: SpooledRun) -> str | None:
        """The parent's id, made with the first of its stages; None for a stage that DVC did not start."""
        if run.repro is None:
            return None
        if run.repro not in self._ids:
            wanted = f"tags.`{REPRO}` = '{run.repro}' and tags.`{KIND}` = 'repro'"
            found = self.client.search_runs([self.experiment], wanted, max_results=1)
            self._ids[run.repro] = found[0].info.run_id if found else self._create(run)
        return self._ids[run.repro]

    def add(self, run: SpooledRun) -> None:
        """What a stage that has ended says of the whole: its parameters, and if it is the report, its numbers."""
        from mlflow.entities import Param

        if (parent := self.parent_of(run)) is None:
            return
        known = self.client.get_run(parent).data.params
        named = {_in_params_yaml(run, name)[:MAX_NAME]: text[:MAX_TEXT] for name, text in run.params().items()}
        for batch in batches([Param(name, text) for name, text in named.items() if name not in known], MAX_PARAMS):
            self.client.log_batch(parent, params=batch)
        if run.start["stage"] == SUMMARY:
            for batch in batches(list(points(run.lines)), MAX_METRICS):
                self.client.log_batch(parent, metrics=batch, synchronous=True)
            self.client.set_tag(parent, COMMIT, run.commit)

    def close(self) -> None:
        """Each parent ends when no stage of it runs: as the worst of them, at the last one's end."""
        for parent in self._ids.values():
            wanted = f"tags.`mlflow.parentRunId` = '{parent}'"
            stages = list(every(self.client.search_runs, [self.experiment], wanted))
            statuses = {stage.info.status for stage in stages}
            if OPEN in statuses:
                self.client.update_run(parent, status=OPEN)
                continue
            ended = max(stage.info.end_time for stage in stages)
            self.client.set_terminated(parent, "FAILED" if statuses & set(FAILED) else "FINISHED", ended)

    def _create(self, run: SpooledRun) -> str:
        began = datetime.fromtimestamp(run.start["time"], UTC)
        name = run.start.get("experiment") or f"dvc repro {began:%Y-%m-%d %H:%M}"
        tags = {REPRO: str(run.repro), KIND: "repro", "mlflow.source.name": "dvc.yaml", "mlflow.source.type": "PROJECT",
                "mlflow.note.content": "All stages that one `dvc repro` ran; those that were up to date are in earlier "
                "runs. Its numbers are the report's."}  # fmt: skip
        return self.client.create_run(self.experiment, milliseconds(run.start), tags, name).info.run_id


def _in_params_yaml(run: SpooledRun, name: str) -> str:
    """`train_dynamics.seed` of the item `full` is `train_dynamics.full.seed`."""
    section, _, rest = name.partition(".")
    return f"{section}.{run.start['item']}.{rest}" if run.start["item"] and section == run.start["stage"] else name
