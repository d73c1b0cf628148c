"""Loaded by every interpreter that `benchmarks/capture.py` starts: clocks around what a stage's guard does.

The process of a stage appends one JSON line to the file that WHALE_CAPTURE names: its wall and CPU seconds, and those
of each part of the guard without the parts inside it; CPU of child processes (git) counts. Everything that the guard
does is counted as capture, its lock and its clearing up too, so the sum is an upper bound. Events of the audit hook are
only counted here: a clock around each would cost more than the hook.
"""

import atexit
import importlib.abc
import importlib.util
import json
import os
import resource
import sys
import time
from contextlib import contextmanager

GUARD = "whale.runtime.guard"
PARTS = {  # module -> {function: part}; a part is named once, where it is spent
    "whale.lineage.inputs": {"prove_input": "inputs"},
    "whale.lineage.file_digests": {"FileDigests.save": "inputs"},
    "whale.lineage.seal": {"seal": "outputs"},
    "whale.lineage.closure": {"import_closure": "code", "closure_digest": "code"},
    "whale.lineage.code_state": {"code_state": "git"},
    "whale.lineage.signing": {"sign": "sign", "key_file": "sign", "publish_key": "sign"},
    "whale.lineage.ledger": {"append": "ledger"},
    "whale.data.episode_table": {"episode_table": "tables"},
    "whale.data.consumption": {"consumption_receipt": "tables"},
    "whale.lineage.summary": {"summarize": "statement", "read_summary": "statement", "summarize_dataset": "tables"},
    f"{GUARD}.opened_files": {"report": "hook"},
    f"{GUARD}.machine": {"describe": "machine", "installed_packages": "machine"},
    f"{GUARD}.run_record": {"write_run_record": "statement", "_write_byproducts": "statement", "_sign": "sign"},
}
spent: dict[str, list[float]] = {}
stack: list[list[float]] = []
events = {"opens": 0, "others": 0, "hashed": 0, "hashed_bytes": 0}
stages: list[str] = []


def now() -> tuple[float, float]:
    """Wall and CPU seconds, ended child processes among them."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter(), time.process_time() + children.ru_utime + children.ru_stime


@contextmanager
def clock(part: str):
    """What is spent inside, without the clocks inside, is added to `part`."""
    stack.append([0.0, 0.0])
    before = now()
    try:
        yield
    finally:
        took = [after - start for after, start in zip(now(), before, strict=True)]
        inner = stack.pop()
        sums = spent.setdefault(part, [0.0, 0.0])
        for place in (0, 1):
            sums[place] += took[place] - inner[place]
            if stack:
                stack[-1][place] += took[place]


def wrap(module, name: str, part: str) -> None:
    holder, _, method = name.rpartition(".")
    owner = getattr(module, holder) if holder else module
    original = getattr(owner, method, None)
    if original is None:  # another state of the code
        return

    def clocked(*arguments, **keywords):
        with clock(part):
            return original(*arguments, **keywords)

    setattr(owner, method, clocked)


def count_events(module) -> None:
    original = module._hook

    def counted(event, arguments):
        events["opens" if event == "open" else "others"] += 1
        original(event, arguments)

    module._hook = counted


def count_hashed(module) -> None:
    original = module.sha256_of_file

    def counted(path):
        events["hashed"] += 1
        events["hashed_bytes"] += os.stat(path).st_size
        return original(path)

    module.sha256_of_file = counted


def clock_guard(module) -> None:
    """Entering and leaving `stage`: what no other clock covers is the guard's own (lock, leftovers, tracking)."""
    original = module.stage

    @contextmanager
    def clocked(name, args, config, **keywords):
        guard = original(name, args, config, **keywords)
        with clock("guard"):
            run = guard.__enter__()
        try:
            yield run
        except BaseException:
            if not guard.__exit__(*sys.exc_info()):
                raise
            return
        with clock("guard"):
            guard.__exit__(None, None, None)
        stages.append(run.name)

    module.stage = clocked


class Finder(importlib.abc.MetaPathFinder):
    """Puts the clocks in when a module of PARTS has been executed."""

    def find_spec(self, name, path, target=None):
        if name not in PARTS and name != f"{GUARD}.stage":
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        execute = spec.loader.exec_module

        def exec_module(module):
            if name == f"{GUARD}.stage":
                with clock("imports"):
                    execute(module)
                clock_guard(module)
                return
            execute(module)
            if name == f"{GUARD}.opened_files":
                count_events(module)
            if name == "whale.lineage.file_digests":
                count_hashed(module)
            for function, part in PARTS[name].items():
                wrap(module, function, part)

        spec.loader.exec_module = exec_module
        return spec


def report() -> None:
    from whale.runtime.guard.process_clock import seconds_since_process_start

    if stages:
        row = {"stage": stages[0], "wall_s": seconds_since_process_start(), "cpu_s": now()[1], "parts": spent, **events}
        with open(os.environ["WHALE_CAPTURE"], "a") as file:
            file.write(json.dumps(row) + "\n")


if os.environ.get("WHALE_CAPTURE") and any(word.startswith("pipelines.") for word in sys.orig_argv):
    sys.meta_path.insert(0, Finder())
    atexit.register(report)
