"""A test must be able to fail: each known mistake is switched on, and a checker must object."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from bursar.contracts import gpu as wire
from bursar.kernel import bugs
from bursar.kernel.decider import Accept
from bursar_gpu_manager.bugs import NAMES
from bursar_gpu_manager.simulated import GIB
from tests.gpu_manager import (
    test_ageing,
    test_alarming,
    test_caching,
    test_claiming,
    test_gate,
    test_kv_sharing,
    test_observing,
    test_purposes,
)
from tests.gpu_manager.desk import Desk
from tests.gpu_manager.test_machine import Machine
from tests.simulation.run import WORKLOADS
from tests.simulation.simulator import Violation
from tests.simulation.world import History

SEEDS = 150
SEARCH = settings(
    max_examples=300, stateful_step_count=30, deadline=None, database=None, phases=[Phase.generate], derandomize=True
)


def histories_object(bug: str, *words: str) -> bool:
    """Whether, with the bug in place, some history of the simulator breaks a promise of the manager, in these words."""
    with bugs.switched_on(bug):
        for seed in range(SEEDS):
            try:
                History(seed, WORKLOADS["gpu-manager"]).play()
            except Violation as violation:
                if violation.kind == "gpu-manager" and any(word in str(violation) for word in words):
                    return True
    return False


def oracle_objects(bug: str) -> bool:
    """Whether, with the bug in place, the property test against the oracle fails."""
    with bugs.switched_on(bug):
        try:
            run_state_machine_as_test(Machine, settings=SEARCH)
        except AssertionError:
            return True
    return False


@pytest.mark.property
def test_seeded_bug_gpu_observed_ignored_is_caught() -> None:
    """What a holder uses beyond its lease must leave less for others."""
    assert oracle_objects("gpu_observed_ignored")


@pytest.mark.property
def test_seeded_bug_gpu_reserve_ignored_is_caught() -> None:
    """The reserve is nobody's."""
    assert oracle_objects("gpu_reserve_ignored")


@pytest.mark.simulation
def test_seeded_bug_gpu_expired_regranted_early_is_caught() -> None:
    """A holder believes in its lease until its own deadline."""
    assert histories_object("gpu_expired_regranted_early", " of 16000", " at ")


@pytest.mark.simulation
def test_seeded_bug_gpu_stale_fence_renews_is_caught() -> None:
    """Another lease's fence proves nothing."""
    assert histories_object("gpu_stale_fence_renews", "renewed")


@pytest.mark.simulation
def test_seeded_bug_gpu_partial_set_granted_is_caught() -> None:
    """A set is whole or it is not granted."""
    assert histories_object("gpu_partial_set_granted", "devices were asked for")


@pytest.mark.simulation
def test_seeded_bug_gpu_lost_device_grants_is_caught() -> None:
    """A lost card has no capacity."""
    assert histories_object("gpu_lost_device_grants", "granted on a lost card")


def test_seeded_bug_gpu_ended_by_loss_is_free_is_caught() -> None:
    """Who was not told that its device was lost still uses it when it is back."""
    is_caught(
        "gpu_ended_by_loss_is_free", test_observing.test_a_lost_device_that_is_back_still_counts_what_may_be_in_use
    )


def test_seeded_bug_gpu_unknown_counts_as_zero_is_caught() -> None:
    """A card that cannot say what is in use gets no leases."""
    unknown = wire.DeviceReport(uuid="u", index=0, total=16 * GIB)

    def grants() -> bool:
        desk = Desk()
        desk.say("h1", wire.Report(boot="b0", seq=1, devices=(unknown,)))
        return isinstance(desk.lease(GIB), Accept)

    assert not grants()
    with bugs.switched_on("gpu_unknown_counts_as_zero"):
        assert grants()


def test_seeded_bug_gpu_foreign_growth_is_silent_is_caught() -> None:
    """Everybody hears of a stranger who takes much."""
    is_caught("gpu_foreign_growth_is_silent", test_alarming.test_foreign_memory_is_charged_and_told_once_for_each_step)


def test_seeded_bug_gpu_start_windows_overlap_is_caught() -> None:
    """Two engines that measure at the same time measure each other."""
    is_caught("gpu_start_windows_overlap", test_purposes.test_only_one_lease_of_a_device_is_loading_at_a_time)


def test_seeded_bug_gpu_reserve_for_everybody_is_caught() -> None:
    """What is kept for emergencies is not granted without one."""
    is_caught("gpu_reserve_for_everybody", test_purposes.test_the_emergency_reserve_is_for_emergencies_only)


def test_seeded_bug_gpu_probe_obeys_stale_orders_is_caught() -> None:
    """A paused owner's order must not end anybody's process."""
    is_caught("gpu_probe_obeys_stale_orders", test_gate.test_an_order_of_an_older_owner_or_an_order_again_is_refused)


def test_seeded_bug_gpu_unseen_weights_are_gone_is_caught() -> None:
    """What a driver cannot tell is not what it tells to be gone."""
    is_caught(
        "gpu_unseen_weights_are_gone", lambda: test_caching.test_an_unknown_observation_frees_nothing("hide_processes")
    )


def test_seeded_bug_gpu_copy_outlives_its_lease_is_caught() -> None:
    """Nobody hits weights whose memory was given back."""
    is_caught("gpu_copy_outlives_its_lease", test_caching.test_a_copy_ends_with_the_lease_under_which_it_is_held)


def test_seeded_bug_gpu_dead_users_hold_weights_is_caught() -> None:
    """An agent that died must not keep weights on a card for ever."""
    is_caught(
        "gpu_dead_users_hold_weights", test_caching.test_what_a_dead_agent_used_or_was_loading_is_not_held_for_ever
    )


def test_seeded_bug_gpu_promised_pages_are_lent_is_caught() -> None:
    """What an engine was promised is not lent to another."""
    is_caught("gpu_promised_pages_are_lent", test_kv_sharing.test_what_is_promised_is_there_and_what_is_free_is_lent)


def test_seeded_bug_gpu_held_up_reports_are_fresh_is_caught() -> None:
    """What a card had free before it was cut off is no reason to grant."""
    is_caught("gpu_held_up_reports_are_fresh", test_ageing.test_reports_that_were_held_up_grant_nothing)


def test_seeded_bug_gpu_named_strangers_are_hidden_is_caught() -> None:
    """To name a process does not make its memory somebody's."""
    is_caught(
        "gpu_named_strangers_are_hidden",
        lambda: test_claiming.test_what_was_there_before_a_lease_is_not_hidden_by_it("later"),
    )


def test_seeded_bug_gpu_others_processes_are_named_is_caught() -> None:
    """A process has one owner."""
    is_caught("gpu_others_processes_are_named", test_claiming.test_a_process_is_his_who_named_it_first)


def is_caught(bug: str, test: Callable[[], None]) -> None:
    """The test passes, and with the bug in place it fails."""
    test()
    with bugs.switched_on(bug), pytest.raises((AssertionError, ValueError)):
        test()


def test_every_seeded_bug_has_its_test() -> None:
    """None of the known mistakes goes without the test that shows that it is seen."""
    for name in NAMES:
        assert f"test_seeded_bug_{name}_is_caught" in globals(), name
