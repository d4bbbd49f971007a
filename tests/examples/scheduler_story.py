"""Parts of the scheduler's story in `test_answers`."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from bursar.bus.codec import MSGPACK
from tests.examples.talker import Talker


async def explained(talker: Talker, home: Path, task: str) -> None:
    """Why a task stands where it stands: its submitter asks, an operator, and somebody on the command line."""
    await talker.ask("scheduler", "why", task=task)
    await talker.ask("scheduler", "spending")
    await talker.ask("scheduler", "why-any", "adm", task=task)
    command = [sys.executable, "-m", "bursar.cli.main", "why", task, "--home", str(home)]
    told = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, timeout=30)
    assert told.stdout == f"{task} is cancelled: it has ended: cancelled\n", told.stderr


def _is_of(task: str, body: dict[str, Any]) -> bool:
    return body.get("task") == task


async def beside_the_messages(talker: Talker) -> None:
    """A payload that is stored in a part of its own, and a program that is cancelled with its one task."""
    data = b"what is too large for a message"
    name = hashlib.sha256(data).hexdigest()
    await talker.ask("scheduler", "put", encoding=MSGPACK, blob=name, size=len(data), part=0, data=data)
    ref = {"$blob": name, "owner": "agent-1", "size": len(data), "packed": len(data), "encoding": "none"}
    await talker.ask("scheduler", "submit", key="large", task_class="nobody-knows", payload=ref, program="run-7")
    await talker.ask("scheduler", "get", task="agent-1.large", owner="agent-1", blob=name)
    await talker.ask("scheduler", "cancel-program", program="run-7")


async def moved(talker: Talker) -> None:
    """An optimiser looks at what waits, and proposes a move that is worth nothing."""
    told = await talker.ask("scheduler", "snapshot", "adm")
    move = {"task": "agent-1.nothing", "worker": "worker-1", "gain_us": 1}
    await talker.ask("scheduler", "propose", "adm", sequence=told["sequence"], moves=[move])


async def one_after_the_other(talker: Talker) -> None:
    """A graph of two tasks; the second asks what the first has given."""
    items = [{"name": "a"}, {"name": "b", "after": ["a"]}]
    await talker.ask("scheduler", "graph", name="g", template={"task_class": "echo"}, items=items)
    for name in ("a", "b"):
        task = f"agent-1.g:{name}"
        told = await talker.notice(f"{name} is assigned", partial(_is_of, task))
        part = {"task": told["task"], "token": told["token"]}
        for verb in ("start", "inputs", "finish"):
            await talker.ask("scheduler", verb, "work", **part)
