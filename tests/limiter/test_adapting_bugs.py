"""Each known mistake in what is learned from the provider is switched on, and a check that holds without it objects."""

from __future__ import annotations

from bursar_limiter import adapting_bugs as names
from tests.limiter import test_adapting, test_adapting_seen, test_freezing
from tests.limiter.test_seeded_bugs import is_caught


def test_seeded_bug_limiter_freeze_unbounded_is_caught() -> None:
    """A day in Retry-After stops the fleet for a day."""

    def check() -> None:
        test_freezing.test_no_freeze_is_longer_than_the_bound(86_400_000)

    assert is_caught(names.FREEZE_UNBOUNDED, check, "86400000 == 120000")


def test_seeded_bug_limiter_freeze_made_shorter_is_caught() -> None:
    """A report with a later end for another dimension takes the first one back."""
    check = test_freezing.test_an_earlier_report_of_more_does_not_shorten_what_is_frozen
    assert is_caught(names.FREEZE_SHORTENED, check, "9000")


def test_seeded_bug_limiter_freeze_stops_one_budget_only_is_caught() -> None:
    """The agent's own budget is frozen, and the rest of the fleet goes on."""
    check = test_freezing.test_one_report_stops_everything_below_the_providers_object
    assert is_caught(names.FREEZE_ONE_LEAF, check, "'team/a'")


def test_seeded_bug_limiter_last_voice_wins_is_caught() -> None:
    """Whoever spoke last sets the limit of all."""
    assert is_caught(names.LAST_VOICE_WINS, test_adapting_seen.test_a_minority_cannot_lower_a_limit, "100 == 1000")


def test_seeded_bug_limiter_learns_a_higher_limit_is_caught() -> None:
    """Above what the operator allows."""
    check = test_adapting_seen.test_a_lower_limit_holds_and_a_higher_one_never_does
    assert is_caught(names.LEARNS_HIGHER, check, "5000")


def test_seeded_bug_limiter_pace_above_the_limit_is_caught() -> None:
    """A pace of more than the limit itself."""
    check = test_adapting.test_a_pace_that_uses_too_little_is_raised_though_never_above_the_limit
    assert is_caught(names.PACE_ABOVE_LIMIT, check, "a pace above the limit")


def test_seeded_bug_limiter_foreign_use_uncharged_is_caught() -> None:
    """It is told, and nobody is left any room."""
    check = test_adapting_seen.test_foreign_use_is_charged_said_and_shown
    assert is_caught(names.FOREIGN_UNCHARGED, check, "(200, 1000)", "headroom", "750")


def test_seeded_bug_limiter_cut_forgotten_by_load_is_caught() -> None:
    """A restart ends the recovery where it is: the pace never comes back."""
    check = test_adapting.test_a_restart_in_the_middle_of_a_recovery_goes_on_with_it
    assert is_caught(names.CUT_FORGOTTEN, check, "the pace has not come back")
