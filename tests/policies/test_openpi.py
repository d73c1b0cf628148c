"""A policy behind a server: right numbers; and a server that lies, sleeps or dies gives one clear error, in time."""

import base64
import contextlib
import hashlib
import itertools
import re
import socket
import threading
import time

import numpy as np
import pytest
from openpi_loopback import packed, policy_server

from whale.common.errors import BadDataError, BeyondLimitError, ConfigError, MissingInputError, WorkerLostError
from whale.common.limits import MESSAGE_FRAMES
from whale.policies.openpi import Connection, OpenpiServer, _identity, openpi
from whale.policies.protocol import Beginning, Observation

IMAGE = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
OBJECTS = {b"__ndarray__": True, b"dtype": "|O", b"shape": [1, 7], b"data": b"\0" * 56}
SEEN = Observation(IMAGE, "push the plate", 0)


def asked(url, observations=(SEEN,), **settings):
    policy = openpi("mine", OpenpiServer(url, **settings))
    actor = policy.begin([Beginning(0, 0, IMAGE, "push the plate")] * len(observations))
    return actor.act(list(observations), list(range(len(observations))))


def test_the_server_sees_the_frame_and_the_words_and_its_actions_come_back():
    def infer(observation):
        assert np.array_equal(observation["cam"], IMAGE) and observation["state"].tolist() == [1, 2]
        return {"actions": np.full((10, 7), len(observation["prompt"]), np.float32), "other": "ignored"}

    with policy_server(infer) as url:
        (chunk,) = asked(url, image="cam", extra={"state": np.array([1, 2])}, actions_used=4)
    assert chunk.shape == (4, 7) and (chunk == len("push the plate")).all()


def test_what_the_server_says_of_its_rate_and_layout_is_heard():
    with policy_server(lambda _: {}, {"control_hz": 15.0, "action_dimensions": ["x", "y"]}) as url:
        policy = openpi("mine", OpenpiServer(url))
    assert (policy.control_hz, policy.action_dimensions) == (15.0, ("x", "y"))


@pytest.mark.parametrize("hz", [3, np.float32(3), np.int64(3), np.array(3.0)])
@pytest.mark.parametrize("as_key", [str, str.encode])
def test_a_rate_is_heard_in_every_form_in_which_servers_say_it(hz, as_key):
    with policy_server(lambda _: {}, {as_key("control_hz"): hz, as_key("action_dimensions"): [b"x", "y"]}) as url:
        policy = openpi("mine", OpenpiServer(url))
    assert (policy.control_hz, policy.action_dimensions) == (3.0, ("x", "y"))


@pytest.mark.parametrize(
    ("key", "value"),
    [("control_hz", each) for each in ("3", True, [3], np.array([3.0]), 0, float("nan"))]
    + [("action_dimensions", each) for each in ("xyz", 7, [1, 2], {"x": 1})],
)
def test_a_rate_or_layout_that_is_none_is_refused_not_passed_over(key, value):
    with policy_server(lambda _: {}, {key: value}) as url, pytest.raises(BadDataError, match=f"(?s){key}.*leave") as e:
        openpi("mine", OpenpiServer(url))
    assert url in str(e.value)


def test_all_that_decides_a_servers_answers_is_its_identity_and_waits_are_not():
    def identity(**settings):
        return openpi("mine", OpenpiServer(url, **settings)).identity

    with policy_server(lambda _: {}, {"b": {"d": 1, "c": np.arange(2)}, "a": 1}) as url:
        first = identity()
        assert identity(answer_seconds=3.0, connect_seconds=4.0) == first
        states = [{"state": np.arange(5000) * (np.arange(5000) != n)} for n in (2000, 2500)]
        changes = [{"image": "cam"}, {"prompt": "text"}, {"actions_used": 2}, *({"extra": each} for each in states)]
        assert len({first, *(identity(**each) for each in changes)}) == 6
    assert _identity(OpenpiServer(url), {"a": 1, "b": {"c": np.arange(2), "d": 1}}) == first
    assert _identity(OpenpiServer(url), {"a": 2, "b": {"c": np.arange(2), "d": 1}}) != first


def test_a_servers_own_text_cannot_steer_the_screen():
    with policy_server(lambda _: "no\x1b[2J\x07memory\r\nline 2") as url, pytest.raises(BadDataError) as error:
        asked(url)
    assert "memory" in str(error.value) and "line 2" in str(error.value)
    assert not set("\x1b\x07\r") & set(str(error.value))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"action": 1}, "without a chunk of actions"),
        ({"actions": "up"}, "without a chunk"),
        ({"actions": np.zeros(7)}, r"float64 \(7,\)"),
        ({"actions": np.zeros((0, 7))}, r"\(0, 7\)"),
        ({"actions": np.zeros((1001, 7))}, "<= 1000"),
        ([1, 2], "no mapping"),
        (b"\xc1", "not a message"),
        (packed({"actions": OBJECTS}), "plain numbers"),
        ("Traceback: CUDA out of memory", "CUDA out of memory"),
    ],
)  # fmt: skip
def test_a_malformed_answer_is_named_with_the_servers_address(answer, said):
    with policy_server(lambda _: answer) as url, pytest.raises(BadDataError, match=said) as error:
        asked(url)
    assert url in str(error.value)


def test_metadata_that_are_none_are_refused():
    with policy_server(lambda _: {}, first=packed([1])) as url, pytest.raises(BadDataError, match="metadata"):
        asked(url)


def test_a_slow_server_is_given_up_after_the_limit():
    def infer(_):
        time.sleep(3)
        return {"actions": np.zeros((1, 7))}

    with policy_server(infer) as url:
        began = time.monotonic()
        with pytest.raises(WorkerLostError, match=r"(?s)no answer in time.*0\.3 s.*answer-seconds"):
            asked(url, answer_seconds=0.3)
        assert time.monotonic() - began < 2.5


@contextlib.contextmanager
def deaf_server(then=(), reads=False):
    """The address of one that says its metadata, an empty mapping, and never reads a byte behind the handshake. It
    says `then` in small doses, as long as anybody listens. `reads`: it is not deaf after all."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with listening.accept()[0] as connection:
                head = connection.recv(4096).decode()
                key = re.search(r"Sec-WebSocket-Key: (\S+)", head)[1]
                digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
                said = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                said += f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}\r\n\r\n"
                connection.sendall(said.encode() + b"\x82\x01\x80")
                with contextlib.suppress(OSError):
                    for each in itertools.takewhile(lambda _: not done.wait(0.01), then):
                        connection.sendall(each)
                        if reads:
                            connection.recv(2**20)
                done.wait(60)

        threading.Thread(target=serve, daemon=True).start()
        yield f"ws://127.0.0.1:{listening.getsockname()[1]}"
        done.set()


def test_a_server_that_never_reads_is_given_up_after_the_limit():
    """An observation that fits into no buffer would wait for good."""
    with deaf_server() as url:
        policy = openpi("mine", OpenpiServer(url, extra={"state": np.zeros(2**22)}, answer_seconds=0.5))
        actor, began = policy.begin([Beginning(0, 0, IMAGE, "")]), time.monotonic()
        with pytest.raises(WorkerLostError, match=r"(?s)took no observation in time.*0\.5 s.*answer-seconds") as error:
            actor.act([SEEN], [0])
        assert url in str(error.value) and time.monotonic() - began < 30


EMPTY = {  # frames without a payload, of which any number fits into a limit of bytes
    "fragments": b"\x00\x00",
    "pongs": b"\x8a\x00",
    "pings": b"\x89\x00",
    "pings between fragments": b"\x00\x00\x89\x00",
}


@pytest.mark.parametrize("kind", EMPTY)
def test_a_flood_of_empty_frames_is_refused_by_their_number_not_by_the_clock(kind):
    """Behind the first fragment of a message that never ends."""
    dose = EMPTY[kind] * 300
    doses = itertools.chain([b"\x02\x00" + dose], itertools.repeat(dose))
    with deaf_server(doses, reads="pings" in kind) as url:
        connection = Connection(OpenpiServer(url, answer_seconds=300.0))
        with pytest.raises(BeyondLimitError, match=r"(?s)too many frames.*found: +more than 2000.*remedy") as error:
            connection._received("answer", 300.0)
        connection.close()
    assert url in str(error.value)


def test_the_end_of_a_connection_waits_for_nobody(monkeypatch):
    """Its thread may hold the library's lock while it answers pings of a server that never reads."""
    with deaf_server() as url:
        connection, ended = Connection(OpenpiServer(url)), threading.Event()
        with connection._socket.protocol_mutex:
            monkeypatch.setattr("whale.policies.openpi.CLOSE_SECONDS", 0.1)
            threading.Thread(target=lambda: (connection.close(), ended.set()), daemon=True).start()
            connection._socket.socket.settimeout(30)  # the server itself ends after 60
            assert connection._socket.socket.recv(1) == b""  # it is shut
        assert ended.wait(30)


def test_a_message_in_as_many_fragments_as_are_allowed_is_read():
    whole = packed({"actions": np.ones((1, 7))})
    parts = [whole[:9], *[b""] * (MESSAGE_FRAMES - 3), whole[9:]]  # and the empty one that ends it

    with policy_server(lambda _: iter(parts)) as url:
        (first, second) = asked(url, [SEEN, SEEN])
    assert (first == 1).all() and (second == 1).all()


def test_metadata_in_a_thousand_lists_are_refused_before_anything_walks_through_them():
    deep = b"\x81\xa1a" + b"\x91" * 900 + b"\x00"
    with policy_server(lambda _: {}, first=deep) as url, pytest.raises(BadDataError, match="too deep") as error:
        openpi("mine", OpenpiServer(url))
    assert url in str(error.value)


def test_a_server_that_says_nothing_at_first_is_given_up_too():
    with policy_server(lambda _: {}, asleep=2.0) as url, pytest.raises(WorkerLostError, match="no metadata in time"):
        asked(url, connect_seconds=0.3)


def test_a_server_that_dies_between_two_answers_is_named_with_what_to_do():
    calls = []

    def infer(_):
        calls.append(1)
        if len(calls) == 2:
            raise ConnectionError
        return {"actions": np.zeros((1, 7))}

    with policy_server(infer) as url, pytest.raises(WorkerLostError, match=r"(?s)ended the connection.*are kept"):
        asked(url, [SEEN, SEEN])


def test_a_port_nobody_listens_on_and_one_that_speaks_something_else():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(MissingInputError, match="no policy server answers"):
            asked(url, connect_seconds=0.5)
        taken.listen()  # accepts, and never says a word
        with pytest.raises(MissingInputError, match="no policy server answers"):
            asked(url, connect_seconds=0.5)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "127.0.0.1:1", "ws://", "file:///etc/passwd"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ConfigError, match="address of a policy server"):
        OpenpiServer(url)


def test_frames_leave_this_machine_only_if_that_is_said():
    for url in ("ws://192.0.2.7:8000", "ws://example.org:8000", "ws://127.0.0.1.example.org:1"):
        with pytest.raises(ConfigError, match="leave this machine"):
            OpenpiServer(url)
        assert OpenpiServer(url, allow_remote=True).url == url
    assert OpenpiServer("ws://[::1]:8000") and OpenpiServer("ws://localhost:8000")


def test_openpis_own_client_understands_the_loopback_server_that_these_tests_use():
    client = pytest.importorskip("openpi_client.websocket_client_policy", reason="openpi-client pins numpy<2")
    with policy_server(lambda o: {"actions": o["observation/image"][0].astype(np.float32)}, {"model": "x"}) as url:
        stock = client.WebsocketClientPolicy(url)
        assert stock.get_server_metadata() == {"model": "x"}
        answer = stock.infer({"observation/image": IMAGE, "prompt": "x"})["actions"]
        assert np.array_equal(answer, IMAGE[0].astype(np.float32))
