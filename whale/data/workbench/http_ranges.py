"""HTTP for downloads: a range at a time, never more in memory than was asked for, never another host than was named.

A client library reads an answer whole, follows a redirect wherever it leads and prints the address with its password.
Here an answer is read to our limit; a redirect may change the path, or http to https, and nothing else.
"""

import base64
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import Any
from urllib.parse import SplitResult, unquote, urljoin, urlsplit, urlunsplit

from whale.common.errors import RefusedError
from whale.common.limits import REDIRECTS, REPLY_BYTES, REPLY_SECONDS
from whale.common.printable import without_secrets

PORTS = {"http": 80, "https": 443}
RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")


def is_http(uri: str) -> bool:
    return urlsplit(uri).scheme.lower() in PORTS


def read_from(uri: str, start: int, size: int, chunk: int) -> Iterator[bytes]:
    """The bytes from `start` to `size` - 1, asked for `chunk` by `chunk`, at most REPLY_BYTES of them in memory.

    Ends early where the other side does. A server that knows no ranges is read once, and what is there already is
    thrown away piece by piece. Raises RefusedError for a redirect elsewhere and for another range than was asked for;
    OSError for what a further try may mend.
    """
    while start < size:
        stop = min(start + chunk, size)
        with _answer(uri, {"Range": f"bytes={start}-{stop - 1}"}) as answer:
            begins = _begins_at(uri, answer, start)
            for data in _pieces(answer, start - begins, (stop if answer.status == 206 else size) - start):
                yield data
                start += len(data)
            if start < stop:
                return


def _pieces(answer: HTTPResponse, skipped: int, left: int) -> Iterator[bytes]:
    """`left` bytes behind the first `skipped`, or as many as come."""
    while left:
        data = answer.read(min(REPLY_BYTES, skipped + left))
        if not data:
            return
        ahead = min(skipped, len(data))
        skipped, left = skipped - ahead, left - len(data) + ahead
        if len(data) > ahead:
            yield data[ahead:]


def _begins_at(uri: str, answer: HTTPResponse, start: int) -> int:
    if answer.status != 206:
        return 0
    said = str(answer.headers.get("Content-Range"))[:100]
    match = RANGE.fullmatch(said.strip())
    if match is None or int(match[1]) != start:
        raise RefusedError("an answer with another range", file=without_secrets(uri), found=said,
                           expected=f"bytes {start}-")  # fmt: skip
    return start


@contextmanager
def _answer(uri: str, headers: dict[str, str]) -> Iterator[HTTPResponse]:
    here, given = _without_user(uri)
    for _ in range(REDIRECTS + 1):
        request = urllib.request.Request(here, headers=headers | given | {"Accept-Encoding": "identity"})
        try:
            with _OPENER.open(request, timeout=REPLY_SECONDS) as answer:
                yield answer
                return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code not in (301, 302, 303, 307, 308):
                raise
            here = _followed(here, error.headers.get("Location", ""))
    raise RefusedError("too many redirects", file=without_secrets(uri), expected=f"<= {REDIRECTS}")


def _followed(here: str, location: str) -> str:
    target = urljoin(here, location)
    old, new = urlsplit(here), urlsplit(target)
    upgraded = (old.scheme, new.scheme) == ("http", "https") and _port(old) == 80 and _port(new) == 443
    if new.username or new.hostname != old.hostname or (not upgraded and _origin(old) != _origin(new)):
        raise RefusedError("a redirect to another place", file=without_secrets(here),
                           found=without_secrets(target)[:300], expected=f"the same host and port: {_origin(old)}",
                           remedy="name the address that holds the files")  # fmt: skip
    return target


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, _port(parts)


def _port(parts: SplitResult) -> int | None:
    return parts.port or PORTS.get(parts.scheme)


def _without_user(uri: str) -> tuple[str, dict[str, str]]:
    """The address, and the header that its user and password make."""
    parts = urlsplit(uri)
    if parts.username is None:
        return uri, {}
    secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    address = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=address)), {
        "Authorization": f"Basic {base64.b64encode(secret.encode()).decode()}"
    }


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """The answer itself is looked at instead."""


# No handler of files, of ftp, of data: addresses.
_OPENER = urllib.request.OpenerDirector()
for _handler in (urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler,
                 urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPErrorProcessor, _NoRedirect):  # fmt: skip
    _OPENER.add_handler(_handler())
