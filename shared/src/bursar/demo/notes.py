"""What a worker writes down while it works, line by line and at once, so that a killed one has told all it did.

Each line is a JSON object with ``at`` (`time.monotonic`) and ``what``: ``start``, ``done`` and ``failed`` of a task's
attempt, ``circuit`` when the provider's circuit is seen in another state.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any, Final

import bursar
from bursar.demo.plan import TARGET

LOOK_S: Final = 0.01


class Notes:
    """Appends to one file."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, what: str, **facts: Any) -> None:
        line = json.dumps({"at": time.monotonic(), "what": what, **facts})
        os.write(self._descriptor, line.encode() + b"\n")

    def close(self) -> None:
        os.close(self._descriptor)


def read_notes(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file; what a kill has cut off is left out."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def under_way(notes: list[dict[str, Any]]) -> set[str]:
    """The tasks that were begun and have not ended."""
    begun = {line["task"] for line in notes if line["what"] == "start"}
    return begun - {line["task"] for line in notes if line["what"] in ("done", "failed")}


async def watch_circuit(fleet: bursar.Fleet, notes: Notes) -> None:
    """Note each change of the provider's circuit as this process sees it."""
    before = "closed"
    while True:
        verdict = fleet.breaker.peek(TARGET)
        known = fleet.breaker.circuits().get(TARGET, "closed")
        state = known if verdict else str(getattr(verdict, "state", "open"))
        if state != before:
            notes.write("circuit", state=state)
            before = state
        await asyncio.sleep(LOOK_S)
