"""Leases that their owner agrees to move, and advice for engines.

::

    async def reload(there: GpuLease) -> None:      # called when the manager would like the memory elsewhere
        load_the_model(there.device)                # both leases hold meanwhile
        switch_over(there)                          # when it returns, the first lease is released

    lease = await fleet.gpu.lease(12 << 30)
    await fleet.gpu.moves.allow(lease, reload, cost=0.5)

What raises in the callback ends the move: the second lease goes back, the first stays. After a move the second lease
may be moved in the same way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from bursar.client.background import Background
from bursar.client.gpu_asking import query, read, request
from bursar.client.gpu_lease import GpuLease
from bursar.client.gpu_tuning import Apply, Measure, Outcome, Pacer, follow
from bursar.client.time import Clock
from bursar.contracts.gpu_advice import Advised, Paced, Recommendation, Started, Tuned
from bursar.contracts.gpu_moves import FragmentationReply
from bursar.errors import BursarError

if TYPE_CHECKING:
    from bursar.client.gpu import Gpu

Reload = Callable[[GpuLease], Awaitable[object]]
"""Loads what the first lease is for into the second, and uses that from then on."""


class Allowed(NamedTuple):
    lease: GpuLease
    reload: Reload
    cost: float
    hosts: tuple[str, ...]


class GpuMoves:
    """Made by `Gpu`: ``fleet.gpu.moves``. All methods raise a `bursar.errors.BursarError`."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._allowed: dict[str, Allowed] = {}
        self.failures: list[Exception] = []

    async def allow(self, lease: GpuLease, reload: Reload, *, cost: float = 0.0, hosts: Sequence[str] = ()) -> None:
        """The lease may be moved. ``cost``: seconds of work that an interruption costs beside loading; ``hosts``: only
        to these. ``reload`` must return in five minutes."""
        before = self._allowed.get(lease.id)
        mine = self._allowed[lease.id] = Allowed(lease, reload, cost, tuple(hosts))  # asked, maybe, before the answer
        try:
            await self._say(lease, cost_ms=int(cost * 1_000), hosts=list(hosts))
        except BaseException:
            if self._allowed.get(lease.id) is mine:  # unless it was forbidden, moved, or allowed otherwise meanwhile
                del self._allowed[lease.id]
                if before is not None:
                    self._allowed[lease.id] = before
            raise

    async def forbid(self, lease: GpuLease) -> None:
        """It may not be moved any more."""
        self._allowed.pop(lease.id, None)
        await self._say(lease, cost_ms=None)

    async def fragmentation(self, memory: int | None = None, devices: int = 1) -> FragmentationReply:
        """How much of what is free is in remainders; with ``memory`` also what would have to move so that it fits."""
        return await query(self._gpu, "fragmentation", FragmentationReply, memory=memory, devices=devices)

    # -- advice

    async def startup(self, lease: GpuLease, model: str, *, engine: str = "vllm", **how: Any) -> Started:
        """Arguments with which an engine stays within a lease. ``how``: as `Gpu.what_if`; and ``host_memory``,
        ``swap_space_fraction`` (thousandths), ``visible``."""
        own = {name: how.pop(name) for name in ("host_memory", "swap_space_fraction", "visible") if name in how}
        load = {"model": model, **how}
        return await query(
            self._gpu, "startup", Started, lease=lease.id, fence=lease.fence, engine=engine, load=load, **own
        )

    async def advise(self, curve: dict[str, Any], **more: Any) -> Advised:
        """Which batch and how many replicas; see `bursar.contracts.gpu_advice.Advise`."""
        return await query(self._gpu, "advise", Advised, curve=curve, **more)

    async def pace(self, cpu_us: int, gpu_us: int, steps: int, most: int) -> Paced:
        """How many requests should run at a time, after this window."""
        return await query(self._gpu, "pace", Paced, cpu_us=cpu_us, gpu_us=gpu_us, steps=steps, most=most)

    async def tune(self, curve: dict[str, Any], batch: int, replicas: int = 1, *, another: int | None = None) -> Tuned:
        """Tell what this worker measured and what it runs with; a better number may be recommended. ``another``: bytes
        that one more engine would take. See `bursar.contracts.gpu_advice.Tune`."""
        return await self._change("tune", curve=curve, batch=batch, replicas=replicas, another=another)

    async def tune_step(self, step: Literal["agreed", "declined", "applied"]) -> Tuned:
        """Agree to what was recommended, decline it, or say that it is applied as a canary."""
        return await self._change("tune-step", step=step)

    async def tune_window(self, throughput: int, itl_us: int, preemptions: int = 0) -> Tuned:
        """Tell a window: the baseline before a change, the trial after it. ``step`` of the answer says what follows:
        ``canary`` (go on), ``kept``, or ``rolled_back`` (take it back now)."""
        return await self._change("tune-window", throughput=throughput, itl_us=itl_us, preemptions=preemptions)

    async def follow(
        self,
        curve: dict[str, Any],
        batch: int,
        *,
        apply: Apply,
        measure: Measure,
        replicas: int = 1,
        another: int | None = None,
        agree: Callable[[Recommendation], bool] | None = None,
    ) -> Outcome:
        """Tell the curve and try what is then recommended: ``apply`` it as a canary, ``measure`` windows, and take it
        back unless it proves good. Returns ``nothing`` (all is well as it is, or a change is open already),
        ``declined`` (``agree`` said no), ``kept`` or ``rolled_back``; what ``apply`` and ``measure`` raise comes out
        after the engine has its old number again."""
        told = await self.tune(curve, batch, replicas, another=another)
        return await follow(self, told, apply, measure, agree)

    def pacer(self, most: int) -> Pacer:
        """For ``async with``: lets as many requests run at a time as the manager says, at most so many."""
        return Pacer(self, most)

    # -- inside

    @property
    def clock(self) -> Clock:
        return self._gpu.clock

    @property
    def background(self) -> Background:
        return self._gpu.background

    def hear(self, body: dict[str, Any]) -> None:
        """The manager would like a lease elsewhere; whose owner did not allow it, does not answer, which declines."""
        allowed = self._allowed.get(str(body.get("lease")))
        if allowed is not None and allowed.lease.held:
            self._gpu.background.spawn(self._move(allowed))

    async def _move(self, allowed: Allowed) -> None:
        lease = allowed.lease
        fields = {"lease": lease.id, "fence": lease.fence, "agree": True}
        try:
            reply = await self._gpu.caller.ask("move", fields, self._gpu.clock.now() + lease.ttl * 1_000.0)
            if reply.body.get("ok") is not True:
                return
            there = self._gpu.take(lease.fields, reply)
        except BursarError:
            return
        await self._reload(allowed, there)

    async def _reload(self, allowed: Allowed, there: GpuLease) -> None:
        try:
            await allowed.reload(there)
            there.check()
        except Exception as error:  # noqa: BLE001 - whatever the owner's code raises: the first lease stays
            self.failures.append(error)
            await there.release()
            return
        self._allowed.pop(allowed.lease.id, None)
        await allowed.lease.release()
        try:
            await self.allow(there, allowed.reload, cost=allowed.cost, hosts=allowed.hosts)
        except BursarError:
            return  # it stays where it is then

    async def _say(self, lease: GpuLease, **fields: Any) -> None:
        await request(self._gpu, "movable", lease=lease.id, fence=lease.fence, **fields)

    async def _change(self, verb: str, **fields: Any) -> Tuned:
        return read(Tuned, await request(self._gpu, verb, **fields))
