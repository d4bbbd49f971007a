"""The process of a service: connections, endpoints, one runner per shard, signals. The same for all services.

    run(SPEC, settings)        # the whole main of a service

Start: connect as two principals, load, follow or claim, listen when owner. Stop (SIGTERM): stop listening, commit and
answer what was accepted, resign so that a standby takes over at once, close. A connection that has ended for ever ends
the process with status 1, for the supervisor to start another.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import secrets
import signal
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]

from bursar.bus.base import BusError
from bursar.bus.call import Call
from bursar.bus.codec import MSGPACK, encode
from bursar.bus.connection import NatsBus, connect
from bursar.bus.micro import Service
from bursar.bus.server.binary import check_server
from bursar.bus.signing import Signer, Verifier
from bursar.contracts.base import event_subject, notice_subject
from bursar.errors import BursarError, CallerError, make_error
from bursar.kernel.acts import Acts
from bursar.kernel.clock import Clock, SystemClock
from bursar.kernel.decider import Broadcast, Command, Fence, Notice, Refuse, Reject
from bursar.kernel.desk import Request, digest_of
from bursar.kernel.doors import open_doors
from bursar.kernel.effects import Answer, Heartbeat
from bursar.kernel.fairness import fairly
from bursar.kernel.fencing import EVERYBODY, Fencer, parse_fence
from bursar.kernel.floor import FloorFile
from bursar.kernel.health import serve_health
from bursar.kernel.inbox_reader import InboxReader, ShardOwner
from bursar.kernel.journal.inbox import JetStreamInbox
from bursar.kernel.pauses import PauseMeter
from bursar.kernel.process import fast_loop, tame_garbage_collection
from bursar.kernel.pulse import Pulsing
from bursar.kernel.replica import Replica
from bursar.kernel.replies import whole, whole_packed
from bursar.kernel.rights_file import first_of_all
from bursar.kernel.roles import Options, Role
from bursar.kernel.runner import ShardRunner
from bursar.kernel.settings import ServiceSettings
from bursar.kernel.spec import ServiceSpec, Verb
from bursar.kernel.watching import Watch
from bursar.telemetry import traces
from bursar.telemetry.logs import to_stderr
from bursar.telemetry.stream import publish_lines

log = logging.getLogger("bursar.kernel")

OWNER_KIND: Final = "owner"
JOURNAL: Final = "journal"
"""Where the metadata of a service say how its journal is: ok, or full."""
OBSERVATIONS_WAITING: Final = 4_000
"""With so many commands in line no observation joins them: whoever floods the service with observations must not take
the place of requests (the line holds 20,000)."""
_pack = msgpack.Packer(use_bin_type=True, autoreset=True).pack


class Host:
    """One instance of a service. ``bus`` hears agents, ``log_bus`` has the journal."""

    def __init__(
        self, spec: ServiceSpec, settings: ServiceSettings, bus: NatsBus, log_bus: NatsBus, clock: Clock | None = None
    ) -> None:
        self.spec = spec
        self.settings = settings
        self._bus = bus
        self._fencer, self._signer = _keys(settings)
        self._acts = Acts(spec.name, log_bus, self._signer) if settings.audit else None
        self._verifier = Verifier({spec.name: self._signer.public_key})
        metadata = {"shard": str(settings.shard), JOURNAL: "ok"}
        self.service = Service(bus, spec.name, spec.version, spec.description, metadata, instance=settings.instance)
        self.pauses = PauseMeter()
        self.service.about_process = self.pauses.facts
        self._shard = settings.shard
        self._wanted = False
        self._switching = asyncio.Event()
        self._switch: asyncio.Task[None] | None = None
        options = Options(
            takeover_ms=settings.takeover_ms,
            lease_ms=settings.takeover_ms * 7 // 10,
            snapshot_ms=settings.snapshot_ms,
            snapshot_events=settings.snapshot_events,
        )
        self._watch = Watch(spec.name)
        replica = Replica(self._watch.decider(spec.decider()), secrets.token_bytes(8), options)
        floor = None
        if settings.data_dir is not None:
            floor = FloorFile(settings.data_dir, spec.name, self._shard, self._fencer)
        journal = self._watch.journal(log_bus, self._shard)
        clock = clock or SystemClock()
        self.runner = ShardRunner(replica, journal, clock, self, floor, self.pauses.late)
        self.inbox: InboxReader | None = None
        if spec.inbox is not None:
            owner = ShardOwner(self.runner, spec.inbox.position)
            self.inbox = InboxReader(JetStreamInbox(log_bus, spec.name), spec.inbox, owner, clock.monotonic_ms)
        self.pulsing: Pulsing | None = None
        if spec.pulse is not None:
            self.pulsing = Pulsing(spec.pulse, lambda: self.runner.replica, clock, self.announce)
        log_bus.on_reconnect(self._reconnected)
        bus.on_read(self.runner.pump_offered)

    async def start(self) -> None:
        handlers = fairly(self.settings.principal_rate, self._watch.calls(self._on_call), self._on_observation)
        on_admin = handlers[0] if self._acts is None else self._acts.before(handlers[0])
        await open_doors(self.service, self.spec, *handlers, on_admin)
        await self._bus.subscribe(event_subject(self.spec.name, OWNER_KIND, str(self._shard)), self._on_heartbeat)
        await self.service.start()
        self._switch = asyncio.get_running_loop().create_task(self._switch_endpoints())
        self._switch.add_done_callback(_must_not_fail)
        self.runner.start()
        self.pauses.start()
        if self.pulsing is not None:
            self.pulsing.start()

    async def stop(self) -> None:
        """Drain, resign and stop."""
        self._wanted = False
        if self.inbox is not None:
            self.inbox.stop()
        if self.pulsing is not None:
            self.pulsing.stop()
        for endpoint in self.service.endpoints.values():
            await endpoint.drain()
        await self.runner.drain(self.settings.drain_seconds)
        if self._acts is not None:
            await self._acts.stop()
        left = await self.service.drain(1.0)
        if self._switch is not None:
            self._switch.cancel()
        await self.runner.stop()
        self.pauses.stop()
        log.info("stopped", extra={"unanswered": left})

    # ---- requests in

    def _on_call(self, call: Call, rule: Verb) -> None:
        body: Any = call.decode(rule.message)
        call.release()
        if rule.genuine:
            self._refuse_forged(body, rule.genuine, call.principal)
        seen = body.seen
        if seen is not None and self._is_beyond(seen, call.principal):
            raise make_error("not_ready", "this instance is behind what you have seen; ask again")
        if rule.query:
            request = Request(call, Command(call.principal, "", body), b"", 0)
        else:
            request = Request(call, Command(call.principal, body.id, body), digest_of(body), body.acked, body.patient)
        if not self.runner.take(request):
            raise self._not_now()

    def _on_observation(self, principal: str, body: Any, rule: Verb) -> bool:
        if rule.genuine:
            self._refuse_forged(body, rule.genuine, principal)
        if len(self.runner.replica.queue) >= OBSERVATIONS_WAITING:
            return False
        return self.runner.take(Request(None, Command(principal, "", body), b"", 0))

    def _refuse_forged(self, body: Any, names: Sequence[str], principal: str) -> None:
        for name in names:
            fence = getattr(body, name)
            if fence is not None and not self._fencer.is_genuine(fence, principal):
                raise CallerError(
                    "bad_fence", f"the fence in '{name}' was not given to you by this service", field=name
                )

    def _is_beyond(self, seen: str, principal: str) -> bool:
        fence = parse_fence(seen)
        if self.runner.replica.folded.knows(fence):
            return False
        if not any(self._fencer.is_genuine(seen, given_to) for given_to in (principal, EVERYBODY)):
            raise CallerError("bad_fence", "the fence in 'seen' was not given to you by this service")
        return self.runner.saw(fence)

    def _not_now(self) -> BursarError:
        role = self.runner.replica.role
        if role is Role.RECOVERING:
            return make_error("failed_closed", "the journal has lost entries; this service is recovering")
        if role is Role.OWNER and self.runner.replica.is_full:
            return make_error("journal_full", "the journal has no room; ask again")
        if role is Role.OWNER:
            return make_error("not_ready", "too many requests are waiting for a decision; ask again")
        return make_error("not_ready", "this instance does not own the shard; ask again")

    # ---- what the runner sends out

    def answer(self, answer: Answer) -> None:
        call: Call | None = answer.ticket
        if call is None or not call.is_open:
            return
        outcome = answer.outcome
        if isinstance(outcome, Reject):
            error = make_error(outcome.code, outcome.text, outcome.facts)
            if self._acts is not None:
                self._acts.refused(call, error)
            call.fail(error)
            return
        packed = outcome if isinstance(outcome, bytes) else answer.packed
        fence = self._fencer.seal(answer.fence, call.principal)
        if packed and call.encoding == MSGPACK:
            call.respond(whole_packed(packed, fence))
            return
        if isinstance(outcome, bytes):
            outcome = msgpack.unpackb(outcome)
        reply = outcome.reply if isinstance(outcome, Refuse) else outcome
        try:
            payload = encode(whole(reply, fence), call.encoding)
        except (ValueError, TypeError, OverflowError) as error:  # a fault of the service must not end it for all
            log.warning("answer_cannot_be_written", extra={"error": type(error).__name__, "principal": call.principal})
            call.fail(make_error("internal", "the answer cannot be written"))
        else:
            call.respond(payload)

    def drop(self, ticket: Any) -> None:
        if ticket is not None:
            ticket.drop()

    def announce(self, broadcast: Broadcast | Notice, fence: Fence) -> None:
        given_to = broadcast.principal if isinstance(broadcast, Notice) else EVERYBODY
        body = {**broadcast.body, "fence": self._fencer.seal(fence, given_to)}
        try:
            if isinstance(broadcast, Notice):
                self._bus.publish(notice_subject(broadcast.principal), _pack({"v": 1, **body}))
            else:
                self._publish(event_subject(self.spec.name, broadcast.kind, broadcast.name), body)
        except BusError:
            pass  # who listens repairs by asking
        except (BursarError, ValueError, TypeError, OverflowError) as error:  # must not end the service for all
            log.warning("announcement_cannot_be_sent", extra={"error": type(error).__name__})

    def heartbeat(self, beat: Heartbeat) -> None:
        subject = event_subject(self.spec.name, OWNER_KIND, str(self._shard))
        self._publish(subject, {"fence": list(beat.fence), "sequence": beat.sequence, "leaving": beat.leaving})

    def cork(self) -> None:
        self._bus.cork()

    def write_out(self) -> None:
        self._bus.write_out()

    def journal_full(self, is_full: bool) -> None:
        """Whoever asks the service for PING, INFO or STATS sees it."""
        self.service.metadata[JOURNAL] = "full" if is_full else "ok"

    def warn(self, suspect: Fence) -> None:
        self._publish(event_subject(self.spec.name, OWNER_KIND, str(self._shard)), {"suspect": list(suspect)})

    def _publish(self, subject: str, body: dict[str, Any]) -> None:
        with contextlib.suppress(BusError):
            self._bus.publish(subject, self._signer.sign(subject, body))

    def _on_heartbeat(self, msg: Any) -> None:
        try:
            body = self._verifier.open(msg.subject, msg.data)
            if "suspect" in body:
                self.runner.saw(_fence_of(body["suspect"]))
            else:
                self.runner.heard(_fence_of(body["fence"]), body["sequence"], body["leaving"])
        except (BursarError, LookupError, ValueError):
            log.warning("heartbeat_refused")

    # ---- roles

    def role_changed(self, role: str, reason: str) -> None:
        self._wanted = role in (Role.OWNER, Role.RECOVERING)
        if role == Role.STANDBY:
            gc.freeze()  # what was loaded lives long
        if role == Role.OWNER:
            for body in first_of_all(self.spec, self.settings, self.runner.replica.folded.state):
                self.runner.offer(Request(None, Command(self._bus.principal, "", body), b"", 0))
        if role == Role.OWNER and self.pulsing is not None:
            self.pulsing.soon()
        self._read_inbox()
        self._switching.set()

    def _reconnected(self) -> None:
        self.runner.reconnected()
        self._read_inbox()

    def _read_inbox(self) -> None:
        """Only the owner reads, and after anything that may have come between it begins again."""
        if self.inbox is None:
            return
        if self._wanted and self.runner.replica.role is Role.OWNER:
            self.inbox.start()
        else:
            self.inbox.stop()

    async def _switch_endpoints(self) -> None:
        """Listen as owner, and only then: a standby that is paused must swallow nothing."""
        while True:
            await self._switching.wait()
            self._switching.clear()
            endpoints = self.service.endpoints.values()
            switched = (endpoint.listen() if self._wanted else endpoint.drain() for endpoint in endpoints)
            try:
                await asyncio.gather(*switched)  # at once: whoever is answered by one verb finds all others
            except BusError:
                self._switching.set()
                await asyncio.sleep(0.1)


def _must_not_fail(task: asyncio.Task[None]) -> None:
    """An owner that never listens (say) looks healthy to everybody: better that the process ends and is started
    again."""
    if not task.cancelled() and (error := task.exception()) is not None:
        task.get_loop().call_exception_handler({"message": "a task of the host has failed", "exception": error})


def _fence_of(value: Sequence[int]) -> Fence:
    incarnation, epoch, number = value
    return (incarnation, epoch, number)


def _keys(settings: ServiceSettings) -> tuple[Fencer, Signer]:
    directory = settings.keys_dir
    if directory is None:
        log.warning("keys_made_up")
        return Fencer(secrets.token_bytes(32)), Signer.generate()
    return Fencer((directory / "fence.key").read_bytes()), Signer.load_or_create(directory / "signing.nk")


Beside = Callable[[Host], Coroutine[Any, Any, None]]
"""What a process may do beside its service, with the host at hand."""


async def serve(spec: ServiceSpec, settings: ServiceSettings, beside: Beside | None = None) -> int:
    """Run until SIGTERM or SIGINT (status 0) or until the connection has ended for ever (status 1).

    ``beside``: what else this process does as long as the host runs; when it fails, the process ends with status 1.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def end(status: int) -> None:
        if not ended.done():
            ended.set_result(status)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, 0)

    def fail(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        log.critical("failed", exc_info=context.get("exception"))
        end(1)

    loop.set_exception_handler(fail)
    name = f"svc-{spec.name}"
    urls = settings.url.split(",")
    traces.begin(f"bursar-{spec.name}", settings.instance)
    bus = await connect(urls, settings.creds, principal=name, on_closed=lambda: end(1), gather_s=spec.gather_ms / 1000)
    log_bus = await connect(urls, settings.log_creds, principal=f"{name}-log", on_closed=lambda: end(1))
    check_server(bus)
    lines = publish_lines(spec.name, settings.instance, bus.publish, loop)
    host = Host(spec, settings, bus, log_bus)
    work: asyncio.Task[None] | None = None
    health: asyncio.Server | None = None
    try:
        tame_garbage_collection()
        await host.start()
        health = await serve_health(settings, host.service, host.runner, (bus, log_bus))
        log.info("started", extra={"version": spec.version})
        if beside is not None:
            work = loop.create_task(beside(host))
            work.add_done_callback(_must_not_fail)
        status = await ended
        if status == 0:
            await host.stop()
    finally:
        if health is not None:
            health.close()
        if work is not None:
            work.cancel()
        logging.getLogger().removeHandler(lines)
        await bus.close()
        await log_bus.close()
    return status


def run(spec: ServiceSpec, settings: ServiceSettings, beside: Beside | None = None) -> int:
    """The whole main of a service; returns the exit status. ``beside``: see `serve`."""
    to_stderr(spec.name, settings.instance, settings.log_level)
    try:
        with asyncio.Runner(loop_factory=fast_loop()) as runner:
            return runner.run(serve(spec, settings, beside))
    except BursarError as error:
        log.critical("cannot_start", extra={"code": error.code, "text": error.text})
        return 1
