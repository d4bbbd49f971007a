"""``/metrics``, ``/healthz`` and ``/readyz`` over HTTP, in threads of their own.

The server is the standard library's, with the exposition of prometheus_client. It binds the loopback unless told
otherwise and says nothing secret, but names of budgets, hosts and agents: put a proxy before it to show it to others.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

if TYPE_CHECKING:
    from bursar_monitor.metrics import Exposition

log = logging.getLogger("bursar.monitor")

TRIES = 10
"""Ports that are tried, from the one that was asked for: several instances run on one machine."""

StartResponse = Callable[[str, list[tuple[str, str]]], object]


class _Handler(WSGIRequestHandler):
    timeout = 5
    """Seconds that a client may take to ask."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the library's
        """Scrapes are no events."""


class _Server(ThreadingWSGIServer):
    daemon_threads = True
    request_queue_size = 32


def serve_http(host: str, port: int, exposition: Exposition) -> WSGIServer | None:
    """Serve from the first free port on; None when the port is 0 or none of them is free (which is logged)."""
    if port == 0:
        log.info("metrics_off")
        return None
    for number in range(port, min(port + TRIES, 65_536)):
        try:
            server = make_server(host, number, app(exposition), _Server, handler_class=_Handler)
        except OSError as error:
            log.warning("metrics_port_in_use", extra={"host": host, "port": number, "errno": error.errno})
            continue
        threading.Thread(target=server.serve_forever, args=(0.2,), name="http", daemon=True).start()
        log.info("metrics_ready", extra={"url": f"http://{host}:{number}/metrics", "port": number})
        return server
    log.error("metrics_off", extra={"host": host, "port": port, "tried": TRIES})
    return None


def app(exposition: Exposition) -> Callable[[dict[str, Any], StartResponse], Iterable[bytes]]:
    """The WSGI application."""
    metrics = make_wsgi_app(exposition.registry)

    def answer(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path, method = environ.get("PATH_INFO", ""), environ.get("REQUEST_METHOD", "")
        if method not in {"GET", "HEAD"}:
            return _say(start_response, "405 Method Not Allowed", {"error": "GET only"})
        if path == "/metrics":
            page: Iterable[bytes] = metrics(environ, start_response)
            return page
        if path in {"/healthz", "/readyz"}:
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
