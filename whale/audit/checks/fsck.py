"""Is everything that is stored here still what it was: DVC's cache, sealed folders, the ledger (bit rot, torn copies).

DVC believes its cache: an object whose bytes have rotted is handed out as good. Here each object is read and held
against its own name, which is the md5 of its bytes; each sealed folder against its manifest; the ledger's chain.
"""

import configparser
from collections.abc import Iterator
from pathlib import Path

from whale.audit.checks.findings import Finding, Report
from whale.audit.checks.ledger_check import check_ledger
from whale.audit.checks.verify import folder_faults
from whale.common.errors import BadDataError
from whale.common.files import MANIFEST_NAME, md5_of_file, sha256_of_file
from whale.common.json_files import parse_json
from whale.lineage import ledger
from whale.lineage.code_state import no_repository

DVC_DIR, OBJECTS = Path(".dvc"), Path("files/md5")
ARTIFACTS, RUNS = Path("artifacts"), Path("lineage/runs")


def fsck(root: Path = Path()) -> Report:
    """Read everything again, trusting no size and no time. Each finding names its file."""
    report = Report()
    if (root / ledger.LEDGER).is_file():
        check_ledger(report, None, root)
        if (why := no_repository(root)) is not None:
            report.notes.append(f"not checked: which heads and roots git remembers, for it cannot be asked ({why})")
    elif any((root / trace).exists() for trace in (ledger.HEAD, RUNS)):
        report.add(Finding("missing", "ledger", "runs were recorded, and the ledger is gone", str(ledger.LEDGER)))
    objects = cache_folder(root) / OBJECTS
    for path in sorted(objects.glob("[0-9a-f][0-9a-f]/*")) if objects.is_dir() else ():
        report.count("cache objects")
        report.extend(_check_object(path))
    for manifest in sorted((root / ARTIFACTS).rglob(MANIFEST_NAME)) if (root / ARTIFACTS).is_dir() else ():
        report.count("sealed folders")
        for error in folder_faults(manifest.parent, sha256_of_file):
            report.add(Finding.of(str(manifest.parent), error))
    return report


def cache_folder(root: Path = Path()) -> Path:
    """Where DVC keeps its objects: `cache.dir` of config.local or config, relative to the file; else .dvc/cache."""
    for name in ("config.local", "config"):
        parser = configparser.ConfigParser()
        parser.read(root / DVC_DIR / name)
        if named := parser.get("cache", "dir", fallback=None):
            return root / DVC_DIR / named
    return root / DVC_DIR / "cache"


def _check_object(path: Path) -> Iterator[Finding]:
    """One object, and for the list of a folder whether all that it names is there."""
    name = path.parent.name + path.name.removesuffix(".dir")
    remedy = f"remove {path}; then `dvc pull`, or `dvc repro` of the stage that made it"
    found = md5_of_file(path)
    if found != name:
        yield Finding("mismatch", "DVC's cache", f"not the bytes that its name says: {remedy}", str(path), found, name)
    elif path.suffix == ".dir":
        try:
            rows = {str(row["relpath"]): str(row["md5"]) for row in parse_json(path.read_bytes(), path)}
        except (BadDataError, KeyError, TypeError) as error:
            found = str(error.found if isinstance(error, BadDataError) else error)
            yield Finding("mismatch", "DVC's cache", f"not the list of a folder: {remedy}", str(path), found[:200])
            return
        for relpath, digest in rows.items():
            part = path.parents[1] / digest[:2] / digest[2:]
            if not part.is_file():
                what = f"an object that the list of a folder names is gone ({relpath})"
                yield Finding("missing", "DVC's cache", what, str(part))
