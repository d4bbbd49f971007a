"""A collector that spans are sent to by OTLP over HTTP, and a provider that is called: one small server of a test."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

ANSWER = {
    "id": "c-1", "object": "chat.completion", "created": 0, "model": "tiny-1",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}],
    "usage": {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17},
}  # fmt: skip


class Span(NamedTuple):
    """One span as it was received; ids in hexadecimal, times in nanoseconds. ``process``: its service.name."""

    process: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    begun: int
    ended: int
    told: dict[str, Any]
    events: list[str]
    failed: bool


class Collector(ThreadingHTTPServer):
    """Takes spans at ``/v1/traces``, and answers chats at ``/v1/chat/completions``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[Span] = []
        self.posts = 0
        self.asked: list[dict[str, str]] = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def named(self, name: str, kind: str = "") -> list[Span]:
        return [span for span in list(self.spans) if span.name == name and kind in {"", span.kind}]

    def below(self, span: Span) -> list[str]:
        """The names of a span's children."""
        return sorted(each.name for each in list(self.spans) if each.parent == span.id)


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/traces":
            assert self.headers["Content-Type"] == "application/x-protobuf"
            body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            self.server.spans += _spans(ExportTraceServiceRequest.FromString(body))
            self.server.posts += 1
            self._answer("application/x-protobuf", b"")
        else:
            self.server.asked.append(dict(self.headers))
            self._answer("application/json", json.dumps(ANSWER).encode())

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet."""


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource in request.resource_spans:
        about = _told(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                kind = span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower()
                yield Span(
                    about["service.name"], span.name, kind, span.trace_id.hex(), span.span_id.hex(),
                    span.parent_span_id.hex(), span.start_time_unix_nano, span.end_time_unix_nano,
                    _told(span.attributes), [event.name for event in span.events],
                    span.status.code == span.status.STATUS_CODE_ERROR,
                )  # fmt: skip


def _told(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
