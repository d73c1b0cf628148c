"""What DVC itself costs in one `dvc repro` of the whole program: CPU seconds, and what they go to.

    python benchmarks/dvc_share.py

The project is copied to a scratch folder, where each stage writes a few small files instead of computing. DVC is not
changed; some of its functions are clocked.
"""

import functools
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import yaml
from measure import ROOT, machine

sys.path[:0] = [str(ROOT)]
from whale.common.config import load_yaml
from whale.pipeline_file import expand

COPIED = ("dvc.yaml", "params.yaml", ".dvcignore", "docs/pipeline.yaml", "data_specs", "whale", "pipelines")
SETTINGS = "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n[cache]\n    type = hardlink\n"
FILES = 30  # of an output
WRITER = """
import os, sys
for name in sys.argv[1:]:
    folder, path = os.path.dirname(name), name
    if not name.endswith(".json"):
        folder, path = name, os.path.join(name, "file-{}")
    os.makedirs(folder, exist_ok=True)
    for number in range(%d if path != name else 1):
        open(path.format(number), "w").write(name + str(number))
"""


def make_project(root: Path) -> int:
    """The copy below `root`; returns the number of its stages."""
    for name in COPIED:
        source, target = ROOT / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        copy(source, target)
    (root / ".dvc").mkdir()
    (root / ".dvc/config").write_text(SETTINGS)
    (root / "writer.py").write_text(WRITER % FILES)
    document, params = load_yaml(root / "dvc.yaml"), load_yaml(root / "params.yaml")
    nodes = expand(document, params)
    raw = " ".join(entry["raw"] for entry in params["datasets"].values())
    for name, entry in document["stages"].items():
        body = entry.get("do", entry)
        made = " ".join([*body["outs"], *body.get("metrics", [])])
        body["cmd"] = f"{sys.executable} -S writer.py {raw if name == 'collect' else made}"
    (root / "dvc.yaml").write_text(yaml.safe_dump(document, sort_keys=False, width=1000))
    return len(nodes)


def clock(owner: object, name: str, what: str, seconds: Counter[str]) -> None:
    """Count the CPU time of this process inside of a function of DVC."""
    function = getattr(owner, name)

    @functools.wraps(function)
    def clocked(*arguments, **named):
        started = time.process_time()
        try:
            return function(*arguments, **named)
        finally:
            seconds[what] += time.process_time() - started

    setattr(owner, name, clocked)


def main() -> None:
    seconds: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        num_stages = make_project(Path(scratch))
        os.chdir(scratch)
        before = time.process_time()
        from dvc import dvcfile, stage
        from dvc.cli import main as dvc
        from dvc.dependency import param
        from dvc.stage import cache

        clock(dvcfile.Lockfile, "dump_stages", "dvc.lock, read and written again after each stage", seconds)
        clock(stage.Stage, "save_deps", "hashing deps", seconds)
        clock(cache.StageCache, "restore", "run cache: look up (deps are hashed inside)", seconds)
        clock(cache.StageCache, "save", "run cache: save", seconds)
        clock(param, "read_param_file", "reading params (inside of the others)", seconds)
        for what in ("first run", "nothing to do"):
            code = dvc(["repro", "--quiet"])
            took, before = time.process_time() - before, time.process_time()
            print(f"{what}: {took:.1f} CPU s of DVC for {num_stages} stages, exit code {code}")
            for name, spent in seconds.most_common():
                print(f"  {spent:6.1f}  {name}")
            seconds.clear()
        lines = len(Path("dvc.lock").read_text().splitlines())
        print(f"dvc.lock: {lines} lines\n{machine()}")
        os.chdir(ROOT)


if __name__ == "__main__":
    main()
