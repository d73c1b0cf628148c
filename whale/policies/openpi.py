"""A policy behind a server that speaks openpi's websocket protocol: metadata first, then one answer per observation.

The stock client pins numpy below 2 and cannot be installed beside this project, so these are the same messages on the
packages `websockets` and `msgpack` (extra `policies`). Every wait has a limit. Only loopback unless `allow_remote`.
"""

import hashlib
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from whale.common.config import is_loopback
from whale.common.errors import BadDataError, BeyondLimitError, ConfigError, MissingInputError, WorkerLostError
from whale.common.limits import (
    ANSWER_SECONDS,
    CHUNK_ACTIONS,
    CLOSE_SECONDS,
    CONNECT_SECONDS,
    MESSAGE_BYTES,
    MESSAGE_FRAMES,
    MESSAGES_WAITING,
    SERVER_TEXT_CHARACTERS,
)
from whale.common.printable import shown
from whale.policies.messages import pack, unpack
from whale.policies.protocol import Beginning, Contender, Observation

WAITS = ("connect_seconds", "answer_seconds")  # settings that decide no action


@dataclass(frozen=True)
class OpenpiServer:
    """Where it listens and what it is told. `image`, `prompt`: names of the observation's parts; `extra`: more of them,
    constant. `actions_used`: how many of a chunk are carried out before it is asked again (None: all)."""

    url: str
    image: str = "observation/image"
    prompt: str = "prompt"
    extra: Mapping[str, Any] = field(default_factory=dict)
    actions_used: int | None = None
    connect_seconds: float = CONNECT_SECONDS
    answer_seconds: float = ANSWER_SECONDS
    allow_remote: bool = False

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise ConfigError("not the address of a policy server", place="url", found=self.url,
                              expected="ws://HOST:PORT")  # fmt: skip
        if not self.allow_remote and not is_loopback(parts.hostname):
            raise ConfigError("frames would leave this machine", place="url", found=self.url,
                              expected="ws://127.0.0.1:PORT", remedy="say --allow-remote if you mean it")  # fmt: skip


def _counting() -> Any:
    """The websocket, which ends where more than MESSAGE_FRAMES frames come before a message is whole.

    MESSAGE_BYTES counts no frame without a payload. `websockets` 17 counts fragments, earlier ones do not, and no
    version counts pings, each of which it answers: so every frame counts, where the library hands them over.
    """
    from websockets.frames import DATA_OPCODES, Frame
    from websockets.sync.client import ClientConnection

    class Counting(ClientConnection):
        frames, is_flooded = 0, False

        def process_event(self, event: Any) -> None:
            if isinstance(event, Frame):
                self.frames += 1
                self.is_flooded = self.is_flooded or self.frames > MESSAGE_FRAMES
                if event.fin and event.opcode in DATA_OPCODES:
                    self.frames = 0
            if not self.is_flooded:
                super().process_event(event)
                return
            with suppress(OSError):  # whoever waits for a message is woken by the end
                self.socket.shutdown(socket.SHUT_RDWR)

    return Counting


class Connection:
    """One connection. `metadata`: what the server said of itself."""

    def __init__(self, server: OpenpiServer):
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect

        self.server = server
        try:
            self._socket: Any = connect(
                server.url, compression=None, max_size=MESSAGE_BYTES, max_queue=MESSAGES_WAITING,
                create_connection=_counting(),
                open_timeout=server.connect_seconds, close_timeout=CLOSE_SECONDS, ping_interval=None, proxy=None,
            )  # fmt: skip
        except (OSError, TimeoutError, WebSocketException, ValueError, EOFError) as error:
            raise MissingInputError(
                "no policy server answers", file=server.url, found=f"{type(error).__name__}: {error}"[:200],
                expected=f"a websocket within {server.connect_seconds:g} s",
                remedy="start the server first; what was evaluated already is kept",
            ) from None  # fmt: skip
        try:
            found = self._received("metadata", server.connect_seconds)
            if not isinstance(found, dict):
                raise BadDataError("a server's metadata are no mapping", file=server.url, found=type(found).__name__)
        except BaseException:
            self.close()
            raise
        self.metadata: dict[Any, Any] = found

    def infer(self, observation: Mapping[str, Any]) -> dict[Any, Any]:
        """The server's answer; WorkerLostError if it ends or is too slow, BadDataError for another kind of answer,
        BeyondLimitError for one that is too large, of too many values or in too many frames."""
        from websockets.exceptions import WebSocketException

        payload, seconds = pack(dict(observation)), self.server.answer_seconds
        with self._ended_after(seconds) as is_late:
            try:
                self._socket.send(payload)
            except (OSError, WebSocketException) as error:
                if is_late.is_set():
                    raise self._slow("took no observation", seconds) from None
                raise self._lost(error) from None
        answer = self._received("answer", self.server.answer_seconds)
        if not isinstance(answer, dict):
            raise BadDataError("an answer is no mapping", file=self.server.url, found=type(answer).__name__,
                               expected="{'actions': array}")  # fmt: skip
        return answer

    def close(self) -> None:
        """At most CLOSE_SECONDS, twice: a thread that answers pings of a server that never reads holds the lock."""
        with self._ended_after(CLOSE_SECONDS):
            self._socket.close()

    def _received(self, what: str, seconds: float) -> Any:
        from websockets.exceptions import WebSocketException

        try:
            message = self._socket.recv(timeout=seconds)
        except TimeoutError:
            raise self._slow(f"sent no {what}", seconds) from None
        except (OSError, WebSocketException, EOFError) as error:
            raise self._lost(error) from None
        if isinstance(message, str):  # openpi's servers send the trace of an error as text
            raise BadDataError("the policy server reports an error", file=self.server.url,
                               found=message[-SERVER_TEXT_CHARACTERS:])  # fmt: skip
        return unpack(message, self.server.url)

    @contextmanager
    def _ended_after(self, seconds: float) -> Iterator[threading.Event]:
        """A websocket's `send` knows no time limit, and a server that never reads would hold it for good."""
        is_late = threading.Event()

        def end() -> None:
            is_late.set()
            with suppress(OSError):
                self._socket.socket.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield is_late
        finally:
            timer.cancel()

    def _slow(self, what: str, seconds: float) -> WorkerLostError:
        return WorkerLostError(
            f"the policy server {what} in time", file=self.server.url, found=f"nothing for {seconds:g} s",
            remedy="look at the server, or raise the limit (--answer-seconds)",
        )  # fmt: skip

    def _lost(self, error: Exception) -> WorkerLostError | BeyondLimitError:
        if self._socket.is_flooded:
            return BeyondLimitError(
                "a message in too many frames", file=self.server.url,
                found=f"more than {MESSAGE_FRAMES} frames before it was whole, fragments and pings",
                expected=f"<= {MESSAGE_FRAMES} frames", remedy="let the server send a message in one frame",
            )  # fmt: skip
        return WorkerLostError(
            "the policy server ended the connection", file=self.server.url,
            found=f"{type(error).__name__}: {error}"[:200],
            remedy="start it again and repeat the command: finished policies are kept",
        )  # fmt: skip


class _OpenpiActor:
    """One connection for all episodes: openpi's policies remember nothing between observations."""

    def __init__(self, connection: Connection):
        self.connection = connection

    def act(self, observations: Sequence[Observation], rows: Sequence[int]) -> list[np.ndarray]:
        return [self._actions(each) for each in observations]

    def _actions(self, observation: Observation) -> np.ndarray:
        server = self.connection.server
        asked = {server.image: observation.image, server.prompt: observation.instruction, **server.extra}
        answer = self.connection.infer(asked)
        actions = answer.get("actions", answer.get(b"actions"))
        if not isinstance(actions, np.ndarray) or actions.ndim != 2 or not 1 <= len(actions) <= CHUNK_ACTIONS:
            found = f"{actions.dtype} {actions.shape}" if isinstance(actions, np.ndarray) else type(actions).__name__
            raise BadDataError("an answer without a chunk of actions", file=server.url, place="actions", found=found,
                               expected=f"an array [k, A], 1 <= k <= {CHUNK_ACTIONS}")  # fmt: skip
        return np.asarray(actions[: server.actions_used], np.float64)


def openpi(name: str, server: OpenpiServer) -> Contender:
    """A contender that asks the server; connected to now, so that a wrong address is found before anything else runs.

    `control_hz` and `action_dimensions` of its metadata, if it says them, are compared with the action contract. Its
    identity: all settings but the waits, and all metadata. What a server does not say of itself is not known.
    """
    connection = Connection(server)
    try:
        hz, names = _rate(connection), _dimensions(connection)
    except BaseException:
        connection.close()
        raise

    def begin(beginnings: Sequence[Beginning]) -> _OpenpiActor:
        return _OpenpiActor(connection)

    return Contender(
        name, begin, identity=_identity(server, connection.metadata), control_hz=hz, action_dimensions=names
    )


def _identity(server: OpenpiServer, metadata: Mapping[Any, Any]) -> str:
    settings = {each.name: getattr(server, each.name) for each in fields(server) if each.name not in WAITS}
    return f"openpi {hashlib.sha256(_canonical([settings, metadata])).hexdigest()}"


def _canonical(value: Any) -> bytes:
    """Bytes that are equal for equal values, in whatever order a mapping holds them."""
    if isinstance(value, Mapping):
        rows = sorted((_canonical(key), _canonical(each)) for key, each in value.items())
        return b"{%s}" % b",".join(b"%d:%s%d:%s" % (len(key), key, len(each), each) for key, each in rows)
    if isinstance(value, list | tuple):
        parts = [_canonical(each) for each in value]
        return b"[%s]" % b",".join(b"%d:%s" % (len(each), each) for each in parts)
    if isinstance(value, np.ndarray):
        return f"{value.dtype.str}{value.shape}".encode() + value.tobytes()
    return repr(value).encode()


def _said(connection: Connection, key: str) -> Any:
    """Of the metadata; some servers send keys as bytes. None: nothing is said."""
    return connection.metadata.get(key, connection.metadata.get(key.encode()))


def _rate(connection: Connection) -> float | None:
    found = _said(connection, "control_hz")
    if found is None:
        return None
    number = np.asarray(found) if isinstance(found, int | float | np.generic | np.ndarray) else np.asarray("")
    if number.shape or number.dtype.kind not in "iuf" or not 0 < float(number) < np.inf:
        raise _no("a rate", "control_hz", connection, found, "a number of Hz above 0")
    return float(number)


def _dimensions(connection: Connection) -> tuple[str, ...] | None:
    found = _said(connection, "action_dimensions")
    if found is None:
        return None
    if not isinstance(found, list | tuple) or not all(isinstance(each, str | bytes) for each in found):
        raise _no("names of dimensions", "action_dimensions", connection, found, "a list of names")
    return tuple(each.decode("utf-8", "replace") if isinstance(each, bytes) else each for each in found)


def _no(what: str, key: str, connection: Connection, found: Any, expected: str) -> BadDataError:
    return BadDataError(
        f"a server's metadata do not say {what}", file=connection.server.url, place=key,
        found=shown(found), expected=expected, remedy="mend the server's metadata, or leave the key out",
    )  # fmt: skip
