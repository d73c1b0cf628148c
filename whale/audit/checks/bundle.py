"""Has anything changed in an exported world, and who signed for it: the bundle's own statements are asked, no ledger.

Every byte against the manifest; every statement against a key of the bundle; every file signed for by who exported it,
the weights by the runs that made them (or rounded ones by the exporter, those they were rounded from by the runs); the
chain from the weights to the sources. Whose keys these are no bundle can prove: the report counts the keys that the
project in the current folder trusts, where there is one, and those that it does not. Its taints count here, too.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from whale.audit.checks.findings import Finding, Report
from whale.audit.checks.ledger_check import misnamed_keys
from whale.audit.checks.verify import check_taints, check_times, check_tree, unmade_inputs
from whale.audit.exports.bundle import EXPORT, EXPORT_TYPE
from whale.audit.exports.world_bundle.rounded import PUBLISHED
from whale.audit.run_graph import RunGraph
from whale.common.errors import BadDataError, IncompleteError, MismatchError, RefusedError, WhaleError
from whale.common.files import MANIFEST_NAME, WEIGHTS, sha256_of_file
from whale.common.json_files import parse_json, read_json
from whale.common.limits import STATEMENTS_BYTES
from whale.lineage import signing
from whale.lineage.ledger import Entry
from whale.lineage.taint import kept_taints
from whale.lineage.trust import read_trust
from whale.seal import names_below, verify_sealed
from whale.worlds.folder import WORLD, open_folder

STATEMENTS, PUBLIC = "statements.intoto.jsonl", "public"
MEASURED = ("mean_abs_difference", "tolerance")  # of rounded weights
PARTS = ("tokenizer", "behavior", "dynamics")
UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError)


def is_bundle(path: Path) -> bool:
    """A folder that `whale export --as world` made, or says so."""
    return (path / WORLD).is_file() and (path / STATEMENTS).is_file()


def check_bundle(folder: Path, report: Report, strict: bool = False, expect_key: str | None = None) -> Report:
    """Findings are added to `report`. What cannot be read ends it.

    strict: runs on uncommitted code are incomplete. expect_key: the only id of a key that may have signed.
    """
    try:
        verify_sealed(folder, sha256_of_file)
        files = {name: sha256_of_file(folder / name) for name in names_below(folder) - {MANIFEST_NAME}}
        report.count("files read", len(files) + 1)
        statements = _statements(folder)
        export = _export(folder)
        graph = _graph(statements)
        said = _rounded(folder, export)
        taints = kept_taints()
    except WhaleError as error:
        report.add(Finding.of("bundle", error))
        return report
    for entry, fault in graph.malformed:
        report.add(Finding.of(f"{STATEMENTS}, line {entry.line}", fault))
    report.extend(misnamed_keys(folder / PUBLIC))
    report.extend(_check_signed(folder, files, export))
    report.extend(_check_weights(folder, files, graph, said))
    for run in graph.runs:
        report.extend(unmade_inputs(run, graph))
        report.extend(check_times(run, graph))
        report.extend(check_taints(run, taints))
        report.extend(check_tree(run, report, strict))
        report.count("runs")
    report.extend(_check_keys(folder, statements, expect_key, report))
    if said:
        difference, tolerance = (export["predicate"]["rounded"][name] for name in MEASURED)
        what = f"imagined frames differ by {difference} of 255 on average, at most {tolerance} by its exporter's word"
        report.count(f"parts rounded to float16 ({what})", len(said))
    return report


def _statements(folder: Path) -> list[dict[str, Any]]:
    """Envelopes of the runs, each signed with a key of the bundle."""
    path = folder / STATEMENTS
    if path.stat().st_size > STATEMENTS_BYTES:
        raise BadDataError(
            "file too large", file=path, found=path.stat().st_size, expected=f"<= {STATEMENTS_BYTES} bytes"
        )
    envelopes = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        envelope = parse_json(line, path, f"line {number}")
        _verified(envelope, folder, path)
        envelopes.append(envelope)
    return envelopes


def _export(folder: Path) -> dict[str, Any]:
    """What its exporter signed."""
    if not (folder / EXPORT).is_file():
        raise IncompleteError("nobody signed for the bundle as a whole", file=folder / EXPORT,
                              remedy="export it again: whale export CHECKPOINT --as world --to BUNDLE")  # fmt: skip
    statement = _verified(read_json(folder / EXPORT), folder, folder / EXPORT)
    if statement.get("predicateType") != EXPORT_TYPE:
        found = str(statement.get("predicateType"))[:80]
        raise BadDataError("a statement of another type", file=folder / EXPORT, found=found, expected=EXPORT_TYPE)
    return statement


def _verified(envelope: Any, folder: Path, file: Path) -> dict[str, Any]:
    """The statement inside, as signed; RefusedError where nobody of the bundle's keys did."""
    try:
        return signing.verify(envelope, folder / PUBLIC)
    except RefusedError as error:
        raise RefusedError(error.what, file=file, found=error.found, expected=error.expected) from None
    except UNREADABLE as error:
        raise BadDataError(
            "not a signed statement", file=file, found=f"{type(error).__name__}: {error}"[:120]
        ) from None


def _graph(envelopes: Iterable[dict[str, Any]]) -> RunGraph:
    """Ids and places are those of the bundle: what is signed names a place in a ledger that is not here."""
    return RunGraph(
        Entry(f"{number}", number, number, (), each, signing.payload_of(each))
        for number, each in enumerate(envelopes, 1)
    )


def _rounded(folder: Path, export: Mapping[str, Any]) -> Mapping[str, str]:
    """Part -> sha256 of the weights it was rounded from; nothing for weights as published."""
    said, predicate = open_folder(folder, verify=False).rounded_from or {}, export.get("predicate")
    signed = predicate.get("rounded") if isinstance(predicate, dict) else None
    sound = isinstance(signed, dict) and all(_is_number(signed.get(name)) for name in MEASURED)
    if sound != bool(said):
        raise MismatchError("rounded or not: its description and its exporter disagree", file=folder / EXPORT,
                            place="predicate.rounded", found=str(signed)[:200],
                            expected="what was measured" if said else "nothing: weights as published")  # fmt: skip
    return said


def _is_number(text: object) -> bool:
    """As a statement has floats: text. Anything else in its place would be said in the report's own line."""
    try:
        return isinstance(text, str) and text == text.strip() and math.isfinite(float(text))
    except ValueError:
        return False


def _check_signed(folder: Path, files: Mapping[str, str], export: Mapping[str, Any]) -> Iterable[Finding]:
    """Every file but the manifest and the statement itself, and no other."""
    try:
        signed = {str(each["name"]): str(each["digest"]["sha256"]) for each in export["subject"]}
    except UNREADABLE as error:
        yield Finding("mismatch", "bundle", "subjects that are none", str(folder / EXPORT), str(error)[:80])
        return
    for name in sorted({*signed, *files} - {EXPORT}):
        if signed.get(name) != files.get(name):
            what = "its exporter did not sign for this" if name in files else "its exporter signed for what is not here"
            yield Finding("mismatch", "bundle", what, str(folder / name), files.get(name), signed.get(name))


def _check_weights(
    folder: Path, files: Mapping[str, str], graph: RunGraph, said: Mapping[str, str]
) -> Iterable[Finding]:
    """The weights, and what lies beside them, as one run made them."""
    for part in PARTS:
        weights = said.get(part, files.get(f"{part}/{WEIGHTS}", ""))
        makers = graph.makers(weights)
        if not makers:
            error = IncompleteError("no run of the bundle's statements made these weights",
                                    file=folder / part / WEIGHTS, found=weights)  # fmt: skip
            yield Finding.of(part, error)
            continue
        made = set(makers[-1].subjects.values())
        for name, digest in sorted(files.items()):
            is_own = name.startswith(f"{part}/") and name.count("/") == 1
            if is_own and digest not in made and not (said and name == f"{part}/{WEIGHTS}"):
                yield Finding(
                    "mismatch", part, "not what the run made that made the weights", str(folder / name), digest
                )
        if said and f"{part}/{PUBLISHED}" not in files:
            yield Finding("missing", part, "the manifest of what was rounded is gone", str(folder / part / PUBLISHED))


def _check_keys(
    folder: Path, envelopes: Iterable[dict[str, Any]], expected: str | None, report: Report
) -> Iterable[Finding]:
    """Which keys somebody here knows; of the others, what to compare."""
    signed = [*envelopes, read_json(folder / EXPORT)]
    trust = read_trust()
    trusted = trust.signers if trust else ()
    for keyid in sorted({str(each["keyid"]) for envelope in signed for each in envelope["signatures"]}):
        path = signing.public_file(keyid, folder / PUBLIC)
        if expected is not None and keyid != expected:
            yield Finding("signature", "bundle", "signed with another key", str(path), keyid, expected)
        elif expected is None and keyid not in trusted:
            report.count(f"key that nobody here trusts ({keyid}; is it its maker's? --expect-key)")
        else:
            report.count("known key")
