"""What a probe lets happen: nothing older counts, only named processes load, only those without a lease end."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bursar_gpu_manager.core  # noqa: F401 - declares the seeded bugs
from bursar.contracts import gpu as wire
from bursar_gpu_manager.gate import WORDS, Gate, numbers_of

MAC = "0123456789abcdef"


def holding(lease: str, *processes: tuple[int, int], ending: bool = False) -> wire.Holding:
    named = [wire.Process(pid=pid, started=started) for pid, started in processes]
    return wire.Holding(lease=lease, principal="ann", purpose="weights", devices=["u"], memory=1, processes=named,
                        ending=ending, expires_in_ms=1)  # fmt: skip


def told(fence: str, *leases: wire.Holding) -> wire.HoldingsReply:
    return wire.HoldingsReply(now_ms=0, leases=list(leases), fence=f"{fence}.{MAC}")


def order(fence: str, lease: str, *processes: tuple[int, int]) -> wire.Kill:
    named = [wire.Process(pid=pid, started=started) for pid, started in processes]
    return wire.Kill(lease=lease, processes=named, fence=f"{fence}.{MAC}")


def enter(gate: Gate, lease: str, process: tuple[int, int] = (7, 70), fence: str = "") -> str:
    return gate.enter(lease, fence or f"{lease}.{MAC}", process)


def test_a_named_process_of_a_lease_that_is_held_may_load() -> None:
    """With the lease's own fence, and only it."""
    gate = Gate()
    assert gate.hear(told("1.1.9", holding("1.1.5", (7, 70)), holding("1.1.6", (7, 70), ending=True)))
    assert enter(gate, "1.1.5") == ""
    assert enter(gate, "1.1.5", (7, 71)) == "not_named"
    assert enter(gate, "1.1.5", fence=f"1.1.6.{MAC}") == "bad_fence"
    assert enter(gate, "x.1.5") == "bad_fence"
    assert enter(gate, "1.1.6") == "ending"
    assert enter(gate, "1.1.12") == "not_known"
    assert gate.counts[:2] == (1, 5)
    assert {"bad_fence", "stale_fence", "not_known", "ending", "not_named"} == set(WORDS)


def test_who_was_there_before_the_lease_is_spared_unless_it_has_shown_it() -> None:
    """It may be a stranger whom the holder has named: neither the end of the lease nor an order ends it."""
    gate = Gate(1_000)
    spared = [wire.Process(pid=pid, started=pid * 10) for pid in (7, 8)]
    gate.hear(told("1.1.9", holding("1.1.5", (7, 70), (8, 80), (9, 90)).model_copy(update={"spared": spared})))
    assert enter(gate, "1.1.5", (7, 70)) == ""
    kill = order("1.1.10", "1.1.5", (7, 70), (8, 80), (9, 90)).model_copy(update={"spared": spared})
    assert gate.order(kill) == [(7, 70), (9, 90)]
    gate.hear(told("1.1.11"))
    gate.tick(1_000)
    assert gate.overdue([(7, 70), (8, 80), (9, 90)]) == [(7, 70), (9, 90)]


def test_where_not_all_leases_are_told_none_ends_by_not_being_told_of() -> None:
    """Nobody's process is ended for it, nor let in; when all are told again, what is missing has ended."""
    gate = Gate(1_000)
    gate.hear(told("1.1.9", holding("1.1.5", (7, 70)), holding("1.1.6", (8, 80))))
    gate.hear(told("1.1.10", holding("1.1.6", (8, 80))).model_copy(update={"complete": False}))
    gate.tick(5_000)
    assert gate.overdue([(7, 70), (8, 80)]) == []
    assert enter(gate, "1.1.5") == "not_known"
    assert enter(gate, "1.1.6", (8, 80)) == ""
    gate.hear(told("1.1.11", holding("1.1.6", (8, 80))))
    assert enter(gate, "1.1.5") == "stale_fence"
    gate.tick(1_000)
    assert gate.overdue([(7, 70), (8, 80)]) == [(7, 70)]


def test_the_fence_of_a_lease_that_has_ended_is_stale() -> None:
    """Also when the probe has never heard of it while it was held."""
    gate = Gate()
    gate.hear(told("1.1.9", holding("1.1.5", (7, 70))))
    gate.hear(told("1.1.20", holding("1.1.15", (8, 80))))
    assert enter(gate, "1.1.5") == "stale_fence"
    assert enter(gate, "1.1.3") == "stale_fence"
    assert enter(gate, "1.1.15", (8, 80)) == ""


def test_an_older_answer_changes_nothing() -> None:
    """Of an owner that is not it any more, or late; the same fence again is no older."""
    gate = Gate()
    assert gate.hear(told("1.2.9", holding("1.2.5", (7, 70))))
    for old in ("1.1.999", "1.2.8", "0.9.9"):
        assert not gate.hear(told(old))
    assert gate.hear(told("1.2.9", holding("1.2.5", (7, 70))))
    assert enter(gate, "1.2.5") == ""
    assert gate.counts.stale == 3


def test_an_order_of_an_older_owner_or_an_order_again_is_refused() -> None:
    """Orders grow; what is held by another lease is not ended."""
    gate = Gate()
    gate.hear(told("1.2.9", holding("1.2.5", (7, 70)), holding("1.2.6", (8, 80))))
    assert gate.order(order("1.1.99", "1.2.5", (7, 70))) == []
    assert gate.order(order("1.2.8", "1.2.5", (7, 70), (8, 80))) == [(7, 70)]
    assert gate.order(order("1.2.8", "1.2.5", (7, 70))) == []
    assert gate.counts.stale == 2


def test_a_process_may_outlive_its_lease_only_by_the_grace() -> None:
    """Seen on a card, by pid and start; not when another lease that is held names it, and never a stranger."""
    gate = Gate(grace_ms=1_000)
    gate.hear(told("1.1.9", holding("1.1.5", (7, 70), (8, 80)), holding("1.1.6", (9, 90))))
    gate.hear(told("1.1.10", holding("1.1.6", (9, 90))))
    seen = [(7, 70), (8, 81), (9, 90), (10, 100)]
    gate.tick(999)
    assert gate.overdue(seen) == []
    gate.tick(1)
    assert gate.overdue(seen) == [(7, 70)]
    gate.hear(told("1.1.12", holding("1.1.6", (9, 90)), holding("1.1.11", (7, 70))))
    assert gate.overdue(seen) == []


def test_ended_leases_are_remembered_within_bounds() -> None:
    """The oldest are forgotten first."""
    gate = Gate(grace_ms=0)
    for number in range(1, 1_200):
        gate.hear(told(f"1.1.{2 * number}", holding(f"1.1.{number}", (number, 1))))
    gate.hear(told("1.1.9999"))
    assert len(gate.overdue([(number, 1) for number in range(1, 1_200)])) == 1_024


fences = st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 40))
leases = st.dictionaries(st.integers(1, 12), st.sets(st.integers(1, 6), max_size=2), max_size=4)


@pytest.mark.property
@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(fences, leases), max_size=20), st.sets(st.integers(1, 6)))
def test_whatever_comes_in_whatever_order_the_newest_answer_counts(
    answers: list[tuple[tuple[int, int, int], dict[int, set[int]]]], seen: set[int]
) -> None:
    """No process of a held lease ends, and no lease that is not in the newest answer lets anybody in."""
    gate = Gate(grace_ms=0)
    newest: tuple[tuple[int, int, int], dict[int, set[int]]] = ((0, 0, 0), {})
    for fence, held in answers:
        rows = [holding(f"1.1.{number}", *((pid, 1) for pid in pids)) for number, pids in held.items()]
        counts = gate.hear(told(".".join(map(str, fence)), *rows))
        assert counts is (fence >= newest[0])
        newest = (fence, held) if counts else newest
    protected = {pid for pids in newest[1].values() for pid in pids}
    assert not protected & {pid for pid, _ in gate.overdue([(pid, 1) for pid in seen])}
    for number in range(1, 13):
        allowed = {pid for pid in range(1, 7) if enter(gate, f"1.1.{number}", (pid, 1)) == ""}
        assert allowed == newest[1].get(number, set())


def test_numbers_are_those_of_fences_and_leases() -> None:
    """With the MAC or without."""
    assert numbers_of(f"3.2.1.{MAC}") == numbers_of("3.2.1") == (3, 2, 1)
