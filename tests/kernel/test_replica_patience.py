"""What nobody waits for may wait for company: fewer appends, and nothing else changes."""

from __future__ import annotations

from bursar.kernel.desk import Request
from bursar.kernel.effects import Answer, Append
from bursar.kernel.entry import decode
from bursar.kernel.journal.memory import MemoryStore
from bursar.kernel.roles import Options
from tests.kernel.bench import Bench, pay, request
from tests.simulation.toy import Body

PATIENCE = Options().patience_ms


def owner() -> Bench:
    return Bench("a", MemoryStore()).start()


def patient(body: Body) -> Request:
    return request(body)._replace(patient=True)


def offer(bench: Bench, *requests: Request) -> None:
    for one in requests:
        assert bench.replica.offer(one)
    bench.replica.pump(bench.mono)


def test_a_patient_decision_is_appended_when_its_patience_ends_and_answered_then() -> None:
    """It is not forgotten: at the latest after `patience_ms` it is on its way to the journal."""
    bench = owner()
    offer(bench, patient(pay("s-1")))
    assert not bench.wants(Append)
    assert bench.replica.wake_at(bench.mono) == bench.mono + PATIENCE
    bench.wait(PATIENCE - 1)
    assert not bench.wants(Append)
    bench.wait(1)
    assert bench.wants(Append)
    assert bench.answers() == []
    left = bench.settle()
    assert [answer.ticket for answer in left if isinstance(answer, Answer)] == ["s-1"]


def test_it_goes_with_the_next_urgent_decision() -> None:
    """One append has both, in their order."""
    bench = owner()
    offer(bench, patient(pay("s-1")))
    offer(bench, request(pay("s-2")))
    entry = decode(bench.take(Append).payload)
    assert [decision.request_id for decision in entry.decisions] == ["s-1", "s-2"]


def test_whoever_asks_again_is_not_kept_waiting() -> None:
    """A repeated request comes from somebody who waits: the batch goes at once."""
    bench = owner()
    offer(bench, patient(pay("s-1")))
    offer(bench, request(pay("s-1")))
    assert bench.wants(Append)


def test_a_refusal_is_not_kept_waiting() -> None:
    """A refusal made on what is not committed yet waits for the append, so the append does not wait."""
    bench = owner()
    offer(bench, patient(pay("s-1")), patient(pay("s-2", 1_000_000, op="take")))
    assert bench.wants(Append)


def test_nothing_is_kept_back_for_ever_by_a_stream_of_patient_requests() -> None:
    """The patience counts from the first of them."""
    bench = owner()
    for number in range(PATIENCE + 1):
        assert bench.replica.offer(patient(pay(f"s-{number}")))
        bench.wait(1)
    assert bench.wants(Append)


def test_a_drain_leaves_nothing_behind() -> None:
    """An instance that holds a patient decision back is not idle."""
    bench = owner()
    offer(bench, patient(pay("s-1")))
    assert not bench.replica.is_idle
    bench.wait(PATIENCE)
    bench.settle()
    assert bench.replica.is_idle
