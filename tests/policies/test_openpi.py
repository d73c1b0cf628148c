"""A policy behind a server: right numbers; and a server that lies, sleeps or dies gives one clear error, in time."""

import socket
import time

import numpy as np
import pytest
from openpi_loopback import packed, policy_server

from whale.common.errors import BadDataError, ConfigError, MissingInputError, WorkerLostError
from whale.policies.openpi import OpenpiServer, openpi
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
