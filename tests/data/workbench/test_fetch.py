"""A bucket that is slow, truncates, drops connections and refuses; on the loopback interface only."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from whale.common.errors import CannotWriteError, MismatchError, MissingInputError
from whale.common.files import sha256_of_file
from whale.data.ingest.sources.location import DescribedFile
from whale.data.workbench import fetch
from whale.data.workbench.fetch import fetch_files

DATA = np.random.default_rng(0).bytes(300_000)
NO_WAIT = {"tries": 4, "sleep": lambda seconds: None}


@contextmanager
def bucket(faults, content=DATA):
    """Serves `content` at every path; `faults[n]` is what happens to answer n: ok, 503, drop, truncate, slow."""
    plan, seen = iter(faults), []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments):
            pass

        def do_HEAD(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()

        def do_GET(self):
            start, end = (self.headers.get("Range") or f"bytes=0-{len(content) - 1}").removeprefix("bytes=").split("-")
            body = content[int(start) : int(end) + 1]
            fault = next(plan, "ok")
            seen.append((int(start), fault))
            if fault == "503":
                self.send_error(503)
                return
            self.send_response(206)
            short = body[: len(body) // 3] if fault == "truncate" else body
            self.send_header("Content-Length", str(len(body if fault == "drop" else short)))
            self.send_header("Content-Range", f"bytes {start}-{end}/{len(content)}")
            self.end_headers()
            self.wfile.write(body[:1000] if fault == "drop" else short)
            if fault == "drop":
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/bucket", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def described(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "CHUNK_BYTES", 64 * 1024)
    (tmp_path / "original").write_bytes(DATA)
    return [DescribedFile(path="1.0.0/x.tfrecord", bytes=len(DATA), sha256=sha256_of_file(tmp_path / "original"))]


@pytest.mark.parametrize(
    "faults", [["ok"], ["503", "ok"], ["drop", "ok", "drop"], ["truncate", "truncate", "ok"], ["ok", "503", "truncate"]]
)
def test_what_arrives_is_the_whole_file_whatever_happens_on_the_way(described, tmp_path, faults):
    with bucket(faults) as (uri, _):
        assert fetch_files(described, uri, tmp_path / "raw", **NO_WAIT) == 1
    assert (tmp_path / "raw/1.0.0/x.tfrecord").read_bytes() == DATA
    assert not list((tmp_path / "raw").rglob("*.part"))


def test_a_broken_download_goes_on_where_it_stopped_and_a_whole_one_is_left_alone(described, tmp_path):
    with bucket(["ok", "ok", *["503"] * 20]) as (uri, seen), pytest.raises(MissingInputError, match="byte 131072"):
        fetch_files(described, uri, tmp_path / "raw", **NO_WAIT)
    with bucket([]) as (uri, seen):
        assert fetch_files(described, uri, tmp_path / "raw", **NO_WAIT) == 1
        assert min(start for start, _ in seen) == 131072
        assert fetch_files(described, uri, tmp_path / "raw", **NO_WAIT) == 0


def test_another_object_of_the_same_size_is_refused_and_nothing_is_left(described, tmp_path):
    other = bytes(len(DATA))
    with bucket([], other) as (uri, _), pytest.raises(MismatchError, match="another file"):
        fetch_files(described, uri, tmp_path / "raw", **NO_WAIT)
    assert not [path for path in (tmp_path / "raw").rglob("*") if path.is_file()]


def test_tries_are_bounded_and_waits_grow(described, tmp_path):
    waits = []
    with bucket(["503"] * 50) as (uri, _), pytest.raises(MissingInputError, match="run again"):
        fetch_files(described, uri, tmp_path / "raw", tries=3, sleep=waits.append)
    assert waits == [1.0, 2.0]


def test_a_full_disk_of_this_machine_is_named_at_once_and_not_tried_again(described, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "_opened", lambda partial: open("/dev/full", "ab"))  # noqa: SIM115
    with bucket([]) as (uri, _), pytest.raises(CannotWriteError, match="free space"):
        fetch_files(described, uri, tmp_path / "raw", tries=4, sleep=lambda s: pytest.fail("tried again"))
