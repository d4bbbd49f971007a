"""Log lines as JSON: a named event with fields, one line each, on standard error and into the stream of all services.

    {"ts": 1763769600.123, "level": "WARNING", "service": "limiter", "instance": "limiter-1", "event": "...", ...}

Secrets are taken out (`redact`). A field ``id`` names the request that a line is about, ``principal`` who made it, and
``trace_id`` its trace, so that the lines of several services can be read together; whatever is logged within `about`
has them by itself.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Final

from bursar.telemetry import redact, traces

_ABOUT: Final[ContextVar[Mapping[str, str] | None]] = ContextVar("about", default=None)

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


@contextlib.contextmanager
def about(**ids: str) -> Iterator[None]:
    """Whatever is logged within, in this thread or task, says what it is about."""
    before = _ABOUT.set({**(_ABOUT.get() or {}), **ids})
    try:
        yield
    finally:
        _ABOUT.reset(before)


class JsonFormatter(logging.Formatter):
    """``{"ts": ..., "level": ..., "event": ..., <fields>}``; an exception is named by its type alone."""

    def __init__(self, service: str, instance: str) -> None:
        super().__init__()
        self._who = {"service": service, "instance": instance}

    def format(self, record: logging.LogRecord) -> str:
        event = redact.text(record.getMessage())
        line = {"ts": round(record.created, 3), "level": record.levelname, **self._who, "event": event}
        said = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        line.update(redact.fields({**_correlation(), **said}))
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
        return json.dumps(line, default=str, separators=(",", ":"))


def _correlation() -> dict[str, str]:
    """What the line is about, as far as that is known."""
    return {**(_ABOUT.get() or {}), **({} if traces.tracing is None else traces.tracing.ids())}


def to_stderr(service: str, instance: str, level: str) -> None:
    """Send all of this process's log lines to standard error as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service, instance))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
