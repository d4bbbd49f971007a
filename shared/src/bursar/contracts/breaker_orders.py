"""What operators order, and what answers them. Every order stands in the journal with who gave it and why."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bursar.contracts.base import Message, Name, Request
from bursar.contracts.breaker_words import CircuitState, Note

For = Annotated[int, Field(ge=1, le=86_400_000)]


class ForceOpen(Request):
    """Administration: let nobody call this target, or anything below it, until `Release` or `Reset`, or for
    ``for_ms``. ``note``: why, for the audit."""

    target: Name
    note: Note = ""
    for_ms: For | None = None


class ForceClose(Request):
    """Administration: let everybody call this target, whatever is reported, until `Release` or `Reset`, or for
    ``for_ms``. Circuits above and below it are not touched."""

    target: Name
    note: Note = ""
    for_ms: For | None = None


class Disable(Request):
    """Administration: as if there were no circuit: all calls go, and what is reported of the target itself is not even
    counted for it, until `Release` or `Reset`, or for ``for_ms``."""

    target: Name
    note: Note = ""
    for_ms: For | None = None


class MetricsOnly(Request):
    """Administration: all calls go, but what is reported is counted and judged, and `Status` and `Explain` say what the
    circuit would have opened on; until `Release` or `Reset`, or for ``for_ms``."""

    target: Name
    note: Note = ""
    for_ms: For | None = None


class Release(Request):
    """Administration: end an order; the rules hold again. What was forced open becomes half-open: a probe finds out how
    the target is. Everything else is closed. The error ``not_forced`` when there is no order."""

    target: Name
    note: Note = ""


class Reset(Request):
    """Administration: close the circuit and forget what was reported of it; the rules hold again."""

    target: Name
    note: Note = ""


class Annotate(Request):
    """Administration: put a note on a circuit, for whoever asks why it is as it is; nothing else changes."""

    target: Name
    note: Note


class Steered(Message):
    """The circuit as it is now."""

    ok: Literal[True] = True
    circuit: CircuitState
    fence: str
