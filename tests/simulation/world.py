"""A whole world on one seed: a store, would-be owners, clients, and what goes wrong between them.

`run` plays one history: a stretch in which everything may fail, then (in the liveness mode) healing and the demand
for progress, and the checks of the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress

from bursar.kernel.decider import Broadcast, Notice
from bursar.kernel.errors import JournalFull
from bursar.kernel.journal.memory import CONFLICT_R1, CONFLICT_R3, MemoryJournal, MemoryStore
from bursar.kernel.roles import Role
from bursar.kernel.snapshot import decode_manifest
from tests.simulation.checks import Checker, is_beyond
from tests.simulation.disasters import Disasters, OldLeader
from tests.simulation.faults import CALM, Faults, draw
from tests.simulation.network import Network
from tests.simulation.process import Process
from tests.simulation.simulator import Simulator, Violation
from tests.simulation.workload import Clients, Lively, Question, Workload

OWNER_WITHIN_MS = 2_000
"""After healing there is an owner within this time; three times as long after a loss of entries, because standbys
give an owner that knows more the time to come back."""

ANSWER_WITHIN_MS = 8_000
"""After healing every open request is answered within this time."""


class World:
    """Everything that exists in one history."""

    def __init__(self, simulator: Simulator, workload: Workload, faults: Faults, instances: int) -> None:
        self.simulator = simulator
        self.workload = workload
        self.faults = faults
        self.shard = simulator.between(0, 3)
        code = CONFLICT_R3 if simulator.chance(0.5) else CONFLICT_R1
        self.store = MemoryStore(conflict_code=code)
        self.journal = MemoryJournal(self.store, self.shard)
        self.checker = Checker(simulator, self.store, workload.decider(), self.shard)
        self.network = Network(self)
        self.clients = Clients(self, simulator.between(1, 5))
        self.disk: dict[str, tuple[int, int, int]] = {}
        self.spoiled: dict[str, bool] = {}
        self.owned_at = 0
        self.is_healed = False
        self._lives = 0
        self._last: list[Question] = []
        self.old_leader: OldLeader | None = None
        self.processes: dict[str, Process | None] = dict.fromkeys("ABC"[:instances])
        for name in self.processes:
            simulator.at(simulator.between(0, 1_500), self.start, name)
        self.disasters = Disasters(self)
        if isinstance(workload, Lively):
            workload.begin(self)

    # ---- processes

    def start(self, name: str) -> None:
        if self.processes[name] is None:
            if self.simulator.chance(self.faults.lost_disk):
                self.disk.pop(name, None)
            self._lives += 1
            self.processes[name] = Process(self, name, self._lives)

    def died(self, process: Process) -> None:
        if self.processes[process.slot] is process:
            self.processes[process.slot] = None
            delay = 50 if self.is_healed else self.simulator.between(50, 3_000)
            self.simulator.at(delay, self.start, process.slot)

    def alive(self) -> list[Process]:
        return [process for process in self.processes.values() if process is not None]

    def owner(self) -> Process | None:
        """The instance that owns the shard according to the journal."""
        for process in self.alive():
            reference = self.checker.reference
            if process.replica.role is Role.OWNER and (
                reference is None or process.replica.fence[:2] == reference.folded.fence[:2]
            ):
                return process
        return None

    def took_office(self, process: Process) -> None:
        self.owned_at = self.simulator.now
        self.checker.count("take_overs")

    def announced(self, broadcasts: Sequence[Broadcast | Notice]) -> None:
        """An owner has told somebody something, after the commit; workloads that care have a method for it."""
        hear = getattr(self.workload, "announced", None)
        if hear is not None:
            hear(self, broadcasts)

    # ---- the store

    def append(self, expected: int, payload: bytes) -> int:
        """Append if the last sequence is as expected; other shards of the stream append too, now and then."""
        sequence = self.store.append(self.shard, expected, payload)
        self.checker.landed(sequence, payload)
        if self.simulator.chance(0.1):
            with suppress(JournalFull):
                self.store.append(9, -1, b"another shard's entry")
        return sequence

    def give_room(self) -> None:
        self.store.max_bytes = math.inf

    def check_manifests(self) -> None:
        self.checker.manifests(self.spoiled)

    def loadable(self) -> bool:
        """Whether some snapshot is whole, or none is needed."""
        manifests = [decode_manifest(raw) for raw in self.store.manifests.get(self.shard, [])]
        return any(manifest.id not in self.spoiled for manifest in manifests)

    # ---- one history

    def heal(self) -> None:
        simulator = self.simulator
        simulator.log("healed")
        self.is_healed = True
        self.faults = CALM
        self.old_leader = None
        self.give_room()
        self.clients.is_asking = False
        for name, process in self.processes.items():
            if process is None:
                self.start(name)
            else:
                process.heal()

    def demand_progress(self) -> None:
        """Heal; then an owner in time, every request answered in time, and nobody knows more than the owner."""
        start = self.simulator.now
        self.heal()
        self._await(OWNER_WITHIN_MS, self._has_owner, "no_owner", "nobody owns the shard")
        self._await(ANSWER_WITHIN_MS, self._is_answered, "no_answer", "requests have no answer")
        self.clients.ask_again_some()
        make, fields = self.workload.last()
        self._last = [self.clients.ask(client, make, fields, True) for client in self.clients.all]
        self._await(ANSWER_WITHIN_MS, self._knows_all, "fence_unknown", "somebody holds a fence beyond the owner's")
        self.checker.counts["healed_after"] = self.simulator.now - start

    def _await(self, ms: int, is_reached: Callable[[], bool], kind: str, text: str) -> None:
        until = self.simulator.now + ms * (3 if self.checker.lossy else 1)
        while not is_reached():
            if self.simulator.now >= until:
                raise Violation(kind, text)
            self.simulator.run(self.simulator.now + 50)

    def _has_owner(self) -> bool:
        owner = self.owner()
        return owner is not None and owner.listening

    def _is_answered(self) -> bool:
        return not any(client.open for client in self.clients.all)

    def _knows_all(self) -> bool:
        """The final queries are answered, too: `Client.seen` is what the owner says now."""
        owner = self.owner()
        if owner is None:
            return False
        if not all(question.is_over for question in self._last):
            return False
        seen = [client.seen for client in self.clients.all if client.seen is not None]
        return not any(is_beyond(fence, owner.replica.committed) for fence in seen)

    def settle(self) -> None:
        """The checks of the end."""
        checker = self.checker
        checker.manifests(self.spoiled)
        checker.replay_everything(self.spoiled)
        checker.bounded()
        owner = self.owner()
        if owner is not None and owner.replica.is_idle:
            checker.compare(owner)
        if checker.reference is not None:
            self._check_workload()

    def _check_workload(self) -> None:
        assert self.checker.reference is not None
        try:
            folded = self.checker.reference.folded
            self.workload.check_state(folded.state, folded.time)
            self.workload.check_end(self)
        except AssertionError as error:
            raise Violation(self.workload.name, str(error)) from error


class History:
    """One seed, played to its end. ``outcome`` stays empty unless a promise was broken."""

    def __init__(self, seed: int, workload: Callable[[], Workload], *, hashed: bool = False) -> None:
        self.simulator = Simulator(seed, hashed=hashed)
        simulator = self.simulator
        self.is_liveness = simulator.chance(0.5)
        regressions = simulator.chance(0.3)
        faults = draw(simulator.random, regressions)
        self.world = World(simulator, workload(), faults, simulator.between(2, 3))
        self.length = simulator.between(4_000, 20_000)

    def play(self) -> None:
        """Raises `Violation`, whose notes say the seed and the last lines of the trace."""
        try:
            self.simulator.run(self.length)
            if self.is_liveness:
                self.world.demand_progress()
            self.world.settle()
        except Exception as error:
            error.add_note(f"seed={self.simulator.seed} decider={self.world.workload.name}")
            error.add_note(f"faults: {self.world.faults}")
            error.add_note(self.simulator.trace())
            raise
