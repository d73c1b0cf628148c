"""A stage dies with the DVC that started it (and a worker with its stage: whale/runtime/workers/process/worker.py).

Measured: left alone a stage goes on writing, and a second DVC starts beside it. DVC runs `$SHELL -c cmd` and the shell
may or may not stay between, so the direct parent says nothing: find DVC in /proc, take a pidfd, become a session of our
own and let a thread wait for DVC's end. The own session cuts the stage off from the terminal's Ctrl-C, and DVC itself
ignores Ctrl-C while a stage runs, so a tiny shell stays in DVC's process group and forwards it.
"""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

SHELLS = {"sh", "bash", "dash", "zsh", "fish", "ksh", "busybox"}
FORWARD_INTERRUPT = 'trap "kill -s INT -- -$0" INT; trap "" HUP; read -r _'  # to the whole group, as a terminal does


def die_with_dvc(grace_seconds: float = 0.0) -> bool:
    """Watch the DVC that started this process; False when there is none (started by hand, or not by this route).

    On DVC's end: with `grace_seconds` SIGTERM to this process, then SIGKILL to its group; without, SIGKILL at once.
    """
    if "DVC_STAGE" not in os.environ:
        return False
    if not hasattr(os, "pidfd_open"):
        return _watch(_parent_ended, grace_seconds, owns_group=False)
    dvc = find_dvc()
    if dvc is None:
        return False
    descriptor = os.pidfd_open(dvc)
    owns_group = _leave_session()
    return _watch(lambda: bool(select.select([descriptor], [], [])), grace_seconds, owns_group)


def find_dvc() -> int | None:
    """Pid of the nearest ancestor that is DVC: by its command, else the first that is no shell (DVC as a library)."""
    ancestors = _ancestors()
    named = [pid for pid in ancestors if any(Path(word).name == "dvc" for word in _command(pid)[:4])]
    others = [pid for pid in ancestors if pid != 1 and Path(_command(pid)[0].lstrip("-")).name not in SHELLS]
    return next(iter(named or others), None)


def _ancestors() -> list[int]:
    found, pid = [], os.getppid()
    while pid > 0:
        found.append(pid)
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            break
        pid = int(stat.rpartition(")")[2].split()[1])
    return found


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return [""]


def _leave_session() -> bool:
    """setsid, with a forwarder of Ctrl-C left behind; False when this process leads a group already."""
    if os.getpgrp() == os.getpid():
        return False
    command = ["sh", "-c", FORWARD_INTERRUPT, str(os.getpid())]
    quiet = subprocess.DEVNULL
    forwarder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet)
    os.setsid()
    _kept.append(forwarder)  # its stdin closes when this process ends, whatever ends it; then it ends too
    return True


_kept: list[subprocess.Popen] = []


def _parent_ended() -> bool:
    """Where there is no pidfd: look once per second whether the parent is still the same."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(1.0)
    return True


def _watch(wait, grace_seconds: float, owns_group: bool) -> bool:
    def end_with_it() -> None:
        wait()
        print("whale: DVC has ended, so this stage ends", file=sys.stderr, flush=True)
        if grace_seconds > 0:
            _kill(signal.SIGTERM, owns_group=False)  # this process leads its workers: it stops them at one step
            time.sleep(grace_seconds)
        _kill(signal.SIGKILL, owns_group)

    threading.Thread(target=end_with_it, name="die-with-dvc", daemon=True).start()
    return True


def _kill(number: signal.Signals, owns_group: bool) -> None:
    """The whole group only if it is ours: without setsid it would be DVC's, and the shell's that started DVC."""
    if owns_group:
        os.killpg(0, number)
    else:
        os.kill(os.getpid(), number)
