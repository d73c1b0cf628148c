"""What the commands of lineage share: how a person names an artefact, the graph that knows it, and how an answer ends:
with one line that says whether the ledger can be believed."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from whale.commands.output import print_json

if TYPE_CHECKING:
    from whale.audit.run_graph import RunGraph

Artefact = Annotated[str, typer.Argument(help="A published folder or file, a sha256, or a stage such as mix")]
ExpectRoot = Annotated[
    str | None, typer.Option("--expect-root", help="The fingerprint of the root of trust, as its owner told you.")
]


@dataclass(frozen=True)
class Asked:
    """The ledger here. `says`: {"held", "lines", "root", "pinned", "faults"} of its chain's heads and signatures."""

    graph: "RunGraph"
    says: dict[str, Any]

    @property
    def code(self) -> int:
        """3 where an answer stands on what nobody whom the project trusts has signed."""
        return 0 if self.says["held"] else 3

    def line(self) -> str:
        """For people."""
        if self.says["held"]:
            where = f"root {self.says['root'][:16]}, pinned in {self.says['pinned']}"
            return f"ledger: all {self.says['lines']} signatures held; {where}"
        first, more = self.says["faults"][0], len(self.says["faults"]) - 1
        rest = f", and {more} more" if more else ""
        return f"ledger: DO NOT BELIEVE THIS ANSWER: {first}{rest}; `whale lineage verify` names them"

    def require_held(self) -> None:
        """RefusedError before anything is done, or handed on, in the name of a ledger that does not hold."""
        from whale.common.errors import RefusedError

        if not self.says["held"]:
            raise RefusedError("the ledger's signatures do not hold", found="; ".join(self.says["faults"][:5]),
                               remedy="`whale lineage verify` names every fault")  # fmt: skip


def load_graph() -> Asked:
    """Every run of the ledger here, and whether its signatures hold."""
    from whale.audit.checks.findings import Report
    from whale.audit.checks.ledger_check import check_signatures
    from whale.audit.run_graph import RunGraph
    from whale.common.errors import WhaleError
    from whale.lineage import ledger

    entries, report = ledger.read(), Report()
    check_signatures(report, entries)
    # what git could not be asked is no fault of a signature: `pinned` says it
    faults = [f"{each.where}: {each.what}" for each in report.findings if each.kind != "incomplete"]
    try:
        ledger.check_head(entries)
    except WhaleError as error:
        faults.append(f"{error.what}: {error.file}")
    root = report.root or {"fingerprint": None, "pinned": None}
    says = {"held": not faults, "lines": len(entries), "root": root["fingerprint"], "pinned": root["pinned"]}
    return Asked(RunGraph(entries), {**says, "faults": faults})


def answer(
    found: dict[str, Any], asked: Asked, as_json: bool, say: Callable[[dict[str, Any]], None], code: int = 0
) -> NoReturn:
    """Print `found` and what the ledger is worth, then end with `code`, or 3 where that is 0 and nothing held."""
    from whale.common.printable import one_line

    if as_json:
        print_json({**found, "ledger": asked.says})
    else:
        say(one_line(found))
        print(one_line(asked.line()))
    raise typer.Exit(code or asked.code)


def end(asked: Asked) -> NoReturn:
    """For commands whose output is a file: the line goes to stderr."""
    from whale.common.printable import one_line

    print(one_line(asked.line()), file=sys.stderr)
    raise typer.Exit(asked.code)
