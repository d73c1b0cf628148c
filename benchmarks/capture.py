"""What lineage costs a stage beside its constant part, which `whale timings` prints: each open, each megabyte sealed.

    python benchmarks/capture.py [--opens 20000] [--megabytes 512]

The audit hook hears every `open` of a stage and its workers: microseconds a call, for a file seen before and for a new
one, over the same loop without it. An output is hashed once to be sealed: its time beside sha256 alone.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from measure import contender, machine

FILES = 2000


def opens(count: int, is_listening: bool) -> dict[str, float]:
    """CPU microseconds of an open and close: the first of each file, then again and again."""
    if is_listening:
        from whale.runtime.guard import opened_files

        opened_files.install()
    with tempfile.TemporaryDirectory() as folder:
        names = [os.path.join(folder, f"{number}.txt") for number in range(FILES)]
        for name in names:
            Path(name).write_bytes(b"x")  # writing is not listened to
        found = {"new": _per_open(names)}
        found["seen"] = min(_per_open(names) for _ in range(max(count // FILES, 1)))
    return found


def _per_open(names: list[str]) -> float:
    started = time.process_time()
    for name in names:
        with open(name, "rb"):
            pass
    return (time.process_time() - started) / len(names) * 1e6


def sealing(megabytes: int) -> dict[str, float]:
    """Seconds to seal a folder of 8 files, and to hash the same files; best of three."""
    from whale.files import sha256_of_file
    from whale.lineage.file_digests import FileDigests
    from whale.lineage.seal import seal

    sealed, hashed = [], []
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.bin" for number in range(8)]
        for path in paths:
            path.write_bytes(os.urandom(megabytes * 2**20 // len(paths)))
            with open(path, "rb+") as file:
                os.fsync(file.fileno())  # writing them to the disk is the stage's own work
        for _ in range(3):
            started = time.perf_counter()
            for path in paths:
                sha256_of_file(path)
            hashed.append(time.perf_counter() - started)
            (Path(folder) / "MANIFEST.json").unlink(missing_ok=True)
            started = time.perf_counter()
            seal(Path(folder), FileDigests())
            sealed.append(time.perf_counter() - started)
    return {"sealed": min(sealed), "hashed": min(hashed)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--opens", type=int, default=20000)
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--contender", choices=["plain", "listening", "sealing"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        is_sealing = options.contender == "sealing"
        body = sealing(options.megabytes) if is_sealing else opens(options.opens, options.contender == "listening")
        print(json.dumps(body))
        return
    sizes = ["--opens", str(options.opens), "--megabytes", str(options.megabytes)]
    print(f"machine: {machine()}")
    plain, listening = (contender(__file__, "--contender", kind, *sizes) for kind in ("plain", "listening"))
    for kind in ("new", "seen"):
        added = listening[kind] - plain[kind]
        print(f"open of a {kind} file: {plain[kind]:.1f} us, with the hook {listening[kind]:.1f} us: {added:+.1f} us")
    took = contender(__file__, "--contender", "sealing", *sizes)
    rate = options.megabytes / took["sealed"]
    print(f"sealing: {rate:.0f} MB/s, {took['sealed'] / took['hashed']:.2f} x sha256 alone")


if __name__ == "__main__":
    main()
