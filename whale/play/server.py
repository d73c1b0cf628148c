"""The page's server: loopback only, and only who knows the token of this start is answered.

Other pages of the same browser can reach a loopback port, too. So every request must name this server as its host (a
foreign name that resolves to 127.0.0.1 does not), come from this page or from none, and carry the token in its path.
Nothing is loaded from elsewhere, nothing is logged.
"""

import asyncio
import hmac
import secrets
import socket
import sys
import traceback
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from whale.common.errors import BusyError, ConfigError, MissingInputError, RefusedError, WhaleError
from whale.common.limits import (
    CLOSE_SECONDS,
    REQUEST_BYTES,
    REQUEST_HEAD_BYTES,
    REQUEST_SECONDS,
    REQUESTS_AT_ONCE,
)
from whale.play.drives import Drives
from whale.play.messages import parse

LOOPBACK = "127.0.0.1"
PAGE = Path(__file__).parent / "page"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class TooLargeError(ConfigError):
    """A request with more bytes than any honest one."""


class TooSlowError(ConfigError):
    """A request that does not come to its end."""


class Guard:
    """What stands before every route. `hosts`: names that this server goes by."""

    def __init__(self, app: ASGIApp, token: str, hosts: frozenset[str]):
        self.app, self.token, self.hosts = app, token, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # there is nothing else here

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *own]}
            await send(message)

        try:
            self._require_friend(scope)
        except RefusedError as error:
            await told(error)(scope, receive, send_guarded)
            return
        await self.app(scope, receive, send_guarded)

    def _require_friend(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0] not in self.hosts:
            raise RefusedError("another host than this server", place="Host", found=", ".join(hosts)[:200] or "none",
                               expected=" or ".join(sorted(self.hosts)))  # fmt: skip
        for origin in headers.getlist("origin"):
            if origin != f"http://{hosts[0]}":
                raise RefusedError("a request of another page", place="Origin", found=origin[:200],
                                   expected=f"http://{hosts[0]}")  # fmt: skip
        site, goal = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-dest", "")
        if site not in ("none", "same-origin") and (goal != "document" or scope["method"] != "GET"):
            raise RefusedError("a request of another page", place="Sec-Fetch-Site", found=site, expected="same-origin")
        given = scope["path"].split("/")[1]
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            raise RefusedError("no token, or a wrong one", place="path",
                               expected="the address that whale play printed",
                               remedy="a token holds until the server ends: copy the newest address")  # fmt: skip


STATUS = {ConfigError: 400, RefusedError: 403, MissingInputError: 404, TooSlowError: 408, TooLargeError: 413}


def told(error: WhaleError) -> Response:
    """An error as the page reads it, its fields by name."""
    names = ("what", "place", "found", "expected", "remedy")
    fields = {name: str(getattr(error, name)) for name in names if getattr(error, name) is not None}
    status = STATUS.get(type(error), 500)
    # the rest of a body that nobody reads would hold the connection
    headers = {"connection": "close"} if isinstance(error, TooLargeError | TooSlowError) else {}
    return JSONResponse({"error": {"kind": type(error).__name__, **fields}}, status, headers)


def app_of(drives: Drives, token: str, port: int) -> ASGIApp:
    """The whole application; `port`: where it will listen."""

    async def page(request: Request) -> Response:
        asked = request.path_params.get("name") or "play.html"
        known = {path.name: path for path in PAGE.iterdir()}
        if asked not in known:
            raise MissingInputError("no such page", place="path", found=asked[:80])
        return Response(known[asked].read_bytes(), media_type=KINDS[known[asked].suffix])

    async def about(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(drives.about, request.query_params.get("dataset")))

    async def drive(request: Request) -> Response:
        kind = request.headers.get("content-type", "none")
        if kind != "application/json":
            raise ConfigError("not a request of this page", place="Content-Type", found=kind[:80],
                              expected="application/json")  # fmt: skip
        asked = parse(await _body(request))
        return JSONResponse(await run_in_threadpool(drives.answer, asked))

    async def picture(request: Request) -> Response:
        payload = await run_in_threadpool(drives.gif, request.path_params["number"])
        headers = {"content-disposition": 'attachment; filename="drive.gif"'}
        return Response(payload, media_type="image/gif", headers=headers)

    async def failed(request: Request, error: Exception) -> Response:
        if isinstance(error, WhaleError):
            return told(error)
        traceback.print_exception(error, file=sys.stderr)
        return told(WhaleError("a bug: the terminal has its traceback", found=type(error).__name__))

    routes = [
        Route("/{token}/", page),
        Route("/{token}/about", about),
        Route("/{token}/drive", drive, methods=["POST"]),
        Route("/{token}/gif/{number:int}", picture),
        Route("/{token}/page/{name}", page),
    ]
    inner = Starlette(routes=routes, exception_handlers={WhaleError: failed, Exception: failed})
    return Guard(inner, token, frozenset({f"{LOOPBACK}:{port}", f"localhost:{port}"}))


async def _body(request: Request) -> bytes:
    """Read no further and no longer than what is allowed, whatever length it claims."""
    payload = b""
    try:
        async with asyncio.timeout(REQUEST_SECONDS):
            async for part in request.stream():
                payload += part
                if len(payload) > REQUEST_BYTES:
                    raise TooLargeError("request too large", place="body", found=f"more than {REQUEST_BYTES} bytes",
                                        expected=f"<= {REQUEST_BYTES} bytes")  # fmt: skip
    except TimeoutError:
        raise TooSlowError("request too slow", place="body", found=f"{len(payload)} bytes",
                           expected=f"the whole within {REQUEST_SECONDS} s") from None  # fmt: skip
    return payload


class Server:
    """Bound at once, so that `url` is known; `run` serves until Ctrl-C. BusyError for a port that is taken."""

    def __init__(self, drives: Drives, port: int = 0):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self.socket.bind((LOOPBACK, port))
            self.socket.listen()  # who is quick waits until it serves
        except OSError as error:
            self.socket.close()
            raise BusyError("this port cannot be used", place="--port", found=f"{port}: {error.strerror}",
                            remedy="leave --port out: a free one is taken") from None  # fmt: skip
        self.port, token = self.socket.getsockname()[1], secrets.token_urlsafe(24)
        self.url = f"http://{LOOPBACK}:{self.port}/{token}/"
        config = uvicorn.Config(
            app_of(drives, token, self.port), http="h11", ws="none", lifespan="off", log_level="error",
            access_log=False, server_header=False, proxy_headers=False, limit_concurrency=REQUESTS_AT_ONCE,
            h11_max_incomplete_event_size=REQUEST_HEAD_BYTES, timeout_graceful_shutdown=CLOSE_SECONDS,
        )  # fmt: skip
        self.server = uvicorn.Server(config)

    def run(self) -> None:
        """Blocks; a thread may end it by `server.should_exit`."""
        try:
            self.server.run(sockets=[self.socket])
        finally:
            self.socket.close()
