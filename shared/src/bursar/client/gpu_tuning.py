"""An engine that follows the manager's advice: it tries what is recommended, and runs as much at a time as it should.

::

    async def apply(kind, number):                  # "batch" or "replicas"
        await engine.restart(**{kind: number})

    async def measure():                            # one window, a few seconds of the usual work
        return Window(throughput=9_032_789, itl_us=13_894, preemptions=0)

    outcome = await fleet.gpu.moves.follow(curve, batch=32, apply=apply, measure=measure)

    pacer = fleet.gpu.moves.pacer(most=64)
    async with pacer:                               # waits while as many requests run as should
        cpu_us, gpu_us = await engine.run(request)
        pacer.step(cpu_us, gpu_us)

A change is measured before (the baseline) and after; the manager judges. What it takes back, or what fails here in the
meantime, is taken back in the engine before `follow` returns or raises: an engine never stays with a number that nobody
has found good. Nothing is tried that ``agree`` says no to. While the manager cannot be reached a pacer stays as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self

from bursar.contracts.gpu_advice import AdviceStep, Recommendation, Tuned
from bursar.errors import BursarError, CallerError

if TYPE_CHECKING:
    from bursar.client.gpu_moves import GpuMoves

BASELINE: Final = 3
"""Windows before a change."""
PACE_S: Final = 1.0
"""Length of a pacer's window."""

Outcome = Literal["nothing", "declined", "kept", "rolled_back"]


class Window(NamedTuple):
    """What was measured: thousandths of a token per second, microseconds between tokens, sequences preempted."""

    throughput: int
    itl_us: int
    preemptions: int = 0


Apply = Callable[[Literal["batch", "replicas"], int], Awaitable[object]]
"""Makes the engine run with another number; called again with the old one to take it back."""
Measure = Callable[[], Awaitable[Window]]


async def follow(
    moves: GpuMoves, told: Tuned, apply: Apply, measure: Measure, agree: Callable[[Recommendation], bool] | None
) -> Outcome:
    """Carry out what the manager has recommended, as a canary; see the head of this page."""
    what = told.recommendation
    if told.step != "recommended" or what is None:
        return "nothing"
    if agree is not None and not agree(what):
        await moves.tune_step("declined")
        return "declined"
    await moves.tune_step("agreed")
    try:
        for _ in range(BASELINE):
            await moves.tune_window(*await measure())
        await apply(what.kind, what.then)
        step = (await moves.tune_step("applied")).step
        while step == "canary":
            step = await _window(moves, await measure())
    except BaseException:
        await asyncio.shield(_take_back(moves, what, apply))
        raise
    if step == "kept":
        return "kept"
    await apply(what.kind, what.now)
    return "rolled_back"


async def _window(moves: GpuMoves, window: Window) -> AdviceStep | None:
    """Where the change is after a window of the trial; one whose time was over meanwhile is rolled back."""
    try:
        return (await moves.tune_window(*window)).step
    except CallerError:
        return "rolled_back"


async def _take_back(moves: GpuMoves, what: Recommendation, apply: Apply) -> None:
    """The engine first: what the manager is told has happened then, and the engine does not wait for its answer."""
    await apply(what.kind, what.now)
    with contextlib.suppress(BursarError):  # without it the change ends by its time
        await moves.tune_step("declined")


class Pacer:
    """At most ``limit`` at a time; the manager says how many, from 1 to ``most``, by where the time of steps goes."""

    def __init__(self, moves: GpuMoves, most: int) -> None:
        self._moves = moves
        self._now = moves.clock.now
        self.most = most
        self.limit = most
        self.running = 0
        self._changed = asyncio.Event()
        self._sums = [0, 0, 0]
        self._asking: asyncio.Task[Any] | None = None
        self._since = self._now()

    async def __aenter__(self) -> Self:
        while self.running >= self.limit:
            self._changed.clear()
            await self._changed.wait()
        self.running += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.running -= 1
        self._changed.set()

    def step(self, cpu_us: int, gpu_us: int) -> None:
        """A step of the engine took so long on the CPU and on the GPU. Once a second the manager is told the sums."""
        self._sums = [self._sums[0] + cpu_us, self._sums[1] + gpu_us, self._sums[2] + 1]
        is_asking = self._asking is not None and not self._asking.done()
        if not is_asking and self._now() >= self._since + PACE_S * 1_000.0:
            sums, self._sums, self._since = self._sums, [0, 0, 0], self._now()
            self._asking = self._moves.background.spawn(self._ask(*sums))

    async def _ask(self, cpu_us: int, gpu_us: int, steps: int) -> None:
        with contextlib.suppress(BursarError):
            self.limit = (await self._moves.pace(cpu_us, gpu_us, steps, self.most)).limit
            self._changed.set()
