"""Loaded by every interpreter that `scripts/soak.py` starts: counts named events of a stage, or ends it at one.

WHALE_SOAK="count:<file>" appends the counts at the end; "kill:<event>:<number>:<signal>:<who>:<file>" sends the signal
before that event, once: the file then says where. Events: step (an optimizer step), fsync, rename. `who` is stage
(the process that DVC would start) or worker (one of its training workers).
"""

import atexit
import importlib.abc
import importlib.util
import json
import os
import signal
import sys
import time

STEP_MODULE = "whale.training.loop.gradient_step"
counts = {"step": 0, "fsync": 0, "rename": 0}
mode, _, rest = os.environ.get("WHALE_SOAK", "").partition(":")
is_worker = "--multiprocessing-fork" in sys.orig_argv
is_stage = "whale.run" in sys.orig_argv


def phase(event: str, path: str) -> str:
    """Where in a stage's life an event lies."""
    if event == "step":
        return "in a step"
    if "/states/" in path or "/replay/" in path:
        what = "state"
    elif "lineage/" in path or ".whale/" in path:
        what = "record"
    else:
        what = "output"
    if "MANIFEST" in path:
        return f"{what}: manifest"
    return f"{what}: between temporary file and rename" if event == "rename" else f"{what}: write"


def happens(event: str, path: object = "") -> None:
    """Count the event; end the process here if it is the one."""
    number, counts[event] = counts[event], counts[event] + 1
    if mode != "kill":
        return
    wanted, when, name, who, file = rest.split(":", 4)
    if (event, number) != (wanted, int(when)) or (who == "worker") != is_worker or os.path.exists(file):
        return
    with open(file, "w") as marker:
        json.dump({"phase": phase(event, str(path)), "signal": name, "who": who}, marker)
    os.kill(os.getppid() if who == "worker" and name == "SIGTERM" else os.getpid(), getattr(signal, name))
    time.sleep(0.05)  # a signal to another process needs a moment


def wrap(name: str, event: str, position: int) -> None:
    original = getattr(os, name)

    def wrapped(*arguments, **keywords):
        happens(event, describe(arguments[position]))
        return original(*arguments, **keywords)

    setattr(os, name, wrapped)


def describe(path: object) -> str:
    """The name behind a descriptor, or the path itself."""
    try:
        return os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else os.fspath(path)
    except (OSError, TypeError):
        return ""


class StepFinder(importlib.abc.MetaPathFinder):
    """Puts the event `step` into the training loop when it is imported."""

    def find_spec(self, name, path, target=None):
        if name != STEP_MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            update = module.GradientStep.update

            def counted(step, number):
                happens("step")
                return update(step, number)

            module.GradientStep.update = counted

        spec.loader.exec_module = exec_module
        return spec


def save_counts() -> None:
    with open(rest, "a") as file:
        file.write(json.dumps({"command": sys.orig_argv[1:], "counts": counts}) + "\n")


if mode in ("count", "kill") and (is_worker or is_stage):
    for name, event, position in (("fsync", "fsync", 0), ("rename", "rename", 1), ("replace", "rename", 1)):
        wrap(name, event, position)
    sys.meta_path.insert(0, StepFinder())
    if mode == "count" and is_stage:
        atexit.register(save_counts)
