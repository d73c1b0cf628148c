"""A small policy server on loopback that speaks openpi's messages, written from its protocol, not from our client.

Metadata as the first message, then for each observation one answer: {"actions": [k, A]}, or the text of an error.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import msgpack
import numpy as np
from websockets.sync.server import serve


def packed(value) -> bytes:
    def default(found):
        if isinstance(found, np.ndarray):
            return {b"__ndarray__": True, b"data": found.tobytes(), b"dtype": found.dtype.str, b"shape": found.shape}
        return {b"__npgeneric__": True, b"data": found.item(), b"dtype": found.dtype.str}

    return msgpack.packb(value, default=default)


def unpacked(payload: bytes):
    def hook(found):
        if b"__ndarray__" in found:
            return np.ndarray(buffer=found[b"data"], dtype=found[b"dtype"], shape=found[b"shape"])
        return found

    return msgpack.unpackb(payload, object_hook=hook)


@contextlib.contextmanager
def policy_server(
    infer: Callable[[dict], object], metadata: object = None, first: bytes | str | None = None, asleep: float = 0.0
) -> Iterator[str]:
    """The address of a server. `infer` returns a value to be packed, bytes or text to be sent as they are, fragments of
    bytes as an iterator, or raises ConnectionError to end the connection. `first`: sent in place of the metadata."""

    def handle(connection) -> None:
        time.sleep(asleep)
        connection.send(first if first is not None else packed(metadata or {}))
        for message in connection:
            try:
                answer = infer(unpacked(message))
            except ConnectionError:
                connection.socket.close()
                return
            connection.send(answer if isinstance(answer, bytes | str | Iterator) else packed(answer))

    with serve(handle, "127.0.0.1", 0, compression=None, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join(5)
