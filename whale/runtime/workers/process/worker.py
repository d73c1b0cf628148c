"""What must stand in every process of a stage: it dies with its parent, and what it opens is heard.

An audit hook sees every `open` of its process; it cannot be removed again, so it is installed once, by processes that
are stages and by those that work for one (training, Beam, Ray), which write down each name when they first see it: a
worker may be killed at any time. The hook does not see files opened inside C libraries (pyarrow, safetensors, cv2): our
code opens in Python and hands over buffers. The guard reads what was heard (whale/guard/opened_files.py).
"""

import ctypes
import os
import signal
import socket
import sys
import threading

WORKERS = "WHALE_OPENED_FILES"  # the variable that tells a worker where to write
PR_SET_PDEATHSIG = 1

opened: set[str] = set()
unheard_threads: set[int] = set()  # threads of the guard, whose reading is its own
_is_listening = False
_log: int | None = None  # a worker's file


def die_with_parent(parent: int) -> bool:
    """The system kills this worker process when the thread that started it ends; False if `parent` is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    return os.getppid() == parent


def listen() -> None:
    """Hear every file that this process opens from now on; a second call does nothing."""
    global _is_listening
    if not _is_listening:
        _is_listening = True
        sys.addaudithook(_hook)


def is_listening() -> bool:
    """Whether this process is heard."""
    return _is_listening


def listen_in_worker() -> None:
    """Listen in a process that works for a stage; nothing happens in the stage itself, or outside of one."""
    global _log
    folder = os.environ.get(WORKERS)
    if _is_listening or not folder or not os.path.isdir(folder):
        return
    name = f"{socket.gethostname()}-{os.getpid()}.txt"
    _log = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and os.path.isabs(file):
            _write_down(file)
    listen()


def _write_down(name: str) -> None:
    if _log is not None:
        os.write(_log, os.fsencode(os.path.abspath(name)) + b"\0")


def _hook(event: str, arguments: tuple) -> None:
    if event == "open" and isinstance(arguments[0], str | bytes) and _reads(arguments[1], arguments[2]):
        name = os.fsdecode(arguments[0])
        # A relative name that is not here is relative to an open folder (shutil.rmtree), or nothing will be read.
        is_new = name not in opened and threading.get_ident() not in unheard_threads
        if is_new and (os.path.isabs(name) or os.path.lexists(name)):
            opened.add(name)
            _write_down(name)


def _reads(mode: object, flags: object) -> bool:
    if isinstance(mode, str):
        return "r" in mode
    return not (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_CREAT))
