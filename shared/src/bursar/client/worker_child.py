"""A process that runs one function of a worker, task after task: ``python -m bursar.client.worker_child``.

It speaks with its worker over the two pipes that it was started with, in frames of msgpack (`write_frame`). What the
function prints goes to standard error, so that it cannot be taken for a frame. It ends when its worker does: the pipe
is at its end then, whatever the function is doing.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import queue
import runpy
import struct
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any, BinaryIO, Final

import msgpack  # type: ignore[import-untyped]

from bursar.client.scheduler_values import pack_value
from bursar.client.worker_task import MAX_ERROR, TaskRefused, TaskYielded, WorkerTask, in_words
from bursar.contracts.scheduler_words import MAX_UNPACKED_BYTES, MAX_VALUE_BYTES
from bursar.errors import CallerError
from bursar.telemetry import traces

LENGTH: Final = struct.Struct(">I")
MAX_FRAME: Final = 1 << 20
MAIN: Final = "__bursar_child__"
"""What a script is called in here, whose own name is ``__main__`` in the worker: so that it does not run as one."""


def frame(message: dict[str, Any]) -> bytes:
    """A message with its length before it."""
    packed: bytes = msgpack.packb(message)
    return LENGTH.pack(len(packed)) + packed


def read_frame(pipe: BinaryIO) -> dict[str, Any] | None:
    """The next message; None at the end of the pipe."""
    head = pipe.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    body = pipe.read(LENGTH.unpack(head)[0])
    return dict(msgpack.unpackb(body, strict_map_key=False)) if body else None


class _Child:
    """``inbox``: what is to be done; what says that it should stop is taken out of turn."""

    def __init__(self, reading: BinaryIO, writing: BinaryIO) -> None:
        self._reading = reading
        self._writing = writing
        self._lock = threading.Lock()
        self._inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._task: WorkerTask | None = None

    def serve(self) -> None:
        begin = read_frame(self._reading)
        if begin is None:
            return
        function = _load(begin)
        self._tell({"ready": True})
        threading.Thread(target=self._listen, daemon=True).start()
        traces.begin("bursar-agent")
        while True:
            message = self._inbox.get()
            self._tell(self._do(function, message) if traces.tracing is None else self._do_traced(function, message))

    def _listen(self) -> None:
        while (message := read_frame(self._reading)) is not None:
            task = self._task
            if "task" in message:
                self._task = WorkerTask(message, tell_soon=self._tell)
                self._inbox.put(message)
            elif task is not None and message["stop"] == task.fence:
                task.stop(is_void=message["is_void"])
        os._exit(1)  # the worker is gone

    def _do_traced(self, function: Callable[[WorkerTask], Any], message: dict[str, Any]) -> dict[str, Any]:
        """The process may be killed once it has told its end, so its spans go before that."""
        assert traces.tracing is not None
        with traces.tracing.joined(message.get("trace")):
            end = self._do(function, message)
        traces.tracing.flush()
        return end

    def _do(self, function: Callable[[WorkerTask], Any], message: dict[str, Any]) -> dict[str, Any]:
        task = self._task
        assert task is not None
        assert task.fence == message["token"]
        try:
            result = function(task)
            if inspect.isawaitable(result):
                result = asyncio.run(_awaited(result))
        except TaskYielded as given:
            return _packed("yield", "checkpoint", given.checkpoint, MAX_VALUE_BYTES)
        except TaskRefused as error:
            return {"end": "refuse", "error": str(error)[:MAX_ERROR]}
        except SystemExit as error:
            return {"end": "fail", "error": f"TaskExited: with status {error.code!r}"}
        except Exception as error:  # noqa: BLE001 - whatever it is, the submitter is told
            return {"end": "fail", "error": in_words(error)}
        return _packed("finish", "result", result, MAX_UNPACKED_BYTES)

    def _tell(self, message: dict[str, Any]) -> None:
        with self._lock:
            self._writing.write(frame(message))
            self._writing.flush()


def _packed(end: str, name: str, value: Any, most: int) -> dict[str, Any]:
    try:
        return {"end": end, name: pack_value(value, most)}
    except CallerError as error:
        return {"end": "refuse", "error": f"the {name} cannot be sent: {error}"}


async def _awaited(work: Any) -> Any:
    return await work


def _load(begin: dict[str, Any]) -> Callable[[WorkerTask], Any]:
    """The function by its name, in a process that finds what its worker finds."""
    sys.path[:] = begin["path"]
    if begin["script"]:
        found: Any = runpy.run_path(begin["script"], run_name=MAIN)
        first, *rest = begin["name"].split(".")
        found = found[first]
    else:
        found, rest = import_module(begin["module"]), begin["name"].split(".")
    for name in rest:
        found = getattr(found, name)
    function: Callable[[WorkerTask], Any] = found
    return function


def main() -> None:
    reading, writing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    _Child(reading, writing).serve()


if __name__ == "__main__":
    main()
