"""One question, one report: the ledger, the artefact with all it came from, the files that rule the pipeline."""

import os
from collections.abc import Callable
from pathlib import Path

from whale.audit.checks.bundle import check_bundle, is_bundle
from whale.audit.checks.dvc_lock import LOCK, check_lock
from whale.audit.checks.findings import Finding, Report
from whale.audit.checks.ledger_check import check_ledger
from whale.audit.checks.read_all import digests_of, files_of
from whale.audit.checks.tracking import STORE, check_tracking
from whale.audit.checks.verify import make_hasher, verify
from whale.audit.run_graph import RunGraph
from whale.common.errors import ConfigError, WhaleError
from whale.lineage.file_digests import FileDigests


def audit(
    artefact: str,
    *,
    deep: bool,
    strict: bool,
    expect_head: str | None,
    expect_root: str | None = None,
    expect_key: str | None = None,
    state: Path = Path(".whale"),
) -> Report:
    """Everything that `whale lineage verify` looks at; the caller reads `code` off the report.

    A broken ledger ends it: nothing else could be believed. A world's bundle brings its statements along: it needs no
    ledger here.
    """
    report = Report()
    if is_bundle(Path(artefact)):
        for place, expected in (("--expect-head", expect_head), ("--expect-root", expect_root)):
            if expected is not None:
                raise ConfigError("a bundle has no ledger", place=place, remedy="--expect-key KEYID")
        return check_bundle(Path(artefact), report, strict, expect_key)
    if expect_key is not None:
        raise ConfigError("only the keys of a bundle are unknown", place="--expect-key", found=artefact,
                          expected="a folder of whale export --as world")  # fmt: skip
    entries = check_ledger(report, expect_head, expect_root=expect_root)
    if not entries:
        return report
    graph = RunGraph(entries)
    try:
        target = graph.find(artefact)
    except WhaleError as error:
        report.add(Finding.of(artefact, error))
        return report
    ancestors = graph.ancestors(target.run)
    caches = make_hasher(deep, state), FileDigests(state / "md5-cache.json", paranoid=deep, algorithm="md5")
    read = digests_of(files_of(ancestors, target), with_md5=LOCK.is_file()) if deep else ({}, {})
    at_once = set(read[0])
    sha256, md5 = (_once(cache, found) for cache, found in zip(caches, read, strict=True))
    verify(target, graph, report, sha256, strict)
    report.extend(check_lock(graph, ancestors, sha256, md5))
    report.extend(check_tracking(ancestors))
    if STORE.is_file():
        report.notes.append(
            "MLflow: tags and params were compared; `whale track verify` compares all that its page shows"
        )
    asked, hashed = {*read[0], *read[1]}, at_once | {_here(name) for each in caches for name in each.hashed}
    report.count("files read", len(hashed))
    report.count("files remembered", len(asked - hashed))
    if asked - hashed:
        report.notes.append(
            f"shallow: {len(asked - hashed)} of {len(asked)} files were not read again, for size, times and inode are "
            "as they were when this machine last read them; --deep reads every byte"
        )
    for each in caches:
        each.save()
    return report


def _once(hasher: FileDigests, found: dict[str, str]) -> Callable[[Path], str]:
    """Within one audit a file is asked for once, also when nothing is taken from the cache. `found`: what is known, by
    path relative to the current folder; it takes in what is asked."""

    def digest(path: Path) -> str:
        name = _here(os.fspath(path))
        if name not in found:
            found[name] = hasher(path)
        return found[name]

    return digest


def _here(name: str) -> str:
    return name.removeprefix(os.path.join(os.getcwd(), ""))
