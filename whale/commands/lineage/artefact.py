"""What the commands of lineage share: how a person names an artefact, and the graph that knows it."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from whale.audit.run_graph import RunGraph

Artefact = Annotated[str, typer.Argument(help="A published folder or file, a sha256, or a stage such as mix")]


def load_graph() -> "RunGraph":
    """Every run of the ledger here."""
    from whale.audit.run_graph import RunGraph

    return RunGraph.load()
