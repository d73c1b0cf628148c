"""`make gpu`: all that needs a GPU, in pieces of at most ten minutes; `make gpu-bundle`: what another machine needs.

    python scripts/gpu.py [run] [--only NAME ...] [--again] [--dry-run] [--shards FOLDER]
    python scripts/gpu.py bundle [--shards FOLDER] [--out build/gpu-bundle.tar.gz]

Each piece leaves `build/gpu/<name>.json` (command, exit code, seconds, card, torch, its numbers) and `<name>.log`; one
that is done for this code on this card is not run again, so a run that was cut short goes on where it was. The bundle
holds the code, data of at most 40 MB, and `wheels.txt`; on the machine with the card, without a network:

    tar xf gpu-bundle.tar.gz && python3.11 -m venv .venv
    .venv/bin/pip install --no-index --find-links WHEELS -r gpu-bundle/wheels.txt
    cd gpu-bundle && ../.venv/bin/python scripts/gpu.py
"""

import argparse
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
LIMIT_SECONDS, LIMIT_MB, DATA_MB = 600, 60, 40
# What the pieces import, besides what these need: neither Ray nor DVC, MLflow, Beam or TensorFlow.
WHEELS = ("torch", "numpy", "pydantic", "pyyaml", "ruamel.yaml", "safetensors", "pytest", "pytest-timeout")
WHEELS += ("simplejpeg", "opencv-python-headless", "pyarrow", "google-crc32c", "fsspec", "cryptography")
WHEELS += ("scipy", "torchmetrics", "typer")
TESTS = {
    "tests-models": ["tests/test_on_gpu.py"],
    "tests-training": ["tests/training/test_on_gpu.py"],
    "tests-captured": ["tests/benchmarks/test_captured.py", "tests/benchmarks/test_inference.py"],
}
BENCHMARKS = {
    "collectives": ["benchmarks/collectives.py"],
    "step": ["benchmarks/whale_x.py", "--only", "training", "--repeats", "3"],
    "rollout": ["benchmarks/whale_x.py", "--only", "rollout", "--repeats", "3"],
    "retracing": ["benchmarks/whale_x.py", "--only", "retracing", "--repeats", "3"],
    "losses": ["benchmarks/device_training.py", "--shards", "{shards}"],
}


def command(name: str, out: Path, shards: Path | None) -> list[str]:
    """What a piece runs; its numbers go to `out`."""
    if name in TESTS:
        return [sys.executable, "-m", "pytest", "-m", "gpu", *TESTS[name], f"--junitxml={out}.xml"]
    given = [part.replace("{shards}", str(shards)) for part in BENCHMARKS[name]]
    return [sys.executable, *given, "--json", str(out)]


def run_piece(name: str, folder: Path, facts: dict, shards: Path | None) -> dict:
    """Run one piece to its end or for ten minutes; returns and writes its record."""
    out = folder / f".{name}.numbers"
    for left in (out, Path(f"{out}.xml")):
        left.unlink(missing_ok=True)
    words, started = command(name, out, shards), time.monotonic()
    with open(folder / f"{name}.log", "w", encoding="utf-8") as log:
        try:
            code = subprocess.run(
                words, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, timeout=LIMIT_SECONDS, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            code = 124
    record = {"name": name, "command": words[1:], "exit_code": code, "seconds": time.monotonic() - started, **facts}
    record["numbers"] = numbers(out)
    if name in TESTS and code == 0 and not any(row["outcome"] == "passed" for row in record["numbers"]):
        record["exit_code"] = 5  # all skipped: nothing was shown
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1, default=str) + "\n")
    for left in (out, Path(f"{out}.xml")):
        left.unlink(missing_ok=True)
    return record


def numbers(out: Path) -> list[dict]:
    """Rows of a benchmark, or one per test."""
    if out.is_file():
        return json.loads(out.read_text())
    report = Path(f"{out}.xml")
    if not report.is_file():
        return []
    rows = []
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        rows.append({"what": case.get("name"), "outcome": outcome, "s": float(case.get("time") or 0)})
    return rows


def print_record(record: dict) -> None:
    """The table of a piece."""
    state = {0: "done", 5: "all skipped", 124: f"stopped after {LIMIT_SECONDS} s"}
    print(f"\n{record['name']}: {state.get(record['exit_code'], 'FAILED')}, {record['seconds']:.0f} s", flush=True)
    for row in record["numbers"]:
        cells = [f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
                 if key != "what" and not isinstance(value, list)]  # fmt: skip
        print(f"  {row['what']:<60} {', '.join(cells)}")


def run(options: argparse.Namespace) -> int:
    """All pieces that are not done; 0 if every one is."""
    names = options.only or [*TESTS, *BENCHMARKS]
    if unknown := sorted(set(names) - {*TESTS, *BENCHMARKS}):
        raise SystemExit(f"no such piece: {', '.join(unknown)}; there are: {', '.join([*TESTS, *BENCHMARKS])}")
    shards = options.shards or find_shards()
    if options.dry_run:
        for name in names:
            print(f"{name}: {' '.join(command(name, Path(f'build/gpu/{name}'), shards)[1:])}")
        return 0
    import torch

    if not torch.cuda.is_available() and not options.rehearse:
        print("no GPU that torch can use: nothing was run (--rehearse tries on the CPU what does not need one)")
        return 1
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "rehearsal on a CPU"
    facts = {"card": card, "count": torch.cuda.device_count(), "torch": torch.__version__, "code": code_digest()}
    folder = ROOT / "build/gpu"
    folder.mkdir(parents=True, exist_ok=True)
    bad = []
    for number, name in enumerate(names, 1):
        path = folder / f"{name}.json"
        known = json.loads(path.read_text()) if path.is_file() else {}
        is_done = known.get("exit_code") == 0 and all(known.get(key) == value for key, value in facts.items())
        if "{shards}" in BENCHMARKS.get(name, ()) and shards is None:
            print(f"\n{name}: NOT RUN, no data: give --shards FOLDER, or run `make demo` first")
            bad.append(name)
            continue
        print(
            f"[{number}/{len(names)}] {name}{': done before' if is_done and not options.again else ' ...'}", flush=True
        )
        record = known if is_done and not options.again else run_piece(name, folder, facts, shards)
        print_record(record)
        bad += [name] if record["exit_code"] else []
    print(f"\n{len(names) - len(bad)} of {len(names)} pieces done on {card}; build/gpu holds tables and logs")
    if bad:
        print(f"not done: {', '.join(bad)}; the same command runs these again")
    return 1 if bad else 0


def find_shards() -> Path | None:
    """One dataset for a short training: of the bundle, or of a demo that ran here."""
    found = [ROOT / "data/shards", *sorted(ROOT.glob("artifacts/*/data/pretrain/shards"))]
    return next((path for path in found if path.is_dir() and 0 < size_mb(path) <= DATA_MB), None)


def size_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def code_files() -> list[Path]:
    """What git tracks; in a bundle, which git does not know, what it came with."""
    listed = ROOT / "FILES"
    if listed.is_file():
        return [ROOT / line for line in listed.read_text().splitlines()]
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return [ROOT / name for name in sorted(names.split("\0")) if name and (ROOT / name).is_file()]


def code_digest() -> str:
    digest = hashlib.sha256()
    for path in code_files():
        digest.update(f"{path.relative_to(ROOT).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def wheels() -> Iterator[str]:
    """name==version of WHEELS and of all they need, as installed here; of torch any build of this version.

    Ends with a message where one of WHEELS is not installed: its version would be anybody's guess.
    """
    if absent := [name for name in WHEELS if not is_installed(name)]:
        raise SystemExit(
            f"packages that the pieces import are not installed\n  found:    none of {', '.join(absent)}\n"
            "  remedy:   install them (`make test` makes a whole .venv), then run this again"
        )
    seen: set[str] = set()
    waiting = list(WHEELS)
    while waiting:
        name = waiting.pop()
        if (key := re.sub(r"[-_.]+", "-", name).lower()) in seen:
            continue
        if not is_installed(name):  # of another system, or of a torch for GPUs: pip finds it there
            continue
        found = metadata.distribution(name)
        seen.add(key)
        yield f"{key}=={found.version.partition('+')[0]}"
        waiting += [re.split(r"[\s;<>=!~\[(]", need)[0] for need in found.requires or () if "extra ==" not in need]


def is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def bundle(options: argparse.Namespace) -> int:
    """Code, data and the list of wheels in one file; equal inputs give equal bytes."""
    shards = options.shards or find_shards()
    if shards is None or not shards.is_dir() or size_mb(shards) > DATA_MB:
        found = "nothing" if shards is None else f"{size_mb(shards):.0f} MB in {shards}"
        raise SystemExit(
            f"no data for a short training\n  found:    {found}\n  expected: a folder of ingested datasets, at most "
            f"{DATA_MB} MB, as artifacts/<profile>/data/pretrain/shards\n"
            "  remedy:   run `make demo`, or give --shards FOLDER"
        )
    members = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in code_files()}
    members["FILES"] = ("\n".join(sorted(members)) + "\n").encode()
    members["wheels.txt"] = ("\n".join(sorted(wheels())) + "\n").encode()
    for path in sorted(each for each in shards.rglob("*") if each.is_file()):
        members[f"data/shards/{path.relative_to(shards).as_posix()}"] = path.read_bytes()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    temporary = options.out.with_name(f".{options.out.name}.tmp")
    with tarfile.open(temporary, "w:gz", compresslevel=6) as tar:
        for name, content in sorted(members.items()):
            info = tarfile.TarInfo(f"gpu-bundle/{name}")
            info.size, info.mode = len(content), 0o644
            tar.addfile(info, io.BytesIO(content))
    if (size := temporary.stat().st_size / 1e6) > LIMIT_MB:
        temporary.unlink()
        raise SystemExit(f"the bundle is too large\n  found:    {size:.0f} MB\n  expected: at most {LIMIT_MB} MB")
    temporary.replace(options.out)
    print(f"{options.out}: {size:.1f} MB, {len(members)} files; how to use it: python scripts/gpu.py --help")
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["run", "bundle"], default="run")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"pieces: {', '.join([*TESTS, *BENCHMARKS])}")
    parser.add_argument("--again", action="store_true", help="also those that are done")
    parser.add_argument("--dry-run", action="store_true", help="print the commands")
    parser.add_argument("--rehearse", action="store_true", help="on a CPU, for pieces that do not need a GPU")
    parser.add_argument("--shards", type=Path, help="ingested datasets for the short training")
    parser.add_argument("--out", type=Path, default=ROOT / "build/gpu-bundle.tar.gz")
    options = parser.parse_args()
    raise SystemExit(bundle(options) if options.what == "bundle" else run(options))


if __name__ == "__main__":
    main()
