"""Provider, region, model, key; service and instance; groups: what opens what, and what stands in whose way."""

from __future__ import annotations

import pytest

from bursar.contracts.breaker import Configure, ForceOpen, path_of, way_of
from bursar.kernel.decider import Reject
from bursar_breaker.rules import fault_of
from tests.breaker.desk import Desk, rule


def test_one_bad_model_does_not_take_its_provider_away() -> None:
    """It opens by itself; the other models go on, however much of the traffic it had."""
    desk = Desk()
    for number in range(3):
        desk.report("p/m2", f"a{number}", ok=2)
        desk.report("p/m1", f"a{number}", error=40)
    assert desk.state_of("p/m1") == "open"
    assert desk.state_of("p") == desk.state_of("p/m2") == "closed"


def test_two_bad_models_take_it_away() -> None:
    """Then it is the provider."""
    desk = Desk()
    desk.report("p/m3", ok=1)
    desk.report("p/m1", error=4)
    assert desk.state_of("p") == "closed"
    desk.report("p/m2", error=4)
    assert desk.state_of("p") == "open"


def test_a_sudden_outage_of_all_models_opens_the_provider_though_its_windows_are_full_of_successes() -> None:
    """The streak of each child is looked at, not only its rate."""
    desk = Desk(rule(consecutive=5, quorum=1))
    for model in ("p/m1", "p/m2"):
        desk.report(model, ok=1_000)
    for model in ("p/m1", "p/m2", "p/m1", "p/m2"):
        desk.report(model, error=1)
    assert desk.state_of("p") == "closed"
    desk.report("p/m1", error=1)
    assert desk.state.circuits["p"].reason == "consecutive"


def test_one_bad_instance_does_not_take_its_service_away() -> None:
    """Service and instance are a hierarchy as well."""
    desk = Desk()
    for number in range(5):
        desk.report(f"search/i{number}", "ann", ok=1)
    desk.report("search/i0", "ann", error=20)
    desk.report("search/i0", "bob", error=20)
    assert desk.state_of("search/i0") == "open"
    assert desk.state_of("search") == "closed"


def test_what_is_open_above_stands_in_the_way_below() -> None:
    """Inherited downwards: who asks for a probe of a key hears of the provider."""
    desk = Desk()
    desk.force("p", "open")
    told = desk.no_probe("p/eu/m/key-1")
    assert [row["target"] for row in told["circuits"]] == ["p"]
    assert [row.target for row in desk.explain("p/eu/m/key-1").stopped_by] == ["p"]
    assert desk.explain("p/eu/m/key-1").state == "closed"


def test_a_group_stands_or_falls_together() -> None:
    """Members of different providers that share a fate: what is reported of two of them opens the group, and that stops
    all members."""
    desk = Desk(rule(minimum_calls=8), groups={"eu": ["a/eu", "b/eu", "c/eu"]})
    desk.report("a/eu/m", error=6)
    assert desk.state_of("group/eu") == "closed"
    desk.report("b/eu", error=6)
    assert desk.state_of("group/eu") == "open"
    told = desk.no_probe("c/eu/m")
    assert [row["target"] for row in told["circuits"]] == ["group/eu"]
    assert desk.no_probe("c/us")["reason"] == "closed"
    desk.check()


def test_one_bad_member_does_not_open_its_group() -> None:
    """It opens by itself."""
    desk = Desk(groups={"eu": ["a/eu", "b/eu"]})
    desk.report("b/eu", "bob", ok=1)
    desk.report("a/eu", error=50)
    assert (desk.state_of("a/eu"), desk.state_of("group/eu")) == ("open", "closed")


def test_a_probe_of_a_member_covers_its_group() -> None:
    """One permit of all that stand in the way, the group's circuit too."""
    desk = Desk(groups={"eu": ["a", "b"]})
    desk.force("group/eu", "open")
    desk.force("group/eu", "release")
    assert desk.state_of("group/eu") == "half_open"
    lease = desk.probe("a/m")
    assert [name for name, _ in desk.state.leases[lease].circuits] == ["group/eu"]
    desk.probed(lease)
    assert desk.state_of("group/eu") == "closed"


def test_nobody_reports_on_a_group_by_its_name() -> None:
    """Its members are called; such a report is dropped and counted."""
    desk = Desk(groups={"eu": ["a", "b"]})
    desk.report("group/eu", error=100)
    assert desk.state_of("group/eu") == "closed"
    assert desk.status().dropped == 1


def test_a_group_that_there_is_not_cannot_be_ordered() -> None:
    """A typed error, and nothing changes."""
    outcome = Desk().ask(ForceOpen(id="f-1", target="group/none"), "ops")
    assert isinstance(outcome, Reject)
    assert outcome.code == "unknown_group"


def test_operators_stop_a_whole_group() -> None:
    """With one order."""
    desk = Desk(groups={"eu": ["a/eu", "b/eu"]})
    desk.force("group/eu", "open", "storm")
    for target in ("a/eu", "b/eu/m/k"):
        assert desk.no_probe(target)["reason"] == "open"


def test_the_way_of_a_target_is_groups_first_then_downwards() -> None:
    """The same function for registry and clients."""
    groups = {"g1": ["a/x"], "g2": ["b"], "g3": ["a/x/y", "a"]}
    assert way_of("a/x/y/z", groups) == ("group/g1", "group/g3", "a", "a/x", "a/x/y", "a/x/y/z")
    assert way_of("c", groups) == path_of("c") == ("c",)
    desk = Desk(groups=groups)
    for target in ("a/x/y/z", "a", "b/c", "c", "a/y", "group/g1"):
        assert desk.state.way(target) == way_of(target, groups)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((rule("group/none"),), "no such group"),
        ((rule("a", budget="x"), rule("b", budget="x")), "linked to the budget"),
        ((rule(budget="x"),), "linked to one target"),
        ((rule(ramp=(500, 50)),), "must grow"),
        ((rule(window_calls=3, minimum_calls=4),), "fewer calls than the minimum"),
        ((rule("a", fallbacks=({"kind": "region", "to": "a"},)),), "no fallback of its own"),
        ((rule(guard={"concurrency": 10}),), "least <= initial"),
    ],
)
def test_rules_that_make_no_sense_are_named(given: tuple[object, ...], words: str) -> None:
    """By the rule and what is wrong with it."""
    assert words in str(fault_of(given))  # type: ignore[arg-type]


def test_groups_of_groups_and_two_of_one_name_are_refused() -> None:
    """With the code of a bad rule."""
    for groups in (("g", "group/h"), ("g", "a"), ("g", "b")), (("g", "group/h"),):
        members = tuple({"name": name, "members": (member,)} for name, member in groups)
        body = Configure.model_validate({"id": "c-1", "rules": (rule(),), "groups": members})
        outcome = Desk().ask(body, "ops")
        assert isinstance(outcome, Reject)
        assert outcome.code == "bad_rule"
