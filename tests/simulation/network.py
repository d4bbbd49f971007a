"""What lies between processes, the store and each other: messages that take their time, get lost, or come twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bursar.kernel.decider import Fence
from bursar.kernel.effects import Append, Heartbeat
from bursar.kernel.errors import Conflict, JournalFull
from bursar.kernel.journal.memory import CONFLICT_R1, CONFLICT_R3, FULL

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

APPEND_TIMEOUT_MS = 600


class Pending:
    """One append effect: it is answered once, by the store or by its time-out."""

    __slots__ = ("effect", "is_late", "is_over", "process")

    def __init__(self, process: Process, effect: Append) -> None:
        self.process = process
        self.effect = effect
        self.is_over = False
        self.is_late = False


class Network:
    """Carries appends and heartbeats."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.simulator = world.simulator

    def append(self, process: Process, effect: Append) -> None:
        """Lost on the way, late (after its time-out), or on time; then the answer, lost, slow or on time."""
        simulator, faults = self.simulator, self.world.faults
        pending = Pending(process, effect)
        simulator.at(APPEND_TIMEOUT_MS, self._time_out, pending)
        if simulator.chance(faults.lost_request):
            simulator.log(process.name, "append lost", effect.token, effect.expected)
            return
        delay = simulator.between(0, faults.slow)
        if simulator.chance(faults.late):
            delay += simulator.between(APPEND_TIMEOUT_MS, 5 * APPEND_TIMEOUT_MS)
            pending.is_late = True
        simulator.at(delay, self._store, pending)

    def _store(self, pending: Pending) -> None:
        simulator, faults, effect = self.simulator, self.world.faults, pending.effect
        if pending.is_late and self.world.is_healed:
            return
        sequence = code = 0
        if simulator.chance(faults.spurious):
            code = CONFLICT_R3 if simulator.chance(0.5) else CONFLICT_R1
        else:
            try:
                sequence = self.world.append(effect.expected, effect.payload)
            except (Conflict, JournalFull) as refusal:
                code = refusal.facts["code"]
        simulator.log(pending.process.name, "append", effect.token, effect.expected, sequence or f"refused {code}")
        if simulator.chance(faults.lost_ack):
            return
        delay = simulator.between(0, faults.slow)
        if simulator.chance(faults.slow_ack):
            delay += simulator.between(0, APPEND_TIMEOUT_MS)
        simulator.at(delay, self._acknowledge, pending, sequence, code)

    def _acknowledge(self, pending: Pending, sequence: int, code: int) -> None:
        if not pending.is_over:
            pending.is_over = True
            pending.process.deliver(self._hand_in, pending, sequence, code)

    def _hand_in(self, pending: Pending, sequence: int, code: int) -> None:
        process, token = pending.process, pending.effect.token
        if sequence:
            process.replica.appended(token, sequence, process.mono)
        elif code == FULL:
            self.world.checker.count("appends_without_room")
            process.replica.no_room(token, process.mono)
        else:
            process.replica.refused(token, code, process.mono)

    def _time_out(self, pending: Pending) -> None:
        if not pending.is_over:
            pending.is_over = True
            process = pending.process
            process.deliver(self._give_up, process, pending.effect.token)

    def _give_up(self, process: Process, token: int) -> None:
        process.replica.unknown(token, process.mono)

    def heartbeat(self, sender: Process, beat: Heartbeat) -> None:
        simulator, faults = self.simulator, self.world.faults
        for process in self.world.alive():
            if simulator.chance(faults.lost_heartbeat):
                continue
            delay = simulator.between(0, faults.slow)
            if simulator.chance(faults.late_heartbeat):
                delay += simulator.between(0, 2_000)
            simulator.at(delay, process.deliver, process.heard, beat)

    def warn(self, suspect: Fence) -> None:
        """One instance tells all of a fence that was given out for what is not in the journal."""
        for process in self.world.alive():
            if not self.simulator.chance(self.world.faults.lost_heartbeat):
                delay = self.simulator.between(0, self.world.faults.slow)
                self.simulator.at(delay, process.deliver, process.warned, suspect)
