"""A real headless Chromium, driven over its own debugging protocol through two pipes: no driver, no port, no library.

    with Chromium() as browser:
        page = browser.open("http://127.0.0.1:9464/")
        page.until("document.title !== ''")

Everything that the page writes to its console, every request that it makes and every error that it raises is kept in
`Page.problems` and `Page.requests`, so that a test can say that there were none. Used by the tests of the dashboard and
by the benchmark of its figures.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS: Final = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--disable-extensions",
    "--disable-sync", "--mute-audio", "--force-color-profile=srgb", "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE: Final = 40.0
"""Seconds that the browser may take for one command, and a page for what is waited for."""


class BrowserError(Exception):
    """The browser is missing, does not answer, or what was waited for did not come."""


def binary() -> str:
    """Where Chromium is; raises `BrowserError` when it is not installed."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    raise BrowserError("there is no Chromium here: apt-get install chromium")


class Chromium:
    """One browser with a fresh profile. Use with ``with``."""

    def __init__(self) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="bursar-chromium-", ignore_cleanup_errors=True)
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        theirs = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (to_read, to_write)]
        command = [binary(), *FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"]
        nowhere = os.open(os.devnull, os.O_RDWR)
        moves = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate([nowhere] * 3 + theirs)]
        self._pid = os.posix_spawn(command[0], command, dict(os.environ), file_actions=moves, setpgroup=0)
        for fd in (*theirs, to_read, to_write, nowhere):
            os.close(fd)
        self._number = 0
        self._arrived = threading.Condition()
        self._answers: dict[int, dict[str, Any]] = {}
        self._pages: dict[str, Page] = {}
        self._ended = False
        self._reader = threading.Thread(target=self._listen, name="chromium", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._write)
        self._reader.join(5)
        os.close(self._read)
        self._profile.cleanup()

    def open(self, url: str = "about:blank", width: int = 1440, height: int = 900, *, dark: bool = True) -> Page:
        """A page of its own, with cookies of its own."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", {"url": "about:blank", "browserContextId": context})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = self._pages[session] = Page(self, session, context)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.call(f"{domain}.enable")
        page.call("Emulation.setScrollbarsHidden", hidden=True)
        page.resize(width, height)
        page.prefer(dark=dark)
        if url != "about:blank":
            page.go(url)
        return page

    def close_pages(self) -> None:
        """All of them, with their cookies."""
        while self._pages:
            _, page = self._pages.popitem()
            self.call("Target.disposeBrowserContext", {"browserContextId": page.context})

    def call(self, method: str, params: Mapping[str, Any] | None = None, session: str = "") -> dict[str, Any]:
        """One command of the protocol and its result; raises `BrowserError`."""
        with self._arrived:
            self._number += 1
            number = self._number
        message = {"id": number, "method": method, "params": params or {}}
        if session:
            message["sessionId"] = session
        _write_all(self._write, json.dumps(message).encode() + b"\0")
        with self._arrived:
            if not self._arrived.wait_for(lambda: number in self._answers or self._ended, PATIENCE):
                raise BrowserError(f"{method} was not answered within {PATIENCE:.0f} s")
            answer = self._answers.pop(number, None)
        if answer is None:
            raise BrowserError("the browser has ended")
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error'].get('message')}")
        result: dict[str, Any] = answer["result"]
        return result

    def _listen(self) -> None:
        rest = b""
        while data := os.read(self._read, 1 << 20):
            *whole, rest = (rest + data).split(b"\0")
            for text in whole:
                self._take(json.loads(text))
        with self._arrived:
            self._ended = True
            self._arrived.notify_all()

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            with self._arrived:
                self._answers[message["id"]] = message
                self._arrived.notify_all()
        elif (page := self._pages.get(message.get("sessionId", ""))) is not None:
            page.heard(message["method"], message["params"])


class Page:
    """One tab. ``problems``: what its console and its errors say; ``requests``: the addresses that it asked for."""

    def __init__(self, browser: Chromium, session: str, context: str) -> None:
        self._browser = browser
        self._session = session
        self.context = context
        self.problems: list[str] = []
        self.requests: list[str] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, params, self._session)

    def heard(self, method: str, params: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            said = details.get("exception", {}).get("description", "")
            self.problems.append(f"{details['text']} {said}".strip())
        elif method == "Runtime.consoleAPICalled" and params["type"] in {"error", "warning", "assert"}:
            self.problems.append(" ".join(str(part.get("value", part.get("description"))) for part in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in {"error", "warning"}:
            entry = params["entry"]
            self.problems.append(f"{entry['text']} {entry.get('url', '')}".strip())

    def go(self, url: str) -> None:
        """Load an address and wait until its document is there."""
        said = self.call("Page.navigate", url=url)
        if said.get("errorText"):
            raise BrowserError(f"{url}: {said['errorText']}")
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def resize(self, width: int, height: int) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def prefer(self, *, dark: bool, calm: bool = False) -> None:
        """What the person's system prefers: dark or light, with or without movement."""
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if calm else "no-preference"},
        ]
        self.call("Emulation.setEmulatedMedia", features=features)

    def value(self, expression: str) -> Any:
        """What an expression (or a promise) comes to, as plain values; raises `BrowserError` when it throws."""
        said = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in said:
            details = said["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description", details["text"]))
        return said["result"].get("value")

    def until(self, expression: str, seconds: float = PATIENCE) -> None:
        """Wait until an expression is true (something, not null); raises `BrowserError` when it is not in time."""
        last = ""
        for _ in waiting(seconds):
            try:
                if self.value(f"Boolean({expression})"):
                    return
            except BrowserError as error:  # the document is being replaced
                last = f" ({error})"
        raise BrowserError(f"never true within {seconds:.0f} s: {expression}{last}; {self.problems}")

    def press(self, key: str, *, shift: bool = False) -> None:
        """One key, as a person presses it."""
        text = {"Enter": "\r", " ": " "}.get(key, key if len(key) == 1 else "")
        about = {"key": key, "modifiers": 8 if shift else 0, "code": _CODES.get(key, "")}
        if code := _NUMBERS.get(key, ord(key.upper()) if len(key) == 1 else 0):
            about["windowsVirtualKeyCode"] = code
        self.call("Input.dispatchKeyEvent", type="keyDown", **about, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """A screenshot as PNG; ``whole``: of the whole page, not only of what fits on the screen."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]))


_CODES: Final = {"Tab": "Tab", "Enter": "Enter", " ": "Space", "Escape": "Escape"}
_NUMBERS: Final = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowDown": 40, "ArrowUp": 38}


def waiting(seconds: float, pause: float = 0.03) -> Iterator[None]:
    """Again and again until the time is over, at least twice."""
    until = time.monotonic() + seconds
    yield
    while time.monotonic() < until:
        time.sleep(pause)
        yield


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def outside(requests: Sequence[str], origin: str) -> list[str]:
    """Those requests that went to somebody else."""
    return [url for url in requests if not url.startswith((f"{origin}/", "data:", "about:"))]
