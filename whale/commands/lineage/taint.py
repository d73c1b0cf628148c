"""`whale lineage taint`: declare that something must not be built upon."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from whale.commands.lineage import text as say
from whale.commands.lineage.artefact import answer, load_graph
from whale.commands.output import AsJson

app = typer.Typer(no_args_is_help=True, help="Declare that something must not be built upon.")


@app.command("add", epilog="Example: whale lineage taint add dataset:fleet_delta --reason 'consent withdrawn'")
def add(
    what: Annotated[str, typer.Argument(help="dataset:NAME[@DIGEST][#EPISODE], or an artefact")],
    reason: Annotated[str, typer.Option(help="Why; it stands in the ledger for ever")],
    as_json: AsJson = False,
) -> None:
    """Sign that something is tainted. `verify` of anything derived from it then exits 5. This cannot be undone."""
    from whale.audit.questions.affected import make_taint
    from whale.audit.sign import sign_taint
    from whale.common.printable import one_line

    asked = load_graph()
    taint = make_taint(what, reason, asked.graph)
    entry = sign_taint(taint, datetime.now(UTC).isoformat(timespec="seconds"))
    said = f"tainted: {taint.describe()}, ledger {entry[:16]}"
    answer({"entry": entry, **vars(taint)}, asked, as_json, lambda _: print(one_line(said)))


@app.command("list", epilog="Example: whale lineage taint list --json")
def list_taints(as_json: AsJson = False) -> None:
    """List every taint of the ledger."""
    asked = load_graph()
    answer({"taints": [vars(each) for each in asked.graph.taints]}, asked, as_json, say.taints)
