"""A headless Chromium, driven by its DevTools protocol: what a person does at a page, and what the page then shows."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = ["--headless=new", "--remote-debugging-port=0", "--no-first-run", "--disable-gpu", "--disable-extensions"]
OPTIONS += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio"]
OPTIONS += ["--disable-dev-shm-usage"]  # a container's is small
WAIT_SECONDS = 300.0  # until something that must come has come; a busy machine is slow, and nothing is wrong
CODES = {"Backspace": 8, "Enter": 13, " ": 32}


def browser_path() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page. `errors`: what its scripts threw, and what its policy refused to load."""

    def __init__(self, profile: Path):
        self.errors: list[str] = []
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium has none for root
        command = [str(browser_path()), *OPTIONS, *sandbox, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        said = profile / "DevToolsActivePort"
        self._until(lambda: said.is_file() and len(said.read_text().split()) == 2, "the browser to listen")
        port, path = said.read_text().split()
        self._numbers = itertools.count(1)
        self._socket = connect(f"ws://127.0.0.1:{port}{path}", max_size=2**26, open_timeout=WAIT_SECONDS)
        pages = self._call("Target.getTargets")["targetInfos"]
        (target,) = (each["targetId"] for each in pages if each["type"] == "page")
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def close(self) -> None:
        self._socket.close()
        self.process.terminate()
        self.process.wait(60)

    def look(self, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> None:
        self._call("Page.navigate", url=url)

    def value(self, expression: str) -> Any:
        """Of JavaScript in the page."""
        found = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """Until it is true."""
        return self._until(lambda: self.value(f"document.readyState === 'complete' && ({expression})"), expression)

    def key(self, key: str, seconds: float = 0.0) -> None:
        """Press it down, and up again so much later."""
        known = {"key": key, "code": f"Key{key.upper()}" if len(key) == 1 and key.isalpha() else key}
        known["windowsVirtualKeyCode"] = CODES.get(key, ord(key[0].upper()))
        self._call("Input.dispatchKeyEvent", type="rawKeyDown", **known)
        time.sleep(seconds)
        self._call("Input.dispatchKeyEvent", type="keyUp", **known)

    def click(self, selector: str) -> None:
        """With the mouse, in its middle."""
        box = self.value(f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
                         f"(document.querySelector({selector!r}).getBoundingClientRect())")  # fmt: skip
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def screenshot(self, path: Path) -> None:
        found = self._call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if hasattr(self, "_session"):
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            found = json.loads(self._socket.recv(WAIT_SECONDS))
            if found.get("id") == number:
                assert "error" not in found, found
                return found["result"]
            if found.get("method") == "Runtime.exceptionThrown":
                self.errors.append(str(found["params"]["exceptionDetails"]))
            elif found.get("method") == "Log.entryAdded" and found["params"]["entry"]["level"] == "error":
                self.errors.append(str(found["params"]["entry"]["text"]))

    @staticmethod
    def _until(is_so: Any, what: str) -> Any:
        ends = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < ends:
            if found := is_so():
                return found
            time.sleep(0.05)
        raise AssertionError(f"waited {WAIT_SECONDS:g} s for {what}")
