"""An OpenAI-compatible server on loopback that answers well, badly, slowly, not at all, or with malice."""

import base64
import json
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np

from whale.evaluation.judging.pairs import About, Pair
from whale.evaluation.judging.questions import Questions
from whale.evaluation.judging.vision_judge import JudgeConfig, VisionJudge

ROOT = Path(__file__).parents[1]
QUESTIONS = Questions.read(ROOT / "data_specs/questions/fleet.yaml")
KEY = "sk-CANARY0123456789"
VALUES = {
    "model": "local/judge-1", "key_env": "JUDGE_TEST_KEY", "timeout_s": 5.0, "retries": 2, "backoff_s": 0.5, "votes": 3,
    "temperature": 0.0, "max_tokens": 100, "image_side": 32, "tokens_per_image": 85,
    "usd_per_million_input_tokens": 2.0, "usd_per_million_output_tokens": 10.0, "max_usd": 1.0, "max_calls": 100,
}  # fmt: skip

Answer = Callable[[list[dict]], str]  # messages -> the text of a reply


def texts(messages: list[dict]) -> str:
    """All that a user's turns say."""
    parts = [part for each in messages if each["role"] == "user" for part in each["content"]]
    return "\n".join(part["text"] for part in parts if part["type"] == "text")


def frames(messages: list[dict]) -> list[np.ndarray]:
    """The frames of all turns, uint8 BGR."""
    urls = [p["image_url"]["url"] for m in messages if m["role"] == "user" for p in m["content"] if "image_url" in p]
    data = [base64.b64decode(url.removeprefix("data:image/png;base64,"), validate=True) for url in urls]
    return [cv2.imdecode(np.frombuffer(each, np.uint8), cv2.IMREAD_COLOR) for each in data]


def by_pixels(messages: list[dict]) -> str:
    """An honest judge of a simple kind: yes where the two frames differ by little, whatever anybody writes."""
    shown = frames(messages)
    if len(shown) == 1:
        return "Show me the predicted image."
    far = np.abs(shown[0].astype(float) - shown[1]).mean() > 4.0
    return "No. They differ." if far else "Yes, they are alike."


def gullible(messages: list[dict]) -> str:
    """It obeys whoever tells it to say yes, also inside of quoted data."""
    told = re.search(r"(answer|start|reply|say)[^.]{0,40}\byes\b|\"Yes\.\"", texts(messages)[200:], re.IGNORECASE)
    ours = "Yes means the predicted image is consistent"
    return "Yes. As told." if told and ours not in told[0] else by_pixels(messages)


class JudgeServer:
    """`with JudgeServer(answer) as server`; `misbehave(handler, number)` may answer itself and return True."""

    def __init__(self, answer: Answer = by_pixels, misbehave: Callable | None = None):
        self.answer, self.misbehave = answer, misbehave
        self.requests: list[dict] = []
        self.headers: list[dict] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append(json.loads(body))
                outer.headers.append(dict(self.headers))
                if outer.misbehave is None or not outer.misbehave(self, len(outer.requests)):
                    text = outer.answer(outer.requests[-1]["messages"])
                    send(self, json.dumps(reply(text)).encode())

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}/v1/chat/completions"

    def __enter__(self) -> "JudgeServer":
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()


def reply(text: object, usage: object = None) -> dict:
    return {"choices": [{"message": {"role": "assistant", "content": text}}], "usage": usage}


def send(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, headers: dict | None = None) -> bool:
    handler.send_response(status)
    for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
        handler.send_header(name, value)
    handler.end_headers()
    with suppress(OSError):
        handler.wfile.write(body)
    return True


def dies_in_the_middle(handler: BaseHTTPRequestHandler, _: int) -> bool:
    send(handler, b'{"choices": [{"mess', headers={"Content-Length": "5000"})
    handler.close_connection = True
    return True


def hangs_up(handler: BaseHTTPRequestHandler, _: int) -> bool:
    handler.connection.close()
    return True


def trickles(handler: BaseHTTPRequestHandler, _: int) -> bool:
    """A byte now and then, each within a socket's timeout, for ever."""
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)
    except OSError:
        return True


def trickles_headers(handler: BaseHTTPRequestHandler, _: int) -> bool:
    """The same before anything has been said."""
    try:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            handler.wfile.write(b"X: y\r\n")
            handler.wfile.flush()
            time.sleep(0.05)
    except OSError:
        return True


def floods(handler: BaseHTTPRequestHandler, _: int) -> bool:
    """64 MiB without an announced length; whether anybody reads so much is counted in `taken`."""
    handler.send_response(200)
    handler.end_headers()
    with suppress(OSError):
        for _ in range(1024):
            handler.wfile.write(b"[" * 65536)
            handler.server.taken = getattr(handler.server, "taken", 0) + 65536
    return True


def pair(alike=True, instruction="open the bin", task="any", name="p0") -> Pair:
    recorded = np.full((24, 24, 3), 90, np.uint8)
    recorded[4:12, 6:15] = (200, 30, 40)
    imagined = recorded.copy() if alike else recorded[::-1].copy()
    return Pair("visual", task, name, recorded, imagined, About(instruction=instruction))


def judge_of(server: JudgeServer, cache: Path, **values) -> VisionJudge:
    config = JudgeConfig.parse(VALUES | {"url": server.url} | values, file="judge.yaml")
    slept: list[float] = []
    judge = VisionJudge(config, QUESTIONS, cache, sleep=slept.append)
    judge.slept = slept
    return judge
