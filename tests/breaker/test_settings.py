"""What clients are told of the rules, and what they find in it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bursar.contracts.breaker import Fallback, Guard, Settings, SettingsReply, closest
from tests.breaker.desk import Desk, rule

CHAIN = (
    Fallback(kind="region", to="p/us"),
    Fallback(kind="model", to="q/small"),
    Fallback(kind="local", to="own/llm"),
    Fallback(kind="cached", max_age_ms=60_000),
    Fallback(kind="degraded", answer="Later."),
)


def settings(desk: Desk, edition: int = -1) -> SettingsReply:
    reply = desk.refused(Settings(edition=edition))
    return SettingsReply.model_validate({**reply, "fence": "1.1.1.x"}, strict=False)


def test_guards_fallbacks_and_groups_are_told() -> None:
    """All that a client follows by itself, for the closest prefix of a target."""
    guarded = rule("p/eu", guard=Guard(slow_ms=900, retry_permille=50), fallbacks=CHAIN, probe_ttl_ms=700)
    desk = Desk(rule(), guarded, groups={"eu": ["p/eu", "q/eu"]})
    told = settings(desk)
    found = closest(told.rules, "p/eu/m/k")
    assert found is not None
    assert (found.guard.slow_ms, found.guard.retry_permille, found.probe_ttl_ms) == (900, 50, 700)
    assert tuple(found.fallbacks) == CHAIN
    other = closest(told.rules, "p/us")
    assert other is not None
    assert (other.target, other.fallbacks) == (None, [])
    assert [(group.name, group.members) for group in told.groups] == [("eu", ("p/eu", "q/eu"))]


def test_who_has_the_edition_is_told_nothing() -> None:
    """Each change of the rules is another edition; pulse and snapshot name it."""
    desk = Desk()
    first = settings(desk)
    assert settings(desk, first.edition).same
    assert settings(desk, first.edition).rules == []
    assert desk.snapshot()["edition"] == first.edition
    desk.configure(rule(open_ms=100))
    assert settings(desk).edition == first.edition + 1
    assert not settings(desk, first.edition).same
    assert desk.restarted().state.edition == first.edition + 1


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "region"},
        {"kind": "cached", "to": "p"},
        {"kind": "degraded", "max_age_ms": 1},
        {"kind": "model", "to": "p", "answer": "no"},
        {"kind": "magic"},
    ],
)
def test_a_link_that_makes_no_sense_is_refused(fields: dict[str, object]) -> None:
    """At the border."""
    with pytest.raises(ValidationError):
        Fallback.model_validate(fields)
