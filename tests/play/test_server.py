"""What the page's server answers: its own page, with the token, in small and whole requests. Nobody else."""

import http.client
import json
import re
import socket
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import tiny_world

from whale.commands.results.play import drives_of
from whale.common.errors import BusyError
from whale.common.limits import DRIVES, REQUEST_BYTES, REQUEST_HEAD_BYTES
from whale.play import server as play_server
from whale.play.drives import Drives
from whale.play.server import Server

BEGIN = {"do": "begin", "dataset": tiny_world.ROBOT, "start": 0}


@contextmanager
def serving(bundle):
    server = Server(drives_of(bundle, []))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.server.should_exit = True
        thread.join(60)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tiny_world.write_bundle(tmp_path_factory.mktemp("world"), seen=True)) as found:
        yield found


@pytest.fixture
def ask(server):
    token = server.url.rstrip("/").rpartition("/")[2]

    def asked(path="", body=None, token=token, method=None, **headers):
        """Status, headers, and what was said, an object where it is JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
        payload = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        kind = {} if payload is None else {"Content-Type": "application/json"}
        sent = kind | {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method or ("GET" if payload is None else "POST"), f"/{token}/{path}", payload, sent)
        answer = connection.getresponse()
        said = answer.read()
        is_json = answer.headers.get_content_type() == "application/json"
        return answer.status, answer.headers, json.loads(said) if is_json else said

    return asked


def refused(answer, place):
    status, _, said = answer
    return status == 403 and said["error"]["kind"] == "RefusedError" and said["error"]["place"] == place


@pytest.mark.parametrize("token", ["", "x", "..", "%2e%2e", "a" * 32, "\u00e9".encode().hex()])
@pytest.mark.parametrize("path", ["", "about", "page/play.js", "gif/1", "nothing"])
def test_without_the_token_nothing_is_answered(ask, token, path):
    assert refused(ask(path, token=token), "path")
    assert refused(ask("drive", BEGIN, token=token), "path")


def test_a_name_that_was_pointed_at_this_machine_is_refused(ask, server):
    for host in ("evil.example", f"evil.example:{server.port}", "127.0.0.1", f"127.0.0.1:{server.port + 1}", ""):
        assert refused(ask("about", Host=host), "Host"), host
    assert ask("about", Host=f"localhost:{server.port}")[0] == 200


def test_other_pages_of_the_same_browser_are_refused(ask, server):
    own = f"http://127.0.0.1:{server.port}"
    for origin in ("http://evil.example", "null", own + ".evil.example", own.replace("http", "https"),
                   f"http://localhost:{server.port}", f"http://127.0.0.1:{server.port + 1}"):  # fmt: skip
        assert refused(ask("drive", BEGIN, Origin=origin), "Origin"), origin
    for site in ("cross-site", "same-site"):
        assert refused(ask("about", Sec_Fetch_Site=site, Sec_Fetch_Dest="empty"), "Sec-Fetch-Site")
        assert refused(ask("drive", BEGIN, Sec_Fetch_Site=site, Sec_Fetch_Dest="document"), "Sec-Fetch-Site")
    assert ask(Sec_Fetch_Site="cross-site", Sec_Fetch_Dest="document")[0] == 200  # a link that a person clicked
    assert ask("drive", BEGIN, Origin=own, Sec_Fetch_Site="same-origin")[0] == 200


def test_two_hosts_in_one_request_are_refused(server):
    with socket.create_connection(("127.0.0.1", server.port), 300) as raw:
        host = f"Host: 127.0.0.1:{server.port}\r\n".encode()
        path = server.url.split(f"{server.port}")[1].encode()
        raw.sendall(b"GET " + path + b"about HTTP/1.1\r\n" + host + b"Host: evil.example\r\nConnection: close\r\n\r\n")
        status = raw.makefile("rb").readline().split()[1]
    assert status in (b"400", b"403")


def test_a_large_request_is_refused_whatever_length_it_claims(ask, server):
    status, _, said = ask("drive", b" " * (REQUEST_BYTES + 1))
    assert status == 413 and said["error"]["place"] == "body" and str(REQUEST_BYTES) in said["error"]["expected"]
    part = b"%x\r\n%s\r\n" % (REQUEST_BYTES, b" " * REQUEST_BYTES)
    status, _, said = ask("drive", part * 2 + b"0\r\n\r\n", Transfer_Encoding="chunked")
    assert status == 413
    assert ask("about?dataset=" + "x" * 100_000)[0] in (400, 431)
    assert ask("about")[0] == 200


def test_a_request_that_does_not_come_to_its_end_is_refused_in_time(server, monkeypatch):
    monkeypatch.setattr(play_server, "REQUEST_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", server.port), 60) as raw:
        path = server.url.split(f"{server.port}")[1].encode()
        head = b"POST " + path + f"drive HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n".encode()
        raw.sendall(head + b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        said = raw.makefile("rb").read()  # to its end: the connection is closed
    assert said.startswith(b"HTTP/1.1 408") and b"1 bytes" in said and b"within 0.3 s" in said


def test_a_request_whose_head_does_not_end_is_refused(server):
    with socket.create_connection(("127.0.0.1", server.port), 60) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nX-Long: " + b"x" * REQUEST_HEAD_BYTES)
        assert raw.makefile("rb").readline().split()[1] in (b"400", b"431")


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"", "message"), (b"\xff\xfe", "message"), (b"[" * 10_000, "message"), (b"[]", "message.do"),
        ({}, "message.do"),
        ({"do": "reboot"}, "message.do"), ({"do": ["begin"]}, "message.do"),
        (BEGIN | {"dataset": "../x"}, "dataset"), (BEGIN | {"start": 99}, "start"),
        (BEGIN | {"start": -1}, "message.start"),
        (BEGIN | {"start": 1e400}, "message.start"), (BEGIN | {"extra": 1}, "message.extra"),
        ({"do": "step", "drive": 10**9, "by": "keys"}, "drive"),
        (b'{"do": "step", "drive": 1, "by": "keys", "axes": [NaN]}', "message.axes.0"),
        ({"do": "step", "drive": 1, "by": "keys", "axes": [2.0]}, "message.axes.0"),
        ({"do": "step", "drive": 1, "by": "keys", "axes": [0.0] * 33}, "message.axes"),
        ({"do": "step", "drive": 1, "by": "keys", "z": "other"}, "message.z"),
        ({"do": "rewind", "drive": "1", "to": 0}, "message.drive"),
    ],
)  # fmt: skip
def test_a_malformed_message_is_answered_with_what_is_wrong(ask, body, place):
    status, _, said = ask("drive", body)
    assert status == 400 and said["error"]["kind"] == "ConfigError"
    assert said["error"]["place"].startswith(place), said


def test_only_json_is_taken_so_that_no_form_of_another_page_can_write(ask):
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        status, _, said = ask("drive", BEGIN, Content_Type=kind)
        assert status == 400 and said["error"]["place"] == "Content-Type"
    assert ask("drive", method="GET")[0] == 405 and ask("drive", method="OPTIONS")[0] == 405


@pytest.mark.parametrize("path", ["page/..%2f__init__.py", "page/%2e%2e", "page/nothing.js", "page//etc/passwd", "x"])
def test_only_files_of_the_page_are_served(ask, path):
    assert ask(path)[0] == 404


def test_the_page_loads_nothing_from_elsewhere_and_may_not(ask):
    status, headers, page = ask()
    assert status == 200 and headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in headers["content-security-policy"] and "server" not in headers
    assert headers["referrer-policy"] == "no-referrer" and headers["cache-control"] == "no-store"
    for name in ("page/play.css", "page/play.js"):
        status, _, text = ask(name)
        assert status == 200 and name.encode() in page
        assert not re.search(rb"https?:|wss?:|url\(|@import|=.?//", text + page)


def test_a_drive_over_http_moves_and_goes_back(ask):
    about = ask("about")[2]
    assert about["dataset"] == tiny_world.ROBOT and len(about["starts"]) == 6 and len(about["axes"]) == 6
    assert about["frames"] == ["likeliest", "drawn"]
    assert about["doubt"] == ["entropy", "retracing", "none"] and about["limits"] == ["retracing", "entropy"]
    first = ask("drive", BEGIN)[2]
    shown = [first]
    for _ in range(5):
        message = {"do": "step", "drive": first["drive"], "by": "recorded", "doubt": "entropy"}
        shown.append(ask("drive", message)[2])
    assert [each["step"] for each in shown] == list(range(6)) and shown[3]["frame"] != shown[4]["frame"]
    assert all(each["uncertainty"] > 0 and each["limit"] > 0 for each in shown[1:])
    assert [each["beyond"] for each in shown[1:]] == [each["uncertainty"] > each["limit"] for each in shown[1:]]
    back = ask("drive", {"do": "rewind", "drive": first["drive"], "to": 2})[2]
    assert back == shown[2]
    status, headers, gif = ask(f"gif/{first['drive']}")
    assert status == 200 and gif[:6] == b"GIF89a" and "attachment" in headers["content-disposition"]


def test_the_oldest_drive_ends_where_too_many_begin(ask):
    numbers = [ask("drive", BEGIN)[2]["drive"] for _ in range(DRIVES + 1)]
    status, _, said = ask("drive", {"do": "rewind", "drive": numbers[0], "to": 0})
    assert status == 400 and said["error"]["remedy"] == "begin again"
    assert ask("drive", {"do": "rewind", "drive": numbers[-1], "to": 0})[0] == 200


def test_a_port_that_is_taken_is_named(server):
    with pytest.raises(BusyError, match=str(server.port)):
        Server(Drives("", [], lambda _: pytest.fail("nothing is opened")), server.port)


def test_it_listens_on_loopback_only(server):
    assert server.socket.getsockname()[0] == "127.0.0.1"


def test_several_robots_have_worlds_of_their_own(tmp_path):
    drives = drives_of(tiny_world.write_bundle(tmp_path, robots=("a_robot", "b_robot")), [])
    assert drives.about()["dataset"] == "a_robot" and drives.about("b_robot")["dataset"] == "b_robot"
    assert np.all([each["size"] > 0 for each in drives.about("b_robot")["axes"]])
