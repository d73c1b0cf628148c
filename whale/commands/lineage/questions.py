"""`whale lineage`: what an auditor asks, each question one offline command over the signed ledger.

Exit codes: 0 ok, 1 mismatch, 2 missing, 3 signature or licence, 4 incomplete, 5 tainted, 64 usage. Each answer ends
with one line that says whether the signatures of the ledger held; 3 where they did not.
"""

from pathlib import Path
from typing import Annotated

import typer

from whale.commands.lineage import text as say
from whale.commands.lineage.artefact import Artefact, answer, end, load_graph
from whale.commands.output import AllowLicences, AsJson
from whale.common.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Where a checkpoint or a number comes from, provable offline.")


@app.command("show", epilog="Example: whale lineage show artifacts/demo/models/finetuned/dynamics/full")
def show(
    artefact: Artefact,
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option(help="Write the graph as one local page instead.")] = None,
) -> None:
    """Show the datasets and checkpoints it was built from. With digest, licence, kept and dropped, weight, share."""
    from whale.audit.questions.show import show as ask

    asked = load_graph()
    target = asked.graph.find(artefact)
    found = ask(target, asked.graph)
    if html is not None:
        from whale.audit.page import lineage_page

        text = lineage_page(target, asked.graph, asked.line())
        html.write_text(text, encoding="ascii", errors="xmlcharrefreplace")
        answer({"html": str(html)}, asked, as_json, lambda _: print(html), 4 if found["missing"] else 0)
    answer(found, asked, as_json, say.show, 4 if found["missing"] else 0)


@app.command("episodes", epilog="Example: whale lineage episodes artifacts/demo/models/dynamics/full --dropped")
def episodes(
    artefact: Artefact,
    dropped: Annotated[bool, typer.Option("--dropped", help="Only those that were dropped, with the reason.")] = False,
    as_json: AsJson = False,
) -> None:
    """List every source episode, kept or dropped and why. With its split, place in the source and content digest."""
    from whale.audit.questions.episodes import episodes as ask

    asked = load_graph()
    answer(ask(asked.graph.find(artefact).run, asked.graph, dropped), asked, as_json, say.episodes)


@app.command("env", epilog="Example: whale lineage env artifacts/demo/models/dynamics/full --json")
def env(
    artefact: Artefact,
    only_params: Annotated[bool, typer.Option("--params", help="Only parameters and seed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show parameters, machine and packages of its run. Every default is resolved; packages have their hashes."""
    from whale.audit.facts import read_json

    asked = load_graph()
    run = asked.graph.find(artefact).run
    found = {"stage": run.name, "params": run.params, "internal": run.internal, "settings": run.settings}
    found |= {"environment": read_json(run, "environment.json"), "attempts": read_json(run, "attempts.json") or []}
    answer(found, asked, as_json, say.params if only_params else say.env, 4 if found["environment"] is None else 0)


@app.command("code", epilog="Example: whale lineage code artifacts/demo/models/dynamics/full --patch")
def code(
    artefact: Artefact,
    patch: Annotated[
        bool, typer.Option("--patch", help="Print the patch from the commit to the code that ran.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the commit and code files that made it. And whether commit and patch give that tree again."""
    from whale.audit.questions.code import code as ask

    asked = load_graph()
    run = asked.graph.find(artefact).run
    if patch:
        print((run.byproduct("code.patch") or b"").decode("utf-8", "replace"), end="")
        end(asked)
    found = ask(run)
    answer(found, asked, as_json, say.code, found["exit_code"])


@app.command("licenses", epilog="Example: whale lineage licenses artifacts/demo/models/dynamics/full")
def licenses(
    artefact: Artefact,
    policy: Annotated[Path | None, typer.Option(help="YAML: allow: [SPDX ids], require_evidence: true")] = None,
    allow: AllowLicences = None,
    as_json: AsJson = False,
) -> None:
    """Hold the licence of each dataset against a policy. With its evidence; exit 3 if one is refused."""
    from whale.audit.questions.licences import allowing, licences, load_policy

    if policy is not None and allow is not None:
        raise ConfigError("two policies", place="--policy, --allow-licenses", remedy="give one of them")
    asked, rules = load_graph(), load_policy(policy) if allow is None else allowing(allow)
    found = licences(asked.graph.find(artefact).run, asked.graph, rules)
    answer(found, asked, as_json, say.licences, 3 if found["refused"] else 0)


@app.command("diff", epilog="Example: whale lineage diff train_dynamics@full finetune_dynamics@full")
def diff(one: Artefact, other: Artefact, as_json: AsJson = False) -> None:
    """Compare what two artefacts were made from. Data, mixture, code, parameters, machine; exit 1 if they differ."""
    from whale.audit.questions.diff import diff as ask

    asked = load_graph()
    found = ask(asked.graph.find(one), asked.graph.find(other), asked.graph)
    answer(found, asked, as_json, say.diff, 0 if found["equal"] else 1)


@app.command("seen", epilog="Example: whale lineage seen artifacts/demo/models/dynamics/full fleet_delta-train-0000003")
def seen(
    artefact: Artefact,
    episode: Annotated[str, typer.Argument(help="Its key, or the first digits of its payload's or content's sha256")],
    as_json: AsJson = False,
) -> None:
    """Say how often training drew an episode. For each training behind the checkpoint, from which step to which."""
    from whale.audit.questions.seen import seen as ask

    asked = load_graph()
    trainings = [vars(each) for each in ask(asked.graph.find(artefact).run, episode, asked.graph)]
    answer({"episode": episode, "trainings": trainings}, asked, as_json, say.seen)


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
    """Find evaluation episodes in the training data. By content, under any name; exit 1 if there are.

    --near finds copies that were encoded anew, resized, brightened; not those cut in time, cropped, mirrored or turned.
    """
    from whale.audit.questions.leakage import leakage as ask

    asked = load_graph()
    found = ask(asked.graph.find(artefact).run, evaluation, asked.graph, near)
    answer(found, asked, as_json, say.leakage, 1 if found["leaked"] or found["near"] else 0)


@app.command("why", epilog="Example: whale lineage why artifacts/demo/metrics/evaluate_video.json")
def why(
    number: Annotated[str, typer.Argument(help="FILE or FILE#KEY of a published metrics file")], as_json: AsJson = False
) -> None:
    """Show what is behind a number. Checkpoints, data, code, parameters, protocol."""
    from whale.audit.questions.why import why as ask

    asked = load_graph()
    answer(ask(number, asked.graph), asked, as_json, say.why)


@app.command("affected", epilog="Example: whale lineage affected dataset:fleet_delta")
def affected(
    dataset: Annotated[str, typer.Argument(help="dataset:NAME[@DIGEST][#EPISODE]")], as_json: AsJson = False
) -> None:
    """List what a dataset or an episode reached. Checkpoints and evaluations; needs the ledger only, not the data."""
    from whale.audit.questions.affected import affected as ask

    asked = load_graph()
    answer(ask(dataset, asked.graph), asked, as_json, say.affected)
