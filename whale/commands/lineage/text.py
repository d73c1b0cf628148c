"""The answers of `whale lineage` in plain language; `--json` gives the same facts to programs."""

from collections.abc import Sequence
from typing import Any

from whale.audit.checks.findings import Report
from whale.commands.output import print_columns, print_table
from whale.common.printable import one_line

MAX_ROWS = 40
SAMPLED = {  # column -> key and form
    "training": ("stage", ""),
    "dataset": ("dataset", ""),
    "weight": ("weight_set", "g"),
    "planned": ("planned_share", ".4f"),
    "segments": ("segment_share", ".4f"),
    "frames": ("frame_share", ".4f"),
    "epochs": ("epochs", ".2f"),
}


def show(found: dict[str, Any]) -> None:
    made = found["made_by"]
    print(f"{found['artefact']['name']}\n  sha256 {found['artefact']['sha256']}")
    print(f"  made by {made['stage']}, run {made['run']}, {made['started']} to {made['finished']}")
    print(f"  code {_code(made)}; derivation {short(made['derivation'])}; statement {short(made['statement'])}\n")
    if found["datasets"]:
        rows = [
            [row["name"], short(row["sha256"]), row["version"], row["licence"], row["read"], row["kept"],
             sum(row["dropped"].values()), row["steps"]]
            for row in found["datasets"]
        ]  # fmt: skip
        print_table(["dataset", "upstream sha256", "version", "licence", "read", "kept", "dropped", "steps"], rows)
        print()
    if found["sampled"]:
        print_columns(SAMPLED, found["sampled"])
        print()
    for row in found["checkpoints"]:
        print(f"built on {row['stage']}: {row['output']} {short(row['sha256'])}")
    print(f"{len(found['runs'])} runs: {', '.join(found['runs'])}")
    for row in found["accepted"]:
        ground = "equal but for comments and layout" if row["basis"] == "syntax" else f"CLAIMED: {row['because']}"
        print(f"code of {row['stage']} edited since, accepted {row['on']}, {ground}: {', '.join(row['files'])}")
    for name in found["missing"]:
        print(f"MISSING  {name}")


def verify(artefact: str, report: Report) -> None:
    for finding in report.findings:
        print(finding)
    if report.broken_below:
        print(f"breaks below: {', '.join(map(one_line, report.broken_below))}")
    for note in report.notes:
        print(one_line(note))
    if report.root is not None:
        print(f"root of trust: {one_line(report.root['fingerprint'])}\n  pinned in {one_line(report.root['pinned'])}")
    counted = "; ".join(f"{number} {one_line(what)}" for what, number in report.checked.items())
    print(f"{one_line(artefact)}: {_verdict(report)} ({counted})")


def episodes(found: dict[str, Any]) -> None:
    for row in found["datasets"]:
        dropped = ", ".join(f"{count} {reason}" for reason, count in row["dropped"].items()) or "none dropped"
        print(f"{row['dataset']}: {row['read']} read, {row['kept']} kept; {dropped}")
    rows = [
        [row["key"], row["split"], "kept" if row["kept"] else row["reason"], row["steps_in"],
         f"{row['source_file']}#{row['record_index']}", short(row["content_sha256"] or row["payload_sha256"])]
        for row in found["episodes"][:MAX_ROWS]
    ]  # fmt: skip
    if rows:
        print()
        print_table(["episode", "split", "state", "steps", "source", "content sha256"], rows)
    _more(found["episodes"])


def env(found: dict[str, Any]) -> None:
    environment = found["environment"] or {}
    for name in ("python", "platform", "processor", "memory_mb", "cpus_allowed", "torch_threads", "gpus", "cuda"):
        if environment.get(name) not in (None, []):
            print(f"{name + ':':<16}{environment[name]}")
    packages = environment.get("packages", {})
    print(f"{'packages:':<16}{', '.join(f'{name} {version}' for name, version in packages.items())}")
    print(
        f"{'':<16}and {len(environment.get('installed', {})) - len(packages)} more, each with the sha256 of its RECORD"
    )
    for name, value in {**environment.get("variables", {}), **found["internal"]}.items():
        if not isinstance(value, dict | list):
            print(f"{name + ':':<32}{value}")
    params(found)


def params(found: dict[str, Any]) -> None:
    from whale.common.json_files import flatten

    print(f"params of {found['stage']}, every default resolved:")
    for name, value in flatten(found["params"]).items():
        print(f"  {name + ':':<48}{value}")


def code(found: dict[str, Any]) -> None:
    print(f"{found['stage']}: {_code(found)}, tree {short(found['tree'])}")
    print(f"commit and patch ({found['patch_bytes']} bytes) give this tree again: {found['tree_again']}")
    print(f"{len(found['files'])} files in its import closure, sha256 {found['closure_sha256']}")
    print(f"changed since: {', '.join(found['changed_since']) or 'none'}")


def licences(found: dict[str, Any]) -> None:
    rows = [[row["dataset"], row["spdx"], row["evidence"], row["refused"] or "allowed"] for row in found["datasets"]]
    print_table(["dataset", "licence", "evidence", "verdict"], rows)


def diff(found: dict[str, Any]) -> None:
    if found["equal"]:
        print("equal: same digest")
    for subject, rows in found["differences"].items():
        print(f"{subject}: {len(rows)}")
        for name, (one, other) in list(rows.items())[:MAX_ROWS]:
            print(f"  {name}: {_brief(one)} -> {_brief(other)}")
        _more(list(rows))


def seen(found: dict[str, Any]) -> None:
    for row in found["trainings"]:
        steps = f", steps {row['first_step']} to {row['last_step']}" if row["times"] else ""
        print(f"{row['stage']}: {row['times']} times{steps}")
    if not found["trainings"]:
        print(f"no training draws from the dataset of {found['episode']}")


def leakage(found: dict[str, Any]) -> None:
    for row in found["leaked"]:
        print(f"LEAKED  {row['episode']} is {row['is']} of the training data, by {row['by']}")
    for row in found["in_validation"]:
        print(f"in validation: {row['episode']} is {row['is']}, by {row['by']}")
    for row in found["near"]:
        print(f"NEAR    {row['episode']} looks like {row['is']} of the training data, distance {row['distance']:.3f}")
    for row in found["near_in_validation"]:
        print(f"in validation: {row['episode']} looks like {row['is']}, distance {row['distance']:.3f}")
    trained = ", ".join(found["compared_with"])
    count = f"{len(found['leaked'])} of {found['episodes']} episodes"
    alike = "" if found["near_limit"] is None else f"; {len(found['near'])} look alike (within {found['near_limit']})"
    print(f"{found['evaluation']}: {count} are in the training data ({trained}){alike}")


def why(found: dict[str, Any]) -> None:
    made = found["made_by"]
    if found["key"]:
        print(f"{found['key']} = {found['value']}")
    print(f"file {found['file']['name']}, sha256 {found['file']['sha256']}")
    print(f"made by {made['stage']}, run {made['run']}, {made['finished']}, commit {made['commit'] or 'none'}")
    print(f"protocol: {found['protocol'] or 'none recorded above this key'}")
    for row in found["checkpoints"]:
        print(f"checkpoint {row['output']}: weights {short(row['weights_sha256'])}")
    for row in found["data"]:
        print(f"data {row['output']}: {short(row['sha256'])}")
    print(f"judge: {found['judge'] or 'none'}")


def affected(found: dict[str, Any]) -> None:
    print(f"{', '.join(found['of'])}{'#' + found['episode'] if found['episode'] else ''}"
          f"{'' if found['kept'] else ' (dropped at ingest)'}")  # fmt: skip
    for row in found["checkpoints"]:
        share = "inherited" if row["frame_share"] is None and row["times"] is None else None
        how = share or (
            f"{row['times']} draws" if row["times"] is not None else f"{row['frame_share']:.4f} of its frames"
        )
        print(f"  checkpoint {row['stage']} {short(row['sha256'])}: {how}")
    for row in found["evaluations"]:
        print(f"  evaluation {row['stage']} {short(row['sha256'])}")
    print(f"  and {len(found['others'])} other runs: {', '.join(row['stage'] for row in found['others'])}")


def completeness(found: dict[str, Any]) -> None:
    for line in found["accepted"]:
        print(f"accepted: {line}")
    for name in found["missing"]:
        print(f"MISSING  {name}")
    print(f"{found['present']} of {found['fields']} required fields: {found['percent']} %")


def rederived(found: dict[str, Any]) -> None:
    for name, (signed, again) in found["outputs"].items():
        print(f"{'equal    ' if signed == again else 'DIFFERENT'}  {name}: {short(signed)} {short(again)}")
    print(
        f"{found['stage']}: {'the same bytes' if found['equal'] else 'first difference ' + found['first_difference']}"
    )


def plans(found: dict[str, Any]) -> None:
    for row in found["runs"]:
        lacks = "; ".join(row["missing"])
        print(f"{row['stage']}: code {row['code']}, {'MISSING ' + lacks if lacks else 'all inputs are there'}")


def taints(found: dict[str, Any]) -> None:
    for row in found["taints"]:
        print(f"{row['kind']} {row['name']}: {row['reason']}")
    print(f"{len(found['taints'])} taints")


def _verdict(report: Report) -> str:
    """What was made anew and settings that moved on are another matter than bytes that changed."""
    kinds = [finding.kind for finding in report.findings]
    hashed = report.checked.get("files read", 0) + report.checked.get("files remembered", 0)
    agree = f", all {hashed} hashed files agree" if hashed else ""
    if not kinds:
        return f"nothing has changed{agree}"
    of_bytes = {"mismatch", "missing", "remade", "edited"}
    if not any(each.kind in of_bytes and each.file != "lineage/ledger.jsonl" for each in report.findings):
        return f"{_number(len(kinds), 'finding')}{agree}, exit code {report.code}"
    if set(kinds) - {"edited", "remade"}:
        return f"{_number(len(kinds), 'finding')}, exit code {report.code}"
    remade = f"; {_number(kinds.count('remade'), 'output')} made anew since" if "remade" in kinds else ""
    edited = f"; {_number(kinds.count('edited'), 'edit')} of settings since" if "edited" in kinds else ""
    return f"no byte has changed unsigned{remade}{edited}, exit code {report.code}"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def short(digest: str | None) -> str:
    return digest[:16] if digest else "none"


def _code(made: dict[str, Any]) -> str:
    state = {True: " with changes", False: "", None: ""}[made["dirty"]]
    return f"commit {made['commit'][:12]}{state}" if made["commit"] else "outside git"


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _more(rows: Sequence[Any]) -> None:
    if len(rows) > MAX_ROWS:
        print(f"... and {len(rows) - MAX_ROWS} more (--json shows all)")
