"""A test must be able to fail: each known mistake of the limiter is switched on, and a check that holds without it must
object, for the right reason."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache

import pytest

from bursar.contracts.limiter import DIMENSIONS, BudgetSpec, LimitSpec
from bursar.kernel import bugs
from bursar.kernel.decider import Accept
from bursar_limiter import bugs as names
from tests.limiter import (
    test_ledger,
    test_progressing,
    test_recovery,
    test_settling,
    test_sharing,
    test_spending,
    test_tree,
    test_waiting,
)
from tests.limiter.fleet import Desk
from tests.limiter.truth import Call, Truth, only
from tests.simulation.run import play

pytestmark = pytest.mark.simulation

Check = Callable[[], object]

SPEC = BudgetSpec(
    name="b",
    limits={
        "input_tokens": LimitSpec(limit=400, window_ms=700),
        "concurrent": LimitSpec(limit=3, window_ms=0),
    },
    jitter_ms=50,
    burst_permille=300,
    max_ttl_ms=900,
)
NOTHING = dict.fromkeys(map(str, DIMENSIONS), 0)


@cache
def simulated() -> None:
    """Whole histories of instances and clients, with a provider that counts on true time."""
    play("limiter", range(20))


@cache
def fleets_with_restarts() -> None:
    """Fleets that never stop asking, that report more or less than they had reserved, or nothing, while the limiter
    starts again from its dump; beside them the record that adds up from scratch."""
    for seed in range(6):
        fleet_with_restarts(random.Random(seed))


def fleet_with_restarts(rng: random.Random) -> None:
    desk, truth = Desk(SPEC), Truth()
    while desk.now < 4_000:
        desk.advance(desk.now + rng.randrange(1, 40))
        if rng.random() < 0.1:
            desk.state = desk.decider.load(desk.dump())
        ask_and_compare(desk, truth, rng.randrange(10, 120))
        open_calls = [key for key, call in truth.calls.items() if not call.over(desk.now)]
        if open_calls and rng.random() < 0.08:
            key, used = rng.choice(open_calls), rng.randrange(200)
            assert isinstance(desk.settle(key, input_tokens=used), Accept), "a call in flight is not known"
            truth.calls[key].end(desk.now, {**NOTHING, "input_tokens": used})
        desk.check()
    desk.advance(10_000)
    assert not desk.state.live, "a call has outlived its time-out"


def ask_and_compare(desk: Desk, truth: Truth, tokens: int) -> None:
    wanted = {**NOTHING, "input_tokens": tokens, "concurrent": 1}
    outcome = desk.reserve(ttl_ms=900, input_tokens=tokens, concurrent=1)
    if isinstance(outcome, Accept):
        for name, limit in SPEC.limits.items():
            assert truth.counted(SPEC, name, desk.now) + wanted[name] <= only(limit).limit, f"over the limit of {name}"
        truth.calls[outcome.reply["reservation"]] = Call("b", desk.now, outcome.reply["expires_at_ms"], wanted)


def fleets_after_a_loss() -> None:
    """Fleets that never stop asking, with the loss of a journal's end in the middle."""
    for seed in range(6):
        test_recovery.test_nothing_is_over_after_a_loss(seed)


def is_caught(bug: str, check: Check, *words: str) -> bool:
    """Whether the check holds without the bug, and with it objects in some of these words."""
    check()
    again: Check = getattr(check, "__wrapped__", check)  # not the remembered outcome of the one before
    with bugs.switched_on(bug):
        try:
            again()
        except AssertionError as error:
            return any(part in str(error) for part in words)
    return False


def test_seeded_bug_limiter_jitter_ignored_is_caught() -> None:
    """A hold of the window alone: charges at the ends of J fall into one window of the provider."""
    assert is_caught(names.JITTER_IGNORED, simulated, "allowed (")


def test_seeded_bug_limiter_refund_lands_in_the_wrong_grain_is_caught() -> None:
    """The ring has gone round: the slot of an old grant belongs to a newer one."""
    check = test_ledger.test_a_refund_of_an_old_grant_does_not_enter_another_window
    assert is_caught(names.WRONG_GRAIN, check, "take_back")


def test_seeded_bug_limiter_time_out_refunds_is_caught() -> None:
    """A call without a report may have used all that it had reserved."""
    assert is_caught(names.TIME_OUT_REFUNDS, simulated, "allowed (")


def test_seeded_bug_limiter_settle_twice_refunds_twice_is_caught() -> None:
    """A reservation that has been settled is still there to be settled once more."""
    assert is_caught(names.REFUNDED_TWICE, test_settling.test_a_reservation_ends_once, "isinstance(Accept(")


def test_seeded_bug_limiter_large_request_overtaken_is_caught() -> None:
    """A small one that fits passes the one whose turn it is, which starves when they come without end."""
    assert is_caught(names.OVERTAKEN, test_waiting.test_nobody_overtakes_the_line, "Accept")


def test_seeded_bug_limiter_overage_forgotten_is_caught() -> None:
    """What was used beyond the reservation was used."""
    assert is_caught(names.OVERAGE_FORGOTTEN, fleets_with_restarts, "over the limit of")


def test_seeded_bug_limiter_debt_forgotten_is_caught() -> None:
    """A restart from a snapshot is no way out of debt."""
    assert is_caught(names.DEBT_FORGOTTEN, fleets_with_restarts, "load gives another state")


def test_seeded_bug_limiter_reservation_missing_from_dump_is_caught() -> None:
    """Whoever loads a snapshot without the calls in flight takes their room for free."""
    words = ("over the limit of concurrent", "a call in flight is not known")
    assert is_caught(names.NOT_DUMPED, fleets_with_restarts, *words)


def test_seeded_bug_limiter_expiry_lost_by_load_is_caught() -> None:
    """After a load, what nobody settles would stay for ever."""
    assert is_caught(names.EXPIRY_LOST, fleets_with_restarts, "time-outs")


def test_seeded_bug_limiter_recovery_grants_at_once_is_caught() -> None:
    """Calls that were granted in what was lost are still in flight."""
    assert is_caught(names.GRANTS_AT_ONCE, fleets_after_a_loss, "over the limit of concurrent")


def test_seeded_bug_limiter_concurrency_leaks_is_caught() -> None:
    """A time-out frees the call's place."""
    assert is_caught(names.CALLS_LEAK, simulated, "in flight of dimension", "replay_differs")


def test_seeded_bug_limiter_redeclare_accepts_any_number_is_caught() -> None:
    """A genuine fence of one decision must not make another one's reservation."""
    check = test_recovery.test_reservation_is_adopted_only_with_the_fence_that_came_with_it
    assert is_caught(names.ANY_NUMBER, check, "Accept")


def test_seeded_bug_limiter_ancestors_not_charged_is_caught() -> None:
    """A reservation takes from everything above its budget."""
    assert is_caught(names.ONLY_THE_LEAF, test_tree.test_one_reservation_takes_from_all_levels, "above it nothing")


def test_seeded_bug_limiter_refund_enters_a_younger_meter_is_caught() -> None:
    """What was charged to the meter before is not given back by the one after."""
    check = test_tree.test_a_refund_never_enters_a_meter_that_is_younger_than_its_grant
    assert is_caught(names.REFUND_AFTER_RELOAD, check, "entered another window")


def test_seeded_bug_limiter_moved_budget_counts_nothing_is_caught() -> None:
    """What was used elsewhere counts where the budget stands now."""
    assert is_caught(names.MOVES_FREE, test_tree.test_a_tree_changes_while_calls_are_in_flight, "is forgotten")


def test_seeded_bug_limiter_weight_ignored_is_caught() -> None:
    """Three to one."""
    assert is_caught(names.WEIGHT_IGNORED, test_sharing.test_children_share_by_weight, "not by weight")


def test_seeded_bug_limiter_priority_starves_is_caught() -> None:
    """Better ones come without end."""
    assert is_caught(names.NEVER_AGES, test_sharing.test_a_class_that_is_passed_over_ages, "it starves")


def test_seeded_bug_limiter_object_overtaken_is_caught() -> None:
    """Small requests for a host pass the large one that waits for it."""
    check = test_sharing.test_a_large_request_for_a_host_does_not_starve
    assert is_caught(names.OBJECT_OVERTAKEN, check, "isinstance", "large")


def test_seeded_bug_limiter_progress_forgotten_is_caught() -> None:
    """What a stream reports beyond its reservation was used."""
    check = test_progressing.test_what_exceeds_the_reservation_counts_at_once
    assert is_caught(names.PROGRESS_FORGOTTEN, check, "input_tokens")


def test_seeded_bug_limiter_agent_dropped_in_use_is_caught() -> None:
    """Who has no call in flight may still have used up a window."""
    check = test_tree.test_an_agents_budget_is_kept_while_something_counts_in_it
    assert is_caught(names.DROPPED_IN_USE, check, "over her limit")


def test_seeded_bug_limiter_agent_fresh_after_loss_is_caught() -> None:
    """Nobody knows an agent's budget any more, and yet it may have been used."""
    check = test_tree.test_an_agent_that_was_lost_with_the_journal_recovers_like_its_budget
    assert is_caught(names.MADE_FRESH, check, "over her limit")


def test_seeded_bug_limiter_refund_stays_on_the_bill_is_caught() -> None:
    """A call that used less than it was lent for costs less."""
    check = test_spending.test_what_a_lease_gives_back_was_not_spent
    assert is_caught(names.REFUND_STAYS_ON_THE_BILL, check, "400")


def test_every_seeded_bug_has_its_test() -> None:
    """None of the known mistakes goes without the test that shows that it is seen."""
    for name in names.NAMES:
        assert f"test_seeded_bug_{name}_is_caught" in globals(), name
