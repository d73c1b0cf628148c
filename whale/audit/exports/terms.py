"""What binds whoever gets an export, beside it: the licences of the data, and what is owed to their makers."""

from collections.abc import Sequence
from pathlib import Path

from whale.audit.exports.hub import LICENCES
from whale.audit.questions.licences import LicencePolicy, licences
from whale.audit.questions.obligations import as_markdown, obligations
from whale.audit.run_graph import RunGraph, StageRun, Target
from whale.common.json_files import write_json

OBLIGATIONS = "OBLIGATIONS.md"


def write_terms(out: Path, target: Target, graph: RunGraph, beside: Sequence[StageRun] = ()) -> None:
    """licences.json and OBLIGATIONS.md, of every dataset behind `target` and behind what goes out `beside` it."""
    write_json(out / LICENCES, {"datasets": licences(target.run, graph, LicencePolicy(), beside)["datasets"]})
    owed = as_markdown(obligations(target, graph, LicencePolicy(), beside))
    (out / OBLIGATIONS).write_text(owed, encoding="ascii")
