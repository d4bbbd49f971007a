"""The page that an operator opens first, over HTTP: plain files, JSON by section, and server-sent events.

    /                       the page; without the token a form that asks for it
    /login                  POST token=...: sets the cookie
    /stream                 server-sent events: ``hello`` once, ``overview`` with every new picture, ``beat`` between
    /panel/<section>        one section of the newest picture
    /ask/<question>         what is asked of a service because somebody looks
    /lines?level=...        log lines of all services, as `page_lines` finds them
    /static/<build>/<file>  the files beside this module

Everything but the form and its style needs the token (`page_door`). Nothing here changes anything but cookies. The page
runs no inline script, loads nothing from another host, and may not be framed: see `HEADERS`.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

from bursar_monitor.page_asking import QUESTIONS, UNTOLD, Asker
from bursar_monitor.page_door import Door
from bursar_monitor.page_feed import Feed, event, pack
from bursar_monitor.page_lines import Lines

STATIC: Final = Path(__file__).with_name("static")
TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
OPEN_FILES: Final = frozenset({"page.css", "login.css", "icon.svg"})
"""Files that say nothing about the fleet: the login needs them."""

STREAMS: Final = 32
"""Pages that are open at a time; each has a thread."""
BEAT_SECONDS: Final = 5.0
"""Without a new picture a stream says so often that it is alive."""
WRONG_TOKEN: Final = b'<p class="note bad" role="alert">That is not the token.</p>'
MAX_FORM: Final = 4_096

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
"""What a browser lets the page do: nothing but show and ask its own server."""

HEADERS: Final = (
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=()"),
)  # fmt: skip

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]
Body = Iterable[bytes]


class Files:
    """The static files, read once; ``build`` changes when one of them does. Their addresses carry it, so that they may
    be kept for ever, and an open page notices that it is older than its server."""

    def __init__(self, directory: Path = STATIC) -> None:
        found = sorted(path for path in directory.iterdir() if path.suffix in TYPES)
        contents = {path.name: path.read_bytes() for path in found}
        whole = hashlib.sha256(b"\0".join(name.encode() + b"\0" + data for name, data in contents.items()))
        self.build = whole.hexdigest()[:16]
        self._contents = {
            name: data.replace(b"{{build}}", self.build.encode()) if name.endswith(".html") else data
            for name, data in contents.items()
        }

    def read(self, name: str) -> tuple[bytes, str] | None:
        """Content and type; None when there is no such file."""
        data = self._contents.get(name)
        return None if data is None else (data, f"{TYPES[Path(name).suffix]}; charset=utf-8")


class Page:
    """The WSGI application below the paths above. ``name``: the instance; ``asker`` None: nobody can be asked."""

    def __init__(self, name: str, door: Door, feed: Feed, asker: Asker | None, lines: Lines) -> None:
        self._name = name
        self._door = door
        self._feed = feed
        self._asker = asker
        self._lines = lines
        self._files = Files()
        self._places = threading.Semaphore(STREAMS)

    def __call__(self, environ: Environ, start: StartResponse) -> Body:
        method, path = environ.get("REQUEST_METHOD", ""), environ.get("PATH_INFO", "") or "/"
        if not (self._door.is_here(environ) and self._door.is_own_site(environ)):
            return _refuse(start, "403 Forbidden", "this page is for this machine alone: ask for http://127.0.0.1")
        if path == "/login":
            return self._login(environ, start) if method == "POST" else _go_home(start, [])
        if method != "GET":
            return _refuse(start, "405 Method Not Allowed", "GET only")
        if path == "/" and environ.get("QUERY_STRING"):
            return self._enter(_field(environ["QUERY_STRING"], "token"), start)
        first, _, rest = path.removeprefix("/").partition("/")
        if first == "static":
            return self._static(rest, environ, start)
        if not self._door.knows(environ):
            return self._ask_for_token(start) if path == "/" else _refuse(start, "401 Unauthorized", "no token")
        return self._known(first, rest, environ, start)

    def _known(self, first: str, rest: str, environ: Environ, start: StartResponse) -> Body:
        """For who has the token."""
        if not first:
            return self._file("index.html", start, [("Cache-Control", "no-store")])
        if first == "stream" and not rest:
            return self._stream(environ, start)
        if first == "panel":
            return self._panel(rest, environ, start)
        if first == "ask" and rest in QUESTIONS:
            about = _field(environ.get("QUERY_STRING", ""), "about")[:256]
            told = UNTOLD if self._asker is None else self._asker.ask(rest, about)
            return _send(start, "200 OK", pack(told))
        if first == "lines" and not rest:
            return _send(start, "200 OK", pack(self._lines.find(_fields(environ.get("QUERY_STRING", "")))))
        return _refuse(start, "404 Not Found", "there is no such page")

    # ---- coming in

    def _ask_for_token(self, start: StartResponse, *, wrong: bool = False) -> Body:
        page = self._files.read("login.html")
        if page is None:
            return _refuse(start, "404 Not Found", "there is no such file")
        text = page[0].replace(b"{{note}}", WRONG_TOKEN if wrong else b"")
        return _send(start, "401 Unauthorized", text, page[1])

    def _login(self, environ: Environ, start: StartResponse) -> Body:
        length = environ.get("CONTENT_LENGTH", "")
        size = int(length) if length.isascii() and length.isdigit() else 0
        if size > MAX_FORM:
            return _refuse(start, "413 Content Too Large", "that is no token")
        form: bytes = environ["wsgi.input"].read(size)
        return self._enter(_field(form.decode("utf-8", "replace"), "token"), start)

    def _enter(self, token: str, start: StartResponse) -> Body:
        if not self._door.opens(token):
            return self._ask_for_token(start, wrong=True)
        return _go_home(start, [("Set-Cookie", self._door.set_cookie())])

    # ---- what there is

    def _static(self, rest: str, environ: Environ, start: StartResponse) -> Body:
        build, _, name = rest.partition("/")
        if build != self._files.build or not (name in OPEN_FILES or self._door.knows(environ)):
            return _refuse(start, "404 Not Found", "there is no such file")
        return self._file(name, start, [("Cache-Control", "private, max-age=31536000, immutable")])

    def _file(self, name: str, start: StartResponse, headers: list[tuple[str, str]]) -> Body:
        found = self._files.read(name)
        if found is None:
            return _refuse(start, "404 Not Found", "there is no such file")
        return _send(start, "200 OK", found[0], found[1], headers)

    def _panel(self, section: str, environ: Environ, start: StartResponse) -> Body:
        shown = self._feed.shown
        made = shown.table(section)
        if made is None and shown.drawn is not None:
            return _refuse(start, "404 Not Found", "the picture has no such section")
        tag = ("ETag", f'"{self._name}-{shown.version}"')
        if environ.get("HTTP_IF_NONE_MATCH") == tag[1]:
            start("304 Not Modified", [tag, *HEADERS])
            return []
        head = b'{"version":%d,"later_ms":%d,"table":' % (shown.version, self._feed.later(shown))
        return _send(start, "200 OK", head + (made or b"null") + b"}", headers=[tag, ("Cache-Control", "no-cache")])

    def _stream(self, environ: Environ, start: StartResponse) -> Body:
        if not self._places.acquire(blocking=False):
            return _refuse(start, "503 Service Unavailable", "too many pages are open", [("Retry-After", "5")])
        headers = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store"), *HEADERS]
        start("200 OK", headers)
        return _Stream(self._events(), self._places.release)

    def _events(self) -> Iterator[bytes]:
        hello = {"instance": self._name, "build": self._files.build, "history": self._feed.history()}
        yield event("hello", 0, [pack(hello)])
        version = -1
        while not self._feed.is_over:
            shown = self._feed.newer(version, BEAT_SECONDS)
            if shown is None:
                yield event("beat", max(version, 0), [b"{}"])
                continue
            version = shown.version
            head = b'{"version":%d,"later_ms":%d,"view":' % (version, self._feed.later(shown))
            yield event("overview", version, [head, shown.overview(), b"}"])


class _Stream:
    """Events of one page; gives its place back when the page has gone."""

    def __init__(self, events: Iterator[bytes], release: Callable[[], None]) -> None:
        self._events = events
        self._release: Callable[[], None] | None = release

    def __iter__(self) -> Iterator[bytes]:
        return self._events

    def close(self) -> None:
        """Called by the server at the end, however it comes."""
        release, self._release = self._release, None
        if release is not None:
            release()


def _fields(form: str) -> dict[str, list[str]]:
    try:
        return parse_qs(form[:MAX_FORM], max_num_fields=8)
    except ValueError:  # more fields than any form here has
        return {}


def _field(form: str, name: str) -> str:
    return _fields(form).get(name, [""])[0]


def _go_home(start: StartResponse, headers: list[tuple[str, str]]) -> Body:
    return _send(start, "303 See Other", b"", headers=[("Location", "/"), ("Cache-Control", "no-store"), *headers])


def _refuse(start: StartResponse, status: str, why: str, headers: list[tuple[str, str]] | None = None) -> Body:
    return _send(start, status, pack({"error": why}) + b"\n", headers=headers)


def _send(
    start: StartResponse,
    status: str,
    payload: bytes,
    kind: str = "application/json",
    headers: list[tuple[str, str]] | None = None,
) -> Body:
    given = headers or []
    if not any(name == "Cache-Control" for name, _ in given):
        given = [*given, ("Cache-Control", "no-store")]
    start(status, [("Content-Type", kind), ("Content-Length", str(len(payload))), *given, *HEADERS])
    return [payload]
