"""A replica on the work bench: its effects are kept in a list, and the test decides what becomes of each."""

from __future__ import annotations

from typing import Any, TypeVar

from bursar.kernel.decider import Command
from bursar.kernel.desk import Request, digest_of
from bursar.kernel.effects import Answer, Append, Effect, Inspect, Load, WriteBase
from bursar.kernel.errors import Conflict, JournalFull
from bursar.kernel.journal.memory import MemoryJournal, MemoryStore
from bursar.kernel.loader import load
from bursar.kernel.replica import Replica
from bursar.kernel.roles import Options, Role
from bursar.kernel.snapshot import manifest_of, split
from tests.simulation.simulator import finish
from tests.simulation.toy import BankDecider, Body

E = TypeVar("E")


def pay(
    request_id: str, amount: int = 1, *, account: str = "ada", acked: int = 0, op: str = "pay", ms: int = 0
) -> Body:
    return Body(op=op, account=account, amount=amount, ms=ms, id=request_id, acked=acked)


def request(body: Body, ticket: Any = None, principal: str = "agent") -> Request:
    return Request(ticket or body.id, Command(principal, body.id, body), digest_of(body), body.acked)


class Bench:
    """One instance. ``mono`` is its clock; ``effects`` is what it wants done, in order."""

    def __init__(self, name: str, store: MemoryStore, mono: int = 1_000, options: Options | None = None) -> None:
        self.journal = MemoryJournal(store)
        self.store = store
        self.mono = mono
        self.replica = Replica(BankDecider(), name.encode().ljust(8, b"."), options)

    def role(self) -> Role:
        return self.replica.role

    # ---- what it wants

    def take(self, kind: type[E]) -> E:
        """The first effect of this kind, which must be there; it is removed with those before it of any kind."""
        effects = self.replica.effects
        for index, effect in enumerate(effects):
            if isinstance(effect, kind):
                del effects[: index + 1]
                return effect
        raise AssertionError(f"no {kind.__name__} in {effects}")

    def wants(self, kind: type[Effect]) -> bool:
        return any(isinstance(effect, kind) for effect in self.replica.effects)

    def answers(self) -> list[Answer]:
        """All answers so far; they are removed, the other effects stay."""
        found = [effect for effect in self.replica.effects if isinstance(effect, Answer)]
        self.replica.effects = [effect for effect in self.replica.effects if not isinstance(effect, Answer)]
        return found

    # ---- carrying it out

    def settle(self) -> list[Effect]:
        """Carry out everything with the store, until nothing is left to do; returns what needs no store. The moment
        passes after which a recovering owner looks again."""
        left: list[Effect] = []
        while self.replica.effects or self._looks_again():
            effect = self.replica.effects.pop(0)
            if not self._do(effect):
                left.append(effect)
        return left

    def _looks_again(self) -> bool:
        moment = self.replica.options.takeover_ms // 2
        if self.role() is not Role.RECOVERING:
            return False
        self.replica.tick(self.mono + moment)
        if self.replica.effects:
            self.mono += moment
        return bool(self.replica.effects)

    def _do(self, effect: Effect) -> bool:
        match effect:
            case Load():
                self.load(effect)
            case Append():
                self.append(effect)
            case Inspect(token, sequence):
                self.replica.inspected(token, finish(self.journal.inspect(sequence)), self.mono)
            case WriteBase(token, data):
                self.write_base(token, data)
            case _:
                return False
        return True

    def load(self, effect: Load, floor: tuple[int, int, int] | None = None) -> None:
        follower, damage = finish(load(self.journal, self.replica.decider))
        self.replica.loaded(effect.token, follower, self.mono, damage, floor)

    def append(self, effect: Append) -> None:
        try:
            sequence = finish(self.journal.append(effect.expected, effect.payload))
        except Conflict as conflict:
            self.replica.refused(effect.token, conflict.facts["code"], self.mono)
        except JournalFull:
            self.replica.no_room(effect.token, self.mono)
        else:
            self.replica.appended(effect.token, sequence, self.mono)

    def write_base(self, token: int, data: bytes) -> None:
        chunks = list(split(data))
        manifest = manifest_of(f"base-{token}", 0, bytes(16), "", data, len(chunks))
        for index, chunk in enumerate(chunks):
            finish(self.journal.put_chunk(manifest.id, index, chunk))
        self.replica.base_written(token, manifest, self.mono)

    # ---- scenes

    def start(self) -> Bench:
        self.replica.start(self.mono)
        self.settle()
        return self

    def wait(self, ms: int) -> Bench:
        """Let so much time pass and tick once."""
        self.mono += ms
        self.replica.tick(self.mono)
        return self

    def ask(self, body: Body, ticket: Any = None) -> bool:
        """Offer a request and pump."""
        taken = self.replica.offer(request(body, ticket))
        self.replica.pump(self.mono)
        return taken

    def follow(self) -> None:
        """Read what the journal has beyond the head."""
        for sequence, payload in self.store.after(0, self.replica.head.sequence):
            self.replica.tail(sequence, payload, self.mono)


def owner(store: MemoryStore | None = None, options: Options | None = None) -> Bench:
    return Bench("alice", store or MemoryStore(), options=options).start()


def standby(of: Bench, options: Options | None = None) -> Bench:
    return Bench("bob", of.store, mono=50_000, options=options).start()
