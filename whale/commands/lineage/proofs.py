"""`whale lineage verify` and its kin: that bytes are as they were signed, and the same said in formats of others."""

from pathlib import Path
from typing import Annotated

import typer

from whale.commands.lineage import text as say
from whale.commands.lineage.artefact import Artefact, ExpectRoot, answer, end, load_graph
from whale.commands.output import AsJson, print_json

app = typer.Typer()  # its commands are those of `whale lineage`


@app.command("verify", epilog="Example: whale lineage verify artifacts/demo/models/finetuned/dynamics/full --deep")
def verify(
    artefact: Artefact,
    deep: Annotated[bool, typer.Option("--deep", help="Hash every byte again; trust no size or time.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="A run on uncommitted code is incomplete.")] = False,
    expect_head: Annotated[str | None, typer.Option(help="An id of the ledger that you kept elsewhere.")] = None,
    expect_key: Annotated[str | None, typer.Option(help="Of a bundle: the id of its maker's key.")] = None,
    expect_root: ExpectRoot = None,
    as_json: AsJson = False,
) -> None:
    """Check every byte of it and of what it came from. Names the first broken link and what breaks below it.

    Says which root of trust the signatures lead to and where it is pinned. Whoever can write here could have pinned
    another: --expect-root holds it against the fingerprint that you were told.
    """
    from whale.audit.audit import audit

    report = audit(
        artefact, deep=deep, strict=strict, expect_head=expect_head, expect_root=expect_root, expect_key=expect_key
    )
    if as_json:
        print_json({"artefact": artefact, **report.as_dict()})
    else:
        say.verify(artefact, report)
    raise typer.Exit(report.code)


@app.command("completeness", epilog="Example: whale lineage completeness artifacts/demo/models/dynamics/full")
def completeness(artefact: Artefact, as_json: AsJson = False) -> None:
    """Count the required fields that were recorded. Exit 4 below 100 %."""
    from whale.audit.checks.completeness import completeness as ask

    asked = load_graph()
    found = ask(asked.graph.find(artefact).run, asked.graph)
    answer(found, asked, as_json, say.completeness, 4 if found["missing"] else 0)


@app.command("rederive", epilog="Example: whale lineage rederive train_tokenizer --run")
def rederive(
    artefact: Artefact,
    run: Annotated[bool, typer.Option("--run", help="Do it, in a scratch folder, and compare by sha256.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what making it again needs, or make it again. With --run its last stage is made again and compared."""
    from whale.audit.checks.rederive import plan, run_again

    asked = load_graph()
    target = asked.graph.find(artefact)
    if run:
        asked.require_held()  # its command is about to be started
        found = run_again(target.run)
        answer(found, asked, as_json, say.rederived, 0 if found["equal"] else 1)
    plans = [each.as_dict() for each in plan(target.run, asked.graph)]
    answer({"runs": plans}, asked, as_json, say.plans, 2 if any(each["missing"] for each in plans) else 0)


@app.command("prove", epilog="Example: whale lineage prove artifacts/demo/models/dynamics/full -o bundle")
def prove(
    artefact: Artefact,
    out: Annotated[Path, typer.Option("--out", "-o", help="A new folder")],
    as_json: AsJson = False,
) -> None:
    """Write a folder that others can verify. By model_signing, an in-toto verifier, sha256sum; without this project."""
    from whale.audit.exports.bundle import prove as write

    asked = load_graph()
    asked.require_held()
    files = write(asked.graph.find(artefact), asked.graph, out)
    said = f"{out}: {len(files)} files; see README.txt"
    answer({"out": str(out), "files": files}, asked, as_json, lambda _: print(said))


@app.command("export", epilog="Example: whale lineage export artifacts/demo/models/dynamics/full --format cyclonedx")
def export(
    artefact: Artefact,
    form: Annotated[
        str, typer.Option("--format", help="intoto, cyclonedx, openlineage, prov, croissant, model-signing, card")
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A file; default: standard output")] = None,
    check: Annotated[
        Path | None, typer.Option(help="Compare this earlier export with the ledger; exit 1 if forged")
    ] = None,
) -> None:
    """Write the lineage in a format of others. Equal ledgers give equal bytes, so --check finds an edited export.

    model-signing: a signature of the checkpoint folder by this project's key, for `model_signing verify key FOLDER
    --signature FILE --public_key lineage/keys/KEYID.pub`; keep it outside the folder, whose seal knows no such file.
    card: the model card, with every evaluation and its protocol, licences and citations.
    """
    from whale.audit.exports import formats
    from whale.common.files import write_atomically

    asked = load_graph()
    target = asked.graph.find(artefact)
    if check is not None:
        formats.check(target, asked.graph, form, check)
        print(f"{check}: as the ledger says")
        end(asked)
    payload = formats.export(target, asked.graph, form)
    if out is not None:
        write_atomically(out, payload)
        print(out)
    else:
        print(payload.decode("ascii"), end="")
    end(asked)


def fsck(as_json: AsJson = False) -> None:
    """Read again everything that is stored here. DVC's cache, sealed folders, the ledger; exit 1: changed, 2: gone."""
    from whale.audit.checks.fsck import fsck as check

    report = check()
    if as_json:
        print_json(report.as_dict())
    else:
        say.verify("this project", report)
    raise typer.Exit(report.code)


def audit_checkpoint(
    artefact: Artefact,
    deep: Annotated[bool, typer.Option("--deep", help="Hash every byte again; trust no size or time.")] = False,
    expect_root: ExpectRoot = None,
    as_json: AsJson = False,
) -> None:
    """Show where a checkpoint comes from, then verify it. Says what it did not read again; --deep reads every byte."""
    from whale.audit.audit import audit
    from whale.audit.questions.show import show as ask
    from whale.common.printable import one_line

    report = audit(artefact, deep=deep, strict=False, expect_head=None, expect_root=expect_root)
    asked = load_graph()
    shown = ask(asked.graph.find(artefact), asked.graph)
    if as_json:
        print_json({"show": shown, "verify": report.as_dict()})
    else:
        say.show(one_line(shown))
        say.verify(artefact, report)
    raise typer.Exit(report.code or (4 if shown["missing"] else 0))
