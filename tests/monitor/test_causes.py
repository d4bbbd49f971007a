"""The graph of causes: what explains what, and which alert is the root."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.contracts.monitor_policy import Signal, Slo
from bursar.contracts.monitor_scaling import Policy
from bursar_monitor.causes import EXPLAINED_BY, Fact, Graph, component, roots

NONE = Policy()
SIGNALS = get_args(Signal)
SUBJECTS = ("h", "h/d", "p", "p/eu", "p/eu/m", "scheduler", "scheduler/s-1", "b/requests", "h/limiter")


@pytest.mark.parametrize(
    ("effect", "cause"),
    [
        (("gpu_lost", "h/GPU-1"), ("host_silence_ms", "h")),
        (("owner_missing", "limiter"), ("instance_missing", "limiter/l-1")),
        (("circuit_open", "p/eu/m"), ("circuit_open", "p")),
        (("queue_growth", "reactive"), ("circuit_open", "p")),
        (("queue_growth", "reactive"), ("owner_missing", "scheduler")),
        (("coordination_ms", "limiter"), ("nats_rtt_ms", "nats")),
        (("budget_permille", "b/requests"), ("foreign_permille", "b/requests")),
        (("completion_ms", "w"), ("queue_growth", "reactive")),
        (("completion_ms", "w"), ("crashes", "h/agent.w")),
        (("crashes", "h/agent.w"), ("leak_permille", "h/agent.w")),
        (("memory_permille", "h"), ("leak_permille", "h/agent.w")),
        (("instance_missing", "limiter/l-1"), ("crashes", "h/limiter")),
    ],
)
def test_what_follows_from_what(effect: Fact, cause: Fact) -> None:
    """In this direction only; together they are one incident with one root."""
    assert Graph(NONE, [cause]).is_explained(effect)
    assert not Graph(NONE, [effect]).is_explained(cause)
    assert roots(NONE, [effect, cause]) == [cause]
    assert component(NONE, [effect, cause], effect[0]) == {effect[0], cause[0]}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("gpu_lost", "h/GPU-1"), ("host_silence_ms", "h2")),
        (("owner_missing", "limiter"), ("instance_missing", "breaker/b-1")),
        (("queue_growth", "reactive"), ("owner_missing", "limiter")),
        (("budget_permille", "b/requests"), ("foreign_permille", "b/tokens")),
        (("memory_permille", "h"), ("circuit_open", "p")),
        (("crashes", "h/agent.w"), ("leak_permille", "h/agent.v")),
        (("instance_missing", "limiter/l-1"), ("crashes", "h/breaker")),
    ],
)
def test_what_has_nothing_to_do_with_another(one: Fact, other: Fact) -> None:
    """Two incidents, each its own root."""
    assert component(NONE, [one, other], one[0]) == {one[0]}
    assert roots(NONE, [one, other]) == [one, other]


def test_an_objective_is_explained_by_its_signal_and_by_what_explains_that() -> None:
    """Fleet-wide by any subject, one of its own by that subject; a faster burn explains a slower one."""
    wide = Slo(name="answers", signal="coordination_ms", high=100, objective_ppm=950_000)
    own = Slo(name="up", signal="owner_missing", high=0, objective_ppm=999_000, each=True)
    policy = Policy(slos=(wide, own))
    assert Graph(policy, [("coordination_ms", "limiter")]).is_explained(("burn_1h", "answers"))
    assert Graph(policy, [("nats_rtt_ms", "nats")]).is_explained(("burn_1h", "answers"))
    assert Graph(policy, [("owner_missing", "limiter")]).is_explained(("burn_1h", "up/limiter"))
    assert not Graph(policy, [("owner_missing", "breaker")]).is_explained(("burn_1h", "up/limiter"))
    assert Graph(policy, [("instance_missing", "limiter/l-1")]).is_explained(("burn_1h", "up/limiter"))
    assert roots(policy, [("burn_6h", "up/limiter"), ("burn_1h", "up/limiter")]) == [("burn_1h", "up/limiter")]
    assert not Graph(policy, [("gpu_lost", "h/d")]).is_explained(("burn_1h", "gone")), "its objective was removed"


facts = st.lists(st.tuples(st.sampled_from(SIGNALS), st.sampled_from(SUBJECTS)), min_size=1, max_size=12, unique=True)


@pytest.mark.property
@given(facts)
def test_every_incident_has_a_root_and_every_alert_one_incident(found: list[Fact]) -> None:
    """The graph has no circles, so there is always a root that nothing explains; and components do not overlap."""
    policy = Policy(slos=(Slo(name="p", signal="circuit_open", high=0, objective_ppm=990_000),))
    graph = Graph(policy, found)
    assert all(not graph.is_explained(fact) for fact in roots(policy, found))
    parts = {frozenset(component(policy, found, signal)) for signal, _ in found}
    assert sum(map(len, parts)) == len({signal for signal, _ in found})


def test_the_graph_speaks_of_signals_that_exist() -> None:
    """On both sides."""
    named = set(EXPLAINED_BY) | {signal for causes in EXPLAINED_BY.values() for signal, _ in causes}
    assert named <= set(SIGNALS)
