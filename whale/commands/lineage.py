"""`whale lineage`: what an auditor asks, each question one offline command over the signed ledger.

Exit codes: 0 ok, 1 mismatch, 2 missing, 3 signature or licence, 4 incomplete, 5 tainted, 64 usage.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from whale.commands import lineage_text as say
from whale.commands.output import AllowLicences, AsJson, print_json
from whale.common.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Where a checkpoint or a number comes from, provable offline.")
taint_app = typer.Typer(no_args_is_help=True, help="Declare that something must not be built upon.")
app.add_typer(taint_app, name="taint")

Artefact = Annotated[str, typer.Argument(help="A published folder or file, a sha256, or a stage such as mix")]


@app.command("show", epilog="Example: whale lineage show artifacts/demo/models/finetuned/dynamics/full")
def show(
    artefact: Artefact,
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option(help="Write the graph as one local page instead.")] = None,
) -> None:
    """Datasets with digest, licence, kept and dropped, weight and sampled share; checkpoints it was built from."""
    from whale.audit.questions.show import show as ask

    graph = _graph()
    target = graph.find(artefact)
    found = ask(target, graph)
    if html is not None:
        from whale.audit.page import lineage_page

        html.write_text(lineage_page(target, graph), encoding="ascii", errors="xmlcharrefreplace")
        print(html)
    elif as_json:
        print_json(found)
    else:
        say.show(found)
    raise typer.Exit(4 if found["missing"] else 0)


@app.command("verify", epilog="Example: whale lineage verify artifacts/demo/models/finetuned/dynamics/full --deep")
def verify(
    artefact: Artefact,
    deep: Annotated[bool, typer.Option("--deep", help="Hash every byte again; trust no size or time.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="A run on uncommitted code is incomplete.")] = False,
    expect_head: Annotated[str | None, typer.Option(help="An id of the ledger that you kept elsewhere.")] = None,
    as_json: AsJson = False,
) -> None:
    """Has any byte changed, of it or of what it came from? Names the first broken link and what breaks below it."""
    from whale.audit.audit import audit

    report = audit(artefact, deep=deep, strict=strict, expect_head=expect_head)
    if as_json:
        print_json({"artefact": artefact, **report.as_dict()})
    else:
        say.verify(artefact, report)
    raise typer.Exit(report.code)


@app.command("episodes", epilog="Example: whale lineage episodes artifacts/demo/models/dynamics/full --dropped")
def episodes(
    artefact: Artefact,
    dropped: Annotated[bool, typer.Option("--dropped", help="Only those that were dropped, with the reason.")] = False,
    as_json: AsJson = False,
) -> None:
    """Every source episode: kept or dropped and why, its split, its place in the source and its content digest."""
    from whale.audit.questions.episodes import episodes as ask

    graph = _graph()
    found = ask(graph.find(artefact).run, graph, dropped)
    if as_json:
        print_json(found)
    else:
        say.episodes(found)


@app.command("env", epilog="Example: whale lineage env artifacts/demo/models/dynamics/full --json")
def env(
    artefact: Artefact,
    only_params: Annotated[bool, typer.Option("--params", help="Only parameters and seed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Parameters with every default resolved, seed, machine, threads, switches, packages with their hashes."""
    from whale.audit.facts import read_json

    run = _graph().find(artefact).run
    found = {"stage": run.name, "params": run.params, "internal": run.internal, "settings": run.settings}
    found |= {"environment": read_json(run, "environment.json"), "attempts": read_json(run, "attempts.json") or []}
    if as_json:
        print_json(found)
    elif only_params:
        say.params(found)
    else:
        say.env(found)
    raise typer.Exit(4 if found["environment"] is None else 0)


@app.command("code", epilog="Example: whale lineage code artifacts/demo/models/dynamics/full --patch")
def code(
    artefact: Artefact,
    patch: Annotated[
        bool, typer.Option("--patch", help="Print the patch from the commit to the code that ran.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Commit, git tree, whether it was dirty, and each code file; whether commit and patch give that tree again."""
    from whale.audit.questions.code import code as ask

    run = _graph().find(artefact).run
    if patch:
        print((run.byproduct("code.patch") or b"").decode("utf-8", "replace"), end="")
        return
    found = ask(run)
    if as_json:
        print_json(found)
    else:
        say.code(found)
    raise typer.Exit(found["exit_code"])


@app.command("licenses", epilog="Example: whale lineage licenses artifacts/demo/models/dynamics/full")
def licenses(
    artefact: Artefact,
    policy: Annotated[Path | None, typer.Option(help="YAML: allow: [SPDX ids], require_evidence: true")] = None,
    allow: AllowLicences = None,
    as_json: AsJson = False,
) -> None:
    """The licence of each dataset with its evidence, against a policy; exit 3 if one is refused."""
    from whale.audit.questions.licences import allowing, licences, load_policy

    if policy is not None and allow is not None:
        raise ConfigError("two policies", place="--policy, --allow-licenses", remedy="give one of them")
    graph = _graph()
    found = licences(graph.find(artefact).run, graph, load_policy(policy) if allow is None else allowing(allow))
    if as_json:
        print_json(found)
    else:
        say.licences(found)
    raise typer.Exit(3 if found["refused"] else 0)


@app.command("diff", epilog="Example: whale lineage diff train_dynamics@full train_dynamics@without_z")
def diff(one: Artefact, other: Artefact, as_json: AsJson = False) -> None:
    """What differs in data, episodes, mixture, code, parameters and environment; exit 1 if anything does."""
    from whale.audit.questions.diff import diff as ask

    graph = _graph()
    found = ask(graph.find(one), graph.find(other), graph)
    if as_json:
        print_json(found)
    else:
        say.diff(found)
    raise typer.Exit(0 if found["equal"] else 1)


@app.command("seen", epilog="Example: whale lineage seen artifacts/demo/models/dynamics/full fleet_delta-train-0000003")
def seen(
    artefact: Artefact,
    episode: Annotated[str, typer.Argument(help="Its key, or the first digits of its payload's or content's sha256")],
    as_json: AsJson = False,
) -> None:
    """How often each training behind the checkpoint drew an episode, and from which step to which."""
    from whale.audit.questions.exposure import seen as ask

    graph = _graph()
    found = [each.as_dict() for each in ask(graph.find(artefact).run, episode, graph)]
    if as_json:
        print_json({"episode": episode, "trainings": found})
    else:
        say.seen(episode, found)


@app.command(
    "leakage", epilog="Example: whale lineage leakage artifacts/demo/models/dynamics/full --eval fleet_delta:test"
)
def leakage(
    artefact: Artefact,
    evaluation: Annotated[
        str, typer.Option("--eval", help="NAME[:SPLIT] of a dataset in the ledger; default split test")
    ],
    near: Annotated[
        bool, typer.Option("--near", help="Also those that look alike; reads frames, exit 2 if the shards are gone.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Evaluation episodes that stand in the training data under any name, by content; exit 1 if there are.

    --near finds copies that were encoded anew, resized, brightened; not those cut in time, cropped, mirrored or turned.
    """
    from whale.audit.questions.leakage import leakage as ask

    graph = _graph()
    found = ask(graph.find(artefact).run, evaluation, graph, near)
    if as_json:
        print_json(found)
    else:
        say.leakage(found)
    raise typer.Exit(1 if found["leaked"] or found["near"] else 0)


@app.command("why", epilog="Example: whale lineage why artifacts/demo/metrics/evaluate_video.json")
def why(
    number: Annotated[str, typer.Argument(help="FILE or FILE#KEY of a published metrics file")], as_json: AsJson = False
) -> None:
    """The checkpoints, data, code, parameters and protocol behind a number."""
    from whale.audit.questions.why import why as ask

    found = ask(number, _graph())
    if as_json:
        print_json(found)
    else:
        say.why(found)


@app.command("affected", epilog="Example: whale lineage affected dataset:fleet_delta")
def affected(
    dataset: Annotated[str, typer.Argument(help="dataset:NAME[@DIGEST][#EPISODE]")], as_json: AsJson = False
) -> None:
    """Every checkpoint and evaluation that a dataset or an episode reached; needs the ledger only, not the data."""
    from whale.audit.questions.affected import affected as ask

    found = ask(dataset, _graph())
    if as_json:
        print_json(found)
    else:
        say.affected(found)


@app.command("completeness", epilog="Example: whale lineage completeness artifacts/demo/models/dynamics/full")
def completeness(artefact: Artefact, as_json: AsJson = False) -> None:
    """The share of required fields that were recorded; exit 4 below 100 %."""
    from whale.audit.checks.completeness import completeness as ask

    graph = _graph()
    found = ask(graph.find(artefact).run, graph)
    if as_json:
        print_json(found)
    else:
        say.completeness(found)
    raise typer.Exit(4 if found["missing"] else 0)


@app.command("rederive", epilog="Example: whale lineage rederive train_tokenizer --run")
def rederive(
    artefact: Artefact,
    run: Annotated[bool, typer.Option("--run", help="Do it, in a scratch folder, and compare by sha256.")] = False,
    as_json: AsJson = False,
) -> None:
    """What making it again needs and whether all of that is there; with --run its last stage is made again."""
    from whale.audit.checks.rederive import plan, run_again

    graph = _graph()
    target = graph.find(artefact)
    if run:
        found = run_again(target.run)
        if as_json:
            print_json(found)
        else:
            say.rederived(found)
        raise typer.Exit(0 if found["equal"] else 1)
    plans = [each.as_dict() for each in plan(target.run, graph)]
    if as_json:
        print_json({"runs": plans})
    else:
        say.plans(plans)
    raise typer.Exit(2 if any(each["missing"] for each in plans) else 0)


@app.command("prove", epilog="Example: whale lineage prove artifacts/demo/models/dynamics/full -o bundle")
def prove(
    artefact: Artefact,
    out: Annotated[Path, typer.Option("--out", "-o", help="A new folder")],
    as_json: AsJson = False,
) -> None:
    """A folder that others verify with model_signing, an in-toto verifier and sha256sum, without this project."""
    from whale.audit.exports.bundle import prove as write

    graph = _graph()
    files = write(graph.find(artefact), graph, out)
    if as_json:
        print_json({"out": str(out), "files": files})
    else:
        print(f"{out}: {len(files)} files; see README.txt")


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
    """The lineage in a format of others. Equal ledgers give equal bytes, so --check finds an edited export.

    model-signing: a signature of the checkpoint folder by this project's key, for `model_signing verify key FOLDER
    --signature FILE --public_key lineage/keys/KEYID.pub`; keep it outside the folder, whose seal knows no such file.
    card: the model card, with every evaluation and its protocol, licences and citations.
    """
    from whale.audit.exports import formats
    from whale.common.files import write_atomically

    graph = _graph()
    target = graph.find(artefact)
    if check is not None:
        formats.check(target, graph, form, check)
        print(f"{check}: as the ledger says")
        return
    payload = formats.export(target, graph, form)
    if out is not None:
        write_atomically(out, payload)
        print(out)
    else:
        print(payload.decode("ascii"), end="")


@taint_app.command("add", epilog="Example: whale lineage taint add dataset:fleet_delta --reason 'consent withdrawn'")
def taint_add(
    what: Annotated[str, typer.Argument(help="dataset:NAME[@DIGEST][#EPISODE], or an artefact")],
    reason: Annotated[str, typer.Option(help="Why; it stands in the ledger for ever")],
    as_json: AsJson = False,
) -> None:
    """Sign that something is tainted: all that was made from it then verifies as 5. Never undone, only added to."""
    from whale.audit.questions.affected import make_taint
    from whale.audit.sign import sign_taint

    taint = make_taint(what, reason, _graph())
    entry = sign_taint(taint, datetime.now(UTC).isoformat(timespec="seconds"))
    if as_json:
        print_json({"entry": entry, **vars(taint)})
    else:
        print(f"tainted: {taint.describe()}, ledger {entry[:16]}")


@taint_app.command("list", epilog="Example: whale lineage taint list --json")
def taint_list(as_json: AsJson = False) -> None:
    """Every taint of the ledger."""
    from whale.lineage.taint import taint_of

    found = [vars(taint) for entry in _graph().entries if (taint := taint_of(entry.statement)) is not None]
    if as_json:
        print_json({"taints": found})
    else:
        say.taints(found)


def audit_checkpoint(artefact: Artefact, as_json: AsJson = False) -> None:
    """`lineage show`, then `lineage verify`."""
    from whale.audit.audit import audit
    from whale.audit.questions.show import show as ask

    report = audit(artefact, deep=False, strict=False, expect_head=None)
    graph = _graph()
    shown = ask(graph.find(artefact), graph)
    if as_json:
        print_json({"show": shown, "verify": report.as_dict()})
    else:
        say.show(shown)
        say.verify(artefact, report)
    raise typer.Exit(report.code or (4 if shown["missing"] else 0))


def _graph() -> Any:
    from whale.audit.run_graph import RunGraph

    return RunGraph.load()
