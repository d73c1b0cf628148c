"""`whale spec`: dataset specs, listed and checked without any data; drafted and previewed with some."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whale.commands.output import AllowLicences, AsJson, print_json, print_table
from whale.common.errors import BadDataError, ConfigError, MissingInputError, RefusedError, WhaleError
from whale.common.files import write_atomically
from whale.common.printable import one_line

if TYPE_CHECKING:
    from whale.data.spec.spec import DatasetSpec

TRIED = 12  # episodes of train, until one can be used
PARAMS, SPECS, SOURCES = Path("params.yaml"), Path("data_specs"), Path("data_specs/sources")

Files = Annotated[list[Path] | None, typer.Argument(help="Specs to check; all of data_specs/ if none is named.")]

app = typer.Typer(no_args_is_help=True, help="Draft, check and preview data_specs/<name>.yaml.")


@app.command("list", epilog="Example: whale spec list --allow-licenses Apache-2.0,CC-BY-4.0,MIT")
def list_specs(allow: AllowLicences = None, as_json: AsJson = False) -> None:
    """List every dataset spec. Version, size, weight in the active mixture, rate, licence, and whether it is valid.

    With --allow-licenses: exit 3 if a dataset of the active profile has another licence, before anything is read.
    """
    from whale.planning.datasets import load_facts

    params = _params() or {"mix": {"weights": {}}, "datasets": {}}
    facts, weights = load_facts(Path()), params["mix"]["weights"]
    checked = {path.stem: _check(path, params) for path in sorted(SPECS.glob("*.yaml"))}
    refused = {} if allow is None else _refused({name: spec for name, (spec, _) in checked.items()}, allow)
    rows = []
    for name, (spec, problems) in checked.items():
        known = facts.datasets.get(name)
        weight = weights[name]["weight"] if name in weights else known.table11 if known else None
        rows.append(
            {
                "name": name,
                "version": spec.source.version if spec else None,
                "episodes": spec.expect.episodes if spec else None,
                "frames": spec.expect.steps if spec else None,
                "gib": known.gib if known else None,
                "weight": weight,
                "hz": spec.robot.control_hz if spec else None,
                "licence": spec.licence.spdx if spec else None,
                "status": refused.get(name) or _status(name, problems),
            }
        )
    gated = sorted(refused.keys() & params["datasets"].keys())
    if as_json:
        print_json({"specs": rows, "refused": gated})
    else:
        header = ["dataset", "version", "episodes", "frames", "GiB", "weight", "Hz", "licence", "status"]
        print_table(header, [[_text(value) for value in row.values()] for row in rows])
    if gated:
        raise RefusedError(
            "licences of the active profile are not allowed", file=PARAMS, place="datasets", found=", ".join(gated),
            expected=allow, remedy="take these datasets out, or allow their licences",
        )  # fmt: skip


def _refused(specs: "Mapping[str, DatasetSpec | None]", allow: str) -> dict[str, str]:
    """Name -> why `allow` does not let it through."""
    from whale.audit.questions.licences import allowing, refusal

    policy = allowing(allow)
    reasons = {name: refusal(spec.licence.model_dump(), policy) if spec else "no spec" for name, spec in specs.items()}
    return {name: f"refused: {reason}" for name, reason in reasons.items() if reason}


@app.command("check", epilog="Example: whale spec check data_specs/toto.yaml")
def check(files: Files = None, as_json: AsJson = False) -> None:
    """Check specs without any data. Schema, operations on a generated episode, splits of params.yaml; exit 1 if wrong.

    A draft whose lines are still marked `# ?` is wrong: ingest would refuse it. Where data are linked (raw/NAME), they
    are checked too: identity, rate, splits, features, a first episode of train.
    """
    from whale.common.printable import one_line
    from whale.planning.datasets import SPECS

    paths = files or sorted(SPECS.glob("*.yaml"))
    for path in paths:
        if not path.is_file():
            raise MissingInputError("no such spec", file=path, expected="data_specs/<name>.yaml")
    params = _params()
    found, told = dict[str, list[str]](), dict[str, list[str]]()
    tried, unlinked = list[str](), list[str]()
    for path in paths:
        spec, problems = _check(path, params)
        is_linked = spec is not None and (Path("raw") / spec.name).is_dir()
        if spec is not None and is_linked and not problems:
            problems, told[str(path)] = _try(spec)
            tried.append(str(path))
        elif spec is not None and not is_linked and (SOURCES / f"{spec.name}.json").is_file():
            unlinked.append(spec.name)
        found[str(path)] = problems
    wrong = {name: problems for name, problems in found.items() if problems}
    if as_json:
        print_json(
            {"specs": found, "ok": len(found) - len(wrong), "wrong": len(wrong), "tried": tried, "not_read": told}
        )
    else:
        for name, problems in wrong.items():
            print(f"{name}:")
            print("\n".join(f"  {problem}" for problem in problems))
        for name, lines in told.items():
            print("\n".join(f"{name}: not read: {one_line(line)}" for line in lines), end="\n" if lines else "")
        print(f"{len(found) - len(wrong)} of {len(found)} specs are valid, {len(tried)} checked against data in raw/")
        for name in unlinked:
            print(f"{name}: not checked against data, raw/{name} is not there: `whale data link {name} PATH`")
    raise typer.Exit(1 if wrong else 0)


@app.command("init", epilog="Example: whale spec init /data/my_robot/1.0.0 --name my_robot")
def init(
    path: Annotated[Path, typer.Argument(help="Folder of an RLDS, LeRobot, HDF5 or npz dataset.")],
    name: Annotated[str | None, typer.Option(help="Name of the spec; from the folder's if not given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Draft a spec from a dataset on disk. Every guess in data_specs/NAME.yaml is marked, with its reason."""
    from whale.common.printable import one_line
    from whale.data.spec.spec import NAME
    from whale.data.workbench.draft.draft import draft_spec, name_of
    from whale.data.workbench.draft.sample import take_sample

    if name is not None and not re.fullmatch(NAME, name):
        raise ConfigError("not the name of a spec", place="--name", found=name, expected=NAME)
    sample = take_sample(path)
    known = sample.source.name if sample.kind == "rlds" else path.resolve().name
    name = name_of(known) if name is None else name
    target = SPECS / f"{name}.yaml"
    if target.exists():
        raise ConfigError("the spec exists", file=target, remedy="choose another --name, or move it away")
    draft = draft_spec(sample, name)
    write_atomically(target, draft.text.encode())
    problems = _check(target, _params(), is_draft=True)[1]
    not_read = draft.unread | dict(sample.source.left_out)
    if as_json:
        guesses = {place: {"value": guess.value, "why": guess.why} for place, guess in draft.guesses.items()}
        print_json({"file": str(target), "guesses": guesses, "not_read": not_read, "problems": problems})
        return
    print_table(["guess", "value", "why"], [[place, g.value, g.why] for place, g in draft.guesses.items()])
    print("\n".join([*(f"not read: {one_line(key)}, {one_line(what)}" for key, what in not_read.items()), *problems]))
    print(f"{target}: answer every line marked ?, then delete the mark (ingest refuses a draft)")
    print(f"look at it: `whale spec preview {name} --raw {path}`")


@app.command("preview", epilog="Example: whale spec preview my_robot --raw /data/my_robot/1.0.0")
def preview_spec(
    name: str,
    raw: Annotated[Path | None, typer.Option(help="Where the data lie; raw/NAME if not given.")] = None,
    episodes: Annotated[int, typer.Option(min=1, max=1000, help="How many to look at.")] = 24,
    out: Annotated[Path | None, typer.Option(help="The page; work/preview/NAME.html if not given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show on one page what a spec makes of data. Frames, actions with units, gripper events, verdicts."""
    from whale.commands.data.spec_preview import preview_page
    from whale.data.ingest.tasks import find_source
    from whale.data.spec.spec import load_spec
    from whale.data.workbench.draft.preview import preview

    spec = load_spec(name, SPECS)
    _, source, _ = find_source(Path("raw") / name if raw is None else raw, spec, spec.cameras)
    found = preview(source, spec, episodes, _ingested(_params()))
    target = out if out is not None else Path("work/preview") / f"{name}.html"
    write_atomically(target, preview_page(spec, found).encode())
    verdicts = found.report["verdicts"]
    if as_json:
        print_json(
            {
                "page": str(target),
                "episodes": len(found.looks),
                "of": found.total,
                "verdicts": verdicts,
                "faulty": found.report["quarantined"],
                "accepted": found.report["accepted"],
            }
        )
        return
    rows = [
        [v["outcome"], v["detector"], v["scope"], v["found"], v["expected"] if v["outcome"] != "ok" else ""]
        for v in verdicts
        if v["outcome"] != "absent"
    ]
    for outcome, listed in (("fault", "quarantined"), ("accepted", "accepted")):
        singles = found.report[listed].items()
        rows += [
            [outcome, name, "episodes", f"{each['count']}, e.g. {each['first'][0]}", "none"] for name, each in singles
        ]
    print_table(["outcome", "detector", "of", "found", "expected"], rows)
    of = f"of {found.total} episodes of train"
    print(f"{len(found.looks) + len(found.rejected)} {of} looked at, {len(found.rejected)} not usable: {target}")
    for (reason, detail), count in Counter((each.reason, each.detail) for each in found.rejected).most_common(5):
        print(f"  {count} x {reason}: {one_line(detail)}")
    if any(row[0] == "fault" for row in rows):
        print("a fault fails ingest: correct the spec, or accept or exclude it there (docs/how-to/add-a-dataset.md, 4)")
    raise typer.Exit(0 if found.looks else BadDataError.exit_code)


def _params() -> Mapping[str, Any]:
    """The active profile; empty where there is none."""
    from whale.common.config import load_sections

    return load_sections(PARAMS) if PARAMS.is_file() else {}


def _ingested(params: Mapping[str, Any]) -> list[str]:
    """The roles that ingest takes: what is wrong with another camera fails nothing."""
    from whale.data.spec.needed_splits import section

    cameras = section(params, "ingest").get("cameras")
    return list(map(str, cameras)) if isinstance(cameras, list) else ["primary"]


def _check(path: Path, params: Mapping[str, Any], is_draft: bool = False) -> "tuple[DatasetSpec | None, list[str]]":
    from whale.data.mixture import missing_weight
    from whale.data.spec.needed_splits import missing_splits
    from whale.data.spec.spec import load_spec, unanswered
    from whale.data.workbench.spec_check import check_spec

    try:
        spec = load_spec(path.stem, path.parent)
    except ConfigError as error:
        return None, [str(error)]
    of_draft = None if is_draft else unanswered(spec.name, path.parent)
    of_params = of_draft, missing_splits(spec, params, specs=path.parent), missing_weight(spec.name, params)
    return spec, [str(problem) for problem in (*check_spec(spec), *of_params) if problem is not None]


def _try(spec: "DatasetSpec") -> tuple[list[str], list[str]]:
    """(what the linked data say against the spec, what of them it does not read).

    Against it: identity, splits, features, and no episode that it can use.
    """
    from whale.data.ingest.tasks import find_source, left_out
    from whale.data.workbench.draft.preview import why_unusable

    described = SOURCES / f"{spec.name}.json"
    raw = described if described.is_file() else Path("raw") / spec.name
    try:
        _, source, _ = find_source(raw, spec, spec.cameras)
        rejected = why_unusable(source, spec, TRIED)
    except WhaleError as error:
        return [str(error)], []
    reasons = Counter((one.reason, one.detail) for one in rejected)
    return [
        f"{len(rejected)} episodes of train were tried, none can be used; {count} x {reason}: {detail}"
        for (reason, detail), count in reasons.most_common(3)
    ], left_out(source, spec)


def _status(name: str, problems: list[str]) -> str:
    from whale.planning.datasets import SOURCES

    if problems:
        return "wrong: whale spec check"
    return "ok, data linked" if (SOURCES / f"{name}.json").is_file() else "ok"


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}" if math.isfinite(value) else ""
    return f"{value:,}" if isinstance(value, int) else str(value or "")
