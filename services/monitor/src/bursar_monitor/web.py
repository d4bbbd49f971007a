"""``/metrics``, ``/healthz``, ``/readyz`` and the page (`page`) over HTTP, in threads of their own.

The server is the standard library's, with the exposition of prometheus_client. It binds the loopback unless told
otherwise. The metrics need no password and say nothing secret, but names of budgets, hosts and agents: put a proxy
before them to show them to others. The page has a door of its own (`page_door`).
"""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TextIO
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

if TYPE_CHECKING:
    from bursar_monitor.metrics import Exposition

log = logging.getLogger("bursar.monitor")

TRIES = 10
"""Ports that are tried, from the one that was asked for: several instances run on one machine."""

FACTS = frozenset({"/healthz", "/readyz"})

StartResponse = Callable[[str, list[tuple[str, str]]], object]
App = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


class _Handler(WSGIRequestHandler):
    timeout = 5
    """Seconds that a client may take to ask, and to take what it is sent."""

    def get_stderr(self) -> TextIO:
        """Where the library writes that a client has gone, with a traceback: that is no event either."""
        return io.StringIO()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the library's
        """Scrapes are no events."""


class _Server(ThreadingWSGIServer):
    daemon_threads = True
    request_queue_size = 32

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that says nothing, or goes while it is answered."""
        error = sys.exc_info()[0]
        log.debug("http_broken_off", extra={"error": "" if error is None else error.__name__})


def serve_http(
    host: str, port: int, exposition: Exposition, page: Callable[[int], App | None] | None = None
) -> WSGIServer | None:
    """Serve from the first free port on; None when the port is 0 or none of them is free (which is logged). ``page``
    makes the page for a port."""
    if port == 0:
        log.info("metrics_off")
        return None
    for number in range(port, min(port + TRIES, 65_536)):
        try:
            server = make_server(host, number, app(exposition, page and page(number)), _Server, handler_class=_Handler)
        except OSError as error:
            log.warning("metrics_port_in_use", extra={"host": host, "port": number, "errno": error.errno})
            continue
        threading.Thread(target=server.serve_forever, args=(0.2,), name="http", daemon=True).start()
        log.info("metrics_ready", extra={"url": f"http://{host}:{number}/metrics", "port": number})
        return server
    log.error("metrics_off", extra={"host": host, "port": port, "tried": TRIES})
    return None


def app(exposition: Exposition, page: App | None = None) -> App:
    """The WSGI application. ``page`` answers whatever Prometheus and probes do not ask for."""
    metrics = make_wsgi_app(exposition.registry)

    def answer(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if page is not None and path != "/metrics" and path not in FACTS:
            return page(environ, start_response)
        if environ.get("REQUEST_METHOD", "") not in {"GET", "HEAD"}:
            return _say(start_response, "405 Method Not Allowed", {"error": "GET only"})
        if path == "/metrics":
            text: Iterable[bytes] = metrics(environ, start_response)
            return text
        if path in FACTS:
            facts = exposition.facts()
            is_good = facts["alive"] if path == "/healthz" else facts["ready"]
            return _say(start_response, "200 OK" if is_good else "503 Service Unavailable", facts)
        return _say(start_response, "404 Not Found", {"error": "see /metrics, /healthz, /readyz"})

    return answer


def _say(start_response: StartResponse, status: str, body: dict[str, Any]) -> Iterable[bytes]:
    payload = json.dumps(body).encode() + b"\n"
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(payload)))]
    start_response(status, headers)
    return [payload]
