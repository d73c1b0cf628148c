"""One question, one report: the ledger, the artefact with all it came from, the files that rule the pipeline."""

from collections.abc import Callable
from pathlib import Path

from whale.audit.dvc_lock import check_lock
from whale.audit.findings import Finding, Report
from whale.audit.runs import RunGraph
from whale.audit.tracking import check_tracking
from whale.audit.verify import check_ledger, make_hasher, verify
from whale.errors import WhaleError
from whale.lineage.file_digests import FileDigests


def audit(artefact: str, *, deep: bool, strict: bool, expect_head: str | None, state: Path = Path(".whale")) -> Report:
    """Everything that `whale lineage verify` looks at; the caller reads `code` off the report.

    A broken ledger ends it: nothing else could be believed.
    """
    report = Report()
    entries = check_ledger(report, expect_head)
    if not entries:
        return report
    graph = RunGraph(entries)
    try:
        target = graph.find(artefact)
    except WhaleError as error:
        report.add(Finding.of(artefact, error))
        return report
    caches = make_hasher(deep, state), FileDigests(state / "md5-cache.json", paranoid=deep, algorithm="md5")
    sha256, md5 = map(_once, caches)
    verify(target, graph, report, sha256, strict)
    report.extend(check_lock(graph, graph.ancestors(target.run), sha256, md5))
    report.extend(check_tracking(graph.ancestors(target.run)))
    report.count("files hashed", sum(each.num_hashed for each in caches))
    for each in caches:
        each.save()
    return report


def _once(hasher: FileDigests) -> Callable[[Path], str]:
    """Within one audit a file is hashed once, also when nothing is taken from the cache."""
    found: dict[Path, str] = {}

    def digest(path: Path) -> str:
        if path not in found:
            found[path] = hasher(path)
        return found[path]

    return digest
