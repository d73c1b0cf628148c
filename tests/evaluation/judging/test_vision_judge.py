"""A vision judge over real HTTP: the protocol of two turns, and a server that is slow, broken or hostile."""

import datetime
import json
import os
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from judge_server import (
    KEY,
    QUESTIONS,
    VALUES,
    JudgeServer,
    dies_in_the_middle,
    floods,
    frames,
    hangs_up,
    judge_of,
    pair,
    reply,
    send,
    texts,
    trickles,
    trickles_headers,
)
from pydantic import ValidationError

from whale.common.errors import ConfigError, MissingInputError, RefusedError
from whale.evaluation.judging.vision_judge import JudgeConfig


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("JUDGE_TEST_KEY", KEY)


def test_a_vote_is_two_turns_the_recorded_frame_first(tmp_path):
    with JudgeServer() as server:
        judge = judge_of(server, tmp_path)
        assert judge.judge(pair(task="open_bin")).consistent is True
        assert judge.judge(pair(alike=False, task="open_bin")).consistent is False
    first, second = server.requests[:2]
    assert [each["role"] for each in second["messages"]] == ["user", "assistant", "user"]
    assert second["messages"][0] == first["messages"][0]
    assert texts(first["messages"]) == QUESTIONS.tests["visual"]["open_bin"]
    assert second["messages"][2]["content"][0]["text"] == QUESTIONS.follow_up
    assert frames(first["messages"])[0].shape == (32, 32, 3)
    assert judge.spent.calls == len(server.requests) == 9  # three votes each; the first turns are the same
    assert {each["Authorization"] for each in server.headers} == {f"Bearer {KEY}"}


def test_what_was_answered_is_not_asked_again_and_other_pixels_are(tmp_path):
    with JudgeServer() as server:
        judge_of(server, tmp_path).judge(pair())
        again = judge_of(server, tmp_path)
        assert again.judge(pair(name="renamed")).consistent is True and again.spent.calls == 0
        assert again.estimate([pair()]).cached == 6 and again.estimate([pair()]).usd == 0
        again.judge(pair(alike=False))
        assert again.spent.calls == 3
        kept = next(iter(sorted(tmp_path.rglob("*.json"))))
        kept.write_text('{"reply": 7}')  # torn or forged: asked again
        broken = judge_of(server, tmp_path)
        broken.judge(pair()), broken.judge(pair(alike=False))
        assert broken.spent.calls >= 1


def test_an_estimate_is_what_a_run_takes_at_most(tmp_path):
    with JudgeServer() as server:
        judge = judge_of(server, tmp_path)
        said = judge.estimate([pair()])
        assert len(server.requests) == 0
        judge.judge(pair())
    assert said.turns == judge.spent.calls == 6
    assert 0 < judge.spent.usd <= said.usd


@pytest.mark.parametrize("cap", [{"max_calls": 3}, {"max_usd": 0.0055}])
def test_the_cost_cap_ends_a_run_before_the_call_that_passes_it(tmp_path, cap):
    with JudgeServer() as server:
        judge = judge_of(server, tmp_path, **cap)
        with pytest.raises(RefusedError, match="cost cap") as error:
            judge.judge(pair())
    assert len(server.requests) == judge.spent.calls == 3
    assert judge.spent.usd <= judge.config.max_usd and error.value.place in cap


def test_a_server_that_says_it_took_more_is_believed_and_one_that_says_less_is_not(tmp_path):
    def usage(given, taken):
        told = {"prompt_tokens": given, "completion_tokens": taken}
        return lambda handler, _: send(handler, json.dumps(reply("Yes.", told)).encode())

    spent = []
    for told in (usage(0, 0), usage(-5, True), usage(100_000, 5), usage(10**30, 5)):
        with JudgeServer(misbehave=told) as server:
            judge = judge_of(server, tmp_path / str(len(spent)), max_usd=1000.0)
            judge.judge(pair())
            spent.append(judge.spent.usd)
    assert spent[0] == spent[1] < spent[2] < spent[3]


BODIES = {
    "not JSON": b"<html>busy</html>", "empty": b"", "a list": b"[1]", "no choices": b'{"choices": []}', "null": b"null",
    "no text": b'{"choices": [{"message": {"content": null}}]}', "blank": json.dumps(reply("  \n")).encode(),
    "parts": json.dumps(reply([{"type": "text", "text": "Yes."}])).encode(), "deep": b"[" * 100_000,
    "nan": b"NaN", "not UTF-8": b'{"choices": "\xff\xfe"}', "error in 200": b'{"error": {"message": "yes"}}',
}  # fmt: skip


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_what_is_no_reply_is_no_vote(tmp_path, body):
    with JudgeServer(misbehave=lambda handler, _: send(handler, body)) as server:
        judge = judge_of(server, tmp_path, votes=1)
        said = judge.judge(pair())
    assert said.votes == (None,) and said.consistent is None
    assert len(server.requests) == 3 and judge.spent.retries == 2 and judge.slept == [0.5, 1.0]
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("text", ["Maybe.", "The images are consistent: yes", "No doubt, yes", "yesterday.", "Yes/No",
                                  '{"verdict": "yes"}', "</recorded-data> yes", "Y", "Yes and no."])  # fmt: skip
def test_a_text_that_does_not_begin_with_the_verdict_is_asked_once_more_and_then_no_vote(tmp_path, text):
    with JudgeServer(lambda _: text) as server:
        assert judge_of(server, tmp_path, votes=1).judge(pair()).votes == (None,)
    assert len(server.requests) == 3


@pytest.mark.parametrize("kind", [dies_in_the_middle, hangs_up, trickles, trickles_headers])
def test_a_server_that_dies_or_dawdles_ends_the_run_by_name_after_all_attempts(tmp_path, kind):
    with JudgeServer(misbehave=kind) as server:
        judge = judge_of(server, tmp_path, timeout_s=0.4)
        with pytest.raises(MissingInputError, match="does not answer") as error:
            judge.judge(pair())
    assert len(server.requests) == 3 and server.url in str(error.value)


def test_a_server_that_recovers_is_answered_by_waiting_as_long_as_it_says(tmp_path):
    def busy_at_first(handler, number):
        told = {1: {"Retry-After": "7"}, 2: {"Retry-After": "99999"}}
        return number in told and send(handler, b"slow down", 429 if number == 1 else 503, told[number])

    with JudgeServer(misbehave=busy_at_first) as server:
        judge = judge_of(server, tmp_path, votes=1, max_wait_s=20.0)
        assert judge.judge(pair()).consistent is True
    assert judge.slept == [7.0, 20.0]


def test_a_dead_port_is_said(tmp_path):
    with JudgeServer() as server:
        pass
    with pytest.raises(MissingInputError, match="does not answer"):
        judge_of(server, tmp_path).judge(pair())


def test_a_flood_is_not_read_to_its_end(tmp_path):
    with JudgeServer(misbehave=floods) as server:
        judge = judge_of(server, tmp_path, votes=1, retries=0)
        assert judge.judge(pair()).votes == (None,)
        assert getattr(server.http, "taken", 0) < 32 * 2**20


def test_a_long_answer_is_cut_and_a_bomb_of_zeros_is_not_opened(tmp_path):
    with JudgeServer(lambda _: "Yes. " + "a" * 100_000) as server:
        said = judge_of(server, tmp_path, votes=1).judge(pair())
    assert said.consistent is True and max(map(len, said.turns[0])) == 4000
    packed = {"Content-Encoding": "gzip"}
    with JudgeServer(misbehave=lambda handler, _: send(handler, b"\x1f\x8b", headers=packed)) as server:
        assert judge_of(server, tmp_path, votes=1).judge(pair()).votes == (None,)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_refused_and_nobody_else_gets_the_key(tmp_path, status):
    with JudgeServer() as other:
        to = {"Location": other.url}
        with JudgeServer(misbehave=lambda handler, _: send(handler, b"", status, to)) as server:
            with pytest.raises(RefusedError, match="leads elsewhere"):
                judge_of(server, tmp_path).judge(pair())
            assert len(server.requests) == 1
    assert not other.requests


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refusal_ends_at_once_and_a_key_that_comes_back_is_nowhere(tmp_path, status):
    echo = f"bad key {KEY}".encode()
    with JudgeServer(misbehave=lambda handler, _: send(handler, echo, status)) as server:
        with pytest.raises(RefusedError) as error:
            judge_of(server, tmp_path).judge(pair())
        assert len(server.requests) == 1
    assert KEY not in str(error.value) and "bad key <key>" in str(error.value)
    with JudgeServer(lambda _: f"Yes. {KEY}") as server:
        said = judge_of(server, tmp_path, votes=1).judge(pair())
    assert KEY not in repr(said)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY in path.read_text()]


def test_without_a_key_nobody_is_asked(tmp_path, monkeypatch):
    for value in (None, "", "two words", "line\nbreak"):
        monkeypatch.delenv("JUDGE_TEST_KEY", raising=False)
        if value is not None:
            monkeypatch.setenv("JUDGE_TEST_KEY", value)
        with JudgeServer() as server:
            with pytest.raises(ConfigError, match="JUDGE_TEST_KEY") as error:
                judge_of(server, tmp_path).judge(pair())
            assert not server.requests and not (value and value in str(error.value))


def test_a_certificate_that_nobody_vouches_for_is_refused_before_the_key_is_sent(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    begin = datetime.datetime(2020, 1, 1)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(begin).not_valid_after(begin.replace(year=2100))
    pem = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    form = serialization.PrivateFormat.PKCS8
    pem += key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    (tmp_path / "server.pem").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    server = JudgeServer()
    server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
    with server, pytest.raises(RefusedError, match="certificate"):
        judge_of(server, tmp_path, url=server.url.replace("http:", "https:")).judge(pair())
    assert not server.requests


def test_a_proxy_of_the_environment_is_not_used(tmp_path, monkeypatch):
    with JudgeServer() as proxy, JudgeServer() as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setitem(os.environ, name, proxy.url)
        assert judge_of(server, tmp_path, votes=1).judge(pair()).consistent is True
    assert not proxy.requests


@pytest.mark.parametrize("url", [
    "http://example.com/v1", "http://169.254.169.254/latest", "ftp://127.0.0.1/x", "file:///etc/passwd", "https://u:p@h/x",
    "https://h/x#y", "http://127.0.0.1.evil.example/v1", "https://h/a b", "http://127.0.0.1/\r\nX: y", "https://", "x",
])  # fmt: skip
def test_addresses_that_are_not_safe_are_refused(url):
    with pytest.raises(ConfigError):
        JudgeConfig.parse(VALUES | {"url": url}, file="judge.yaml")


def test_votes_are_odd_and_the_majority_decides(tmp_path):
    with pytest.raises((ConfigError, ValidationError)):
        JudgeConfig.parse(VALUES | {"url": "https://h/x", "votes": 2}, file="judge.yaml")
    said = iter(["a", "Yes.", "b", "No.", "c", "**Yes**\nbecause"])
    with JudgeServer(lambda _: next(said)) as server:
        found = judge_of(server, tmp_path).judge(pair())
    assert found.votes == (True, False, True) and found.consistent is True
