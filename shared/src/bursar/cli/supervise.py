"""Child processes that are kept running: restarted with growing pauses, stopped in good order.

A child that ends is started again after a pause that doubles with each quick end (with jitter, so that several do
not start in step) and falls back to the shortest once a child has run for a while. `stop` sends SIGTERM to all,
waits, and kills what is left. Each line a child writes is passed on with the child's name before it.

Children run in sessions of their own: Ctrl-C reaches only the supervisor, which then stops them in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

MAX_LINE = 16_384
"""Longer lines of a child are cut into pieces of this many bytes."""


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to run: ``env`` is added to this process's environment."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses before restarts, in seconds: ``first``, doubling to ``longest``, each between 50 and 100 % of that.

    A child that has run for ``stable`` seconds is trusted again: its next pause is ``first``.
    """

    first: float = 0.2
    longest: float = 15.0
    stable: float = 20.0

    def pause(self, quick_ends: int, rng: random.Random) -> float:
        """The pause after that many quick ends in a row (1 or more)."""
        full = min(self.longest, self.first * 2.0 ** min(quick_ends - 1, 32))
        return full * rng.uniform(0.5, 1.0)


class Child:
    """One child process, restarted until `stop`."""

    def __init__(
        self, spec: ChildSpec, echo: Callable[[str], None], backoff: Backoff, rng: random.Random | None = None
    ) -> None:
        self.spec = spec
        self.starts = 0
        self._echo = echo
        self._backoff = backoff
        self._rng = rng or random.Random()
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Of the running process; None between two runs."""
        return self._process.pid if self.running and self._process is not None else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep_running(), name=f"child-{self.spec.name}")

    async def stop(self, grace: float) -> bool:
        """SIGTERM, wait ``grace`` seconds, SIGKILL. True when the child ended by itself in time."""
        self._stopping.set()
        self._signal(signal.SIGTERM)
        if self._task is None:
            return True
        try:
            await asyncio.wait_for(asyncio.shield(self._task), grace)
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await self._task
            return False
        return True

    async def _keep_running(self) -> None:
        quick_ends = 0
        clock = asyncio.get_running_loop().time
        while not self._stopping.is_set():
            began = clock()
            status = await self._run_once()
            if self._stopping.is_set():
                return
            quick_ends = 1 if clock() - began >= self._backoff.stable else quick_ends + 1
            pause = self._backoff.pause(quick_ends, self._rng)
            self._echo(f"{self.spec.name} {_ended(status)}; starting it again in {pause:.1f} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _run_once(self) -> int | str:
        """Run to the end; the exit status, or why it could not be started."""
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                *self.spec.command,
                env={**os.environ, **self.spec.env},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return f"cannot be started: {error}"
        self.starts += 1
        if self._stopping.is_set():
            self._signal(signal.SIGTERM)
        assert process.stdout is not None
        async for line in _lines(process.stdout):
            self._echo(f"{self.spec.name} | {line}")
        return await process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self.running and self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


class Supervisor:
    """Several children; ``echo`` gets their lines and what happens to them."""

    def __init__(self, echo: Callable[[str], None], backoff: Backoff | None = None) -> None:
        self._echo = echo
        self._backoff = backoff or Backoff()
        self.children: list[Child] = []

    def start(self, spec: ChildSpec) -> Child:
        child = Child(spec, self._echo, self._backoff)
        self.children.append(child)
        child.start()
        return child

    async def stop(self, grace: float = 15.0) -> bool:
        """Stop all at once, ``grace`` seconds for each to drain. True when none had to be killed."""
        results = await asyncio.gather(*(self._stop(child, grace) for child in self.children))
        self.children.clear()
        return all(results)

    async def _stop(self, child: Child, grace: float) -> bool:
        in_time = await child.stop(grace)
        self._echo(f"{child.spec.name} {'stopped' if in_time else f'did not stop in {grace:g} s and was killed'}")
        return in_time


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Lines of a child, undecodable bytes replaced; one without an end is cut at `MAX_LINE`."""
    rest = b""
    while chunk := await stream.read(MAX_LINE):
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) >= MAX_LINE:
            whole, rest = [*whole, rest], b""
        for line in whole:
            yield line.decode(errors="replace").rstrip("\r")
    if rest:
        yield rest.decode(errors="replace")


def _ended(status: int | str) -> str:
    if isinstance(status, str):
        return status
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
