"""One POST to an OpenAI-compatible endpoint, which is not trusted: bounded in time and bytes, and never led elsewhere.

A redirect is an error, no proxy is used, nothing is decompressed, and the address comes from the judge's own file only.
"""

import http.client
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from whale.common.config import Config, is_loopback
from whale.common.errors import BadDataError, ConfigError, RefusedError
from whale.common.json_files import parse_json
from whale.common.limits import (
    JUDGE_MOST_REPLY_BYTES,
    JUDGE_MOST_SECONDS,
    JUDGE_REPLY_BYTES,
    JUDGE_RETRIES,
    JUDGE_SECONDS,
    JUDGE_SHOWN_BYTES,
)
from whale.common.printable import one_line

CHUNK, SHOWN = 64 * 1024, 200  # bytes read at once, characters of a reply in an error
BUSY = {408, 409, 425, 429, 500, 502, 503, 504, 529}  # statuses after which asking again may help


class EndpointConfig(Config):
    """`key_env`: the environment's variable that holds the key, null for a server without one."""

    url: str
    model: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$")
    key_env: str | None = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    timeout_s: float = Field(default=JUDGE_SECONDS, gt=0, le=JUDGE_MOST_SECONDS)
    retries: int = Field(default=4, ge=0, le=JUDGE_RETRIES)
    backoff_s: float = Field(default=1.0, ge=0, le=60)
    max_wait_s: float = Field(default=60.0, ge=0, le=JUDGE_MOST_SECONDS)
    max_reply_bytes: int = Field(default=JUDGE_REPLY_BYTES, ge=1024, le=JUDGE_MOST_REPLY_BYTES)

    @field_validator("url")
    @classmethod
    def _is_safe(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("https", "http") or not parts.hostname or parts.username is not None or parts.fragment:
            raise ValueError("https://HOST/.../chat/completions, without a user or key in it")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ValueError("http only on this machine (127.0.0.1, localhost); a key needs https")
        if not all(33 <= ord(each) < 127 for each in url) or (parts.port or 1) < 1:
            raise ValueError("visible ASCII characters only")
        return url

    def key(self) -> str | None:
        """From the environment; ConfigError names the variable, never its value."""
        if self.key_env is None:
            return None
        key = os.environ.get(self.key_env, "").strip()
        if not key or not all(33 <= ord(each) < 127 for each in key):
            raise ConfigError("the judge's key is not in the environment", place=f"${self.key_env}",
                              found="nothing" if not key else "characters that no key has",
                              remedy=f"export {self.key_env}=...")  # fmt: skip
        return key


class Trouble(Exception):
    """No usable reply. `silent`: nobody answered, so asking for other pairs is of no use either; `wait`: as told."""

    def __init__(self, what: str, silent: bool, wait: float | None = None):
        super().__init__(what)
        self.silent, self.wait = silent, wait


def post(config: EndpointConfig, key: str | None, payload: bytes) -> Any:
    """The JSON of a reply with status 200.

    Raises Trouble for what may pass, RefusedError for what will not: a redirect, a wrong key, a request that the
    server does not take.
    """
    parts = urlsplit(config.url)
    deadline = time.monotonic() + config.timeout_s
    connection = http.client.HTTPConnection(str(parts.hostname), _port(config.url), timeout=config.timeout_s)
    headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
    headers |= {} if key is None else {"Authorization": f"Bearer {key}"}
    target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    try:
        connection.connect()
        open_sockets = [connection.sock]
        with _ended_at(open_sockets, deadline):
            if parts.scheme == "https":
                _secure(connection, open_sockets)
            connection.request("POST", target, body=payload, headers=headers | {"Connection": "close"})
            response = connection.getresponse()
            body = _bounded(response, config.max_reply_bytes)
    except ssl.SSLCertVerificationError as error:
        what = "the judge's certificate is not valid"
        raise RefusedError(what, file=config.url, found=error.verify_message) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Trouble(f"no whole reply within {config.timeout_s:g} s ({type(error).__name__})", silent=True) from None
    finally:
        connection.close()
    return _judged(config, key, response, body)


def _judged(config: EndpointConfig, key: str | None, response: http.client.HTTPResponse, body: bytes) -> Any:
    status, shown = response.status, _shown(body, key)
    if status in BUSY:
        raise Trouble(f"status {status}: {shown}", silent=True, wait=_wait(response.getheader("Retry-After")))
    if 300 <= status < 400:
        raise RefusedError("the judge's server leads elsewhere; a redirect is not followed", file=config.url,
                           found=f"status {status}", remedy="name the final address in the judge's file")  # fmt: skip
    if status != 200:
        remedy = "look at the key and the model's name" if status in (401, 403, 404) else None
        raise RefusedError("the judge's server refuses", file=config.url, found=f"status {status}: {shown}",
                           remedy=remedy)  # fmt: skip
    if response.getheader("Content-Encoding", "identity") != "identity":
        raise Trouble("a compressed reply, which nobody asked for", silent=False)
    try:
        return parse_json(body, config.url)
    except BadDataError:
        raise Trouble(f"not JSON: {shown}", silent=False) from None


def _bounded(response: http.client.HTTPResponse, most: int) -> bytes:
    """The whole body, or Trouble where it is larger or ends before its announced length."""
    body = bytearray()
    while piece := response.read1(CHUNK):
        body += piece
        if len(body) > most:
            raise Trouble(f"a reply of more than {most} bytes", silent=False)
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    return bytes(body)


@contextmanager
def _ended_at(sockets: list[socket.socket], deadline: float) -> Iterator[None]:
    """The last of the sockets ends at the deadline, however slowly bytes trickle in: its timeout begins with each."""

    def end() -> None:
        with suppress(OSError):
            socket.socket.shutdown(sockets[-1], socket.SHUT_RDWR)  # SSLSocket's changes what the reader holds

    timer = threading.Timer(max(deadline - time.monotonic(), 0.0), end)
    timer.daemon = True
    timer.start()
    try:
        yield
        if time.monotonic() >= deadline:  # what ended the body may have been the timer
            raise TimeoutError
    finally:
        timer.cancel()


def _secure(connection: http.client.HTTPConnection, open_sockets: list[socket.socket]) -> None:
    """TLS over an open connection; the handshake is a step of its own, so that the deadline can end it."""
    context = ssl.create_default_context()
    sock = context.wrap_socket(connection.sock, server_hostname=connection.host, do_handshake_on_connect=False)
    open_sockets.append(sock)
    connection.sock = sock
    sock.do_handshake()


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def _wait(told: str | None) -> float | None:
    return float(told) if told is not None and told.isascii() and told.isdigit() and len(told) < 6 else None


def _shown(body: bytes, key: str | None) -> str:
    """The beginning of a foreign text, printable, without the key where a server sends it back."""
    text = body[:JUDGE_SHOWN_BYTES].decode("utf-8", "replace")
    text = text if key is None else text.replace(key, "<key>")
    return str(one_line(text))[:SHOWN]
