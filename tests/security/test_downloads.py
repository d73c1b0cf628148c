"""S17: an answer is never held whole, a redirect leads nowhere else, no link is followed, no password is said."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from whale.common.errors import MissingInputError, RefusedError
from whale.common.files import sha256_of_file
from whale.data.ingest.sources.location import DescribedFile
from whale.data.workbench.fetch import fetch_files

DATA = np.random.default_rng(0).bytes(3_000_000)


class Handler(BaseHTTPRequestHandler):
    """A server that knows no ranges."""

    answers: list[str] = []
    seen: list[dict] = []

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        kind = self.answers.pop(0) if self.answers else "whole"
        self.seen.append({"path": self.path, **self.headers})
        if kind.startswith("to "):
            self.send_response(302)
            self.send_header("Location", kind[3:])
            self.end_headers()
            return
        self.send_response(206 if kind == "another range" else 200)
        if kind == "another range":
            self.send_header("Content-Range", f"bytes 7-9/{len(DATA)}")
        self.end_headers()
        if kind == "cut":
            self.wfile.write(DATA[:1_000_000])
            return
        try:
            self.wfile.write(DATA)
            for _ in range(200 if kind == "endless" else 0):
                self.wfile.write(bytes(1 << 20))
        except ConnectionError:  # the other side has what it wants
            pass


@contextmanager
def server(*answers):
    handler = type("Each", (Handler,), {"answers": list(answers), "seen": []})
    served = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield served.server_port, handler
    finally:
        served.shutdown()
        thread.join()
        served.server_close()


@pytest.fixture
def described(tmp_path):
    (tmp_path / "original").write_bytes(DATA)
    return [DescribedFile(path="x.bin", bytes=len(DATA), sha256=sha256_of_file(tmp_path / "original"))]


def fetch(described, uri, target, tries=3):
    return fetch_files(described, uri, target, tries=tries, sleep=lambda seconds: None)


@pytest.mark.parametrize("answers", [[], ["cut"], ["endless"], ["cut", "cut", "endless"]])
def test_a_server_without_ranges_is_read_to_the_promised_size_and_no_further(described, tmp_path, answers):
    with server(*answers) as (port, _):
        fetch(described, f"http://127.0.0.1:{port}/b", tmp_path / "raw")
    assert (tmp_path / "raw/x.bin").read_bytes() == DATA


@pytest.mark.parametrize("place", ["http://127.0.0.1:{other}/b", "http://localhost:{port}/b", "file:///etc/passwd",
                                   "http://169.254.169.254/latest", "ftp://127.0.0.1/b", "//[::1]:{port}/b",
                                   "http://me:secret@127.0.0.1:{port}/b", "gopher://x/"])  # fmt: skip
def test_a_redirect_to_another_place_is_not_followed(described, tmp_path, place):
    with server() as (other, there), server() as (port, here):
        here.answers = ["to " + place.format(port=port, other=other)] * 9
        with pytest.raises(RefusedError, match=r"(?s)redirect to another place.*127\.0\.0\.1.*expected") as caught:
            fetch(described, f"http://127.0.0.1:{port}/b", tmp_path / "raw")
        assert not there.seen and len(here.seen) == 1 and "secret" not in str(caught.value)


def test_a_redirect_on_the_same_server_is_followed_a_few_times(described, tmp_path):
    with server("to /elsewhere") as (port, here):
        fetch(described, f"http://127.0.0.1:{port}/b", tmp_path / "raw")
        assert [each["path"] for each in here.seen] == ["/b/x.bin", "/elsewhere"]
    with server(*["to /again"] * 50) as (port, here), pytest.raises(RefusedError, match="too many redirects"):
        fetch(described, f"http://127.0.0.1:{port}/b", tmp_path / "other")


def test_an_answer_with_another_range_is_refused(described, tmp_path):
    with server("another range") as (port, _), pytest.raises(RefusedError, match="another range"):
        fetch(described, f"http://127.0.0.1:{port}/b", tmp_path / "raw")


def test_a_link_in_the_place_of_a_download_is_not_written_through(described, tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "raw/.x.bin.part").symlink_to(tmp_path / "victim")
    with server() as (port, _), pytest.raises(RefusedError, match="a link lies where"):
        fetch(described, f"http://127.0.0.1:{port}/b", tmp_path / "raw")
    assert (tmp_path / "victim").read_text() == "mine"


def test_a_password_is_sent_and_never_said(described, tmp_path):
    with server() as (port, here):
        fetch(described, f"http://me:hunter2@127.0.0.1:{port}/b", tmp_path / "raw")
        assert here.seen[0]["Authorization"].startswith("Basic ")
    with server(*["cut"] * 9) as (port, _):
        described[0] = described[0].model_copy(update={"bytes": len(DATA) * 2})
        with pytest.raises(MissingInputError) as caught:
            fetch(described, f"http://me:hunter2@127.0.0.1:{port}/b", tmp_path / "other", tries=2)
    assert "hunter2" not in str(caught.value) and "***" in str(caught.value)
