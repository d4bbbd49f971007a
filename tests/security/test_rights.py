"""Rights in the deciders: who may use which budgets, models, GPUs and targets, and that nothing else changes.

Each service is asked by somebody who may and by somebody who may not; what is refused leaves the state as it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bursar.contracts import gpu as gpu_wire
from bursar.contracts import scheduler as task_wire
from bursar.contracts.breaker import Delta, Probe, Report
from bursar.contracts.gpu_cache import CacheWant
from bursar.contracts.limiter import Amounts, BudgetSpec, LimitSpec, Reserve
from bursar.contracts.limiter_lease import Lease, Renew
from bursar.contracts.limiter_observed import RateLimited
from bursar.contracts.rights import RightsRule, SetRights
from bursar.contracts.scheduler_graph import Graph, Item
from bursar.kernel.bugs import switched_on
from bursar.kernel.decider import Accept, Command, Outcome, Refuse, Reject
from bursar.kernel.inbox import Delivered
from bursar.kernel.rights import NEIGHBOURS_ALLOWED, Rights, covers, rows_of
from bursar.kernel.rights_file import first_of_all, read_rights
from bursar_limiter.core import LimiterDecider
from bursar_limiter.reloading import LoadFile
from bursar_limiter.service import SPEC as LIMITER
from bursar_limiter.settings import LimiterSettings
from tests.breaker import desk as breaker_desk
from tests.gpu_manager import desk as gpu_desk
from tests.limiter import fleet as limiter_desk
from tests.scheduler import desk as scheduler_desk

GIB = 1024**3


def rule(*who: str, **kinds: Any) -> RightsRule:
    fields: dict[str, Any] = {kind: tuple(patterns) for kind, patterns in kinds.items()}
    return RightsRule(who=who, **fields)


def rights(*rules: RightsRule, closed: bool = False) -> Rights:
    return Rights(rows_of(rules), closed=closed)


def set_rights(desk: Any, *rules: RightsRule, closed: bool = False) -> Outcome:
    outcome: Outcome = desk.ask(SetRights(id=desk.new_id(), rules=rules, closed=closed), "ops")
    return outcome


def is_forbidden(outcome: Outcome, name: str) -> bool:
    assert isinstance(outcome, Reject), outcome
    return (outcome.code, outcome.facts["name"]) == ("forbidden", name)


# ---- the rules


def test_a_pattern_is_a_name_with_all_below_it_or_a_beginning() -> None:
    """A name that only begins alike is another thing."""
    assert covers("team", "team")
    assert covers("team", "team/search")
    assert not covers("team", "team-b")
    assert not covers("team/search", "team")
    assert covers("team*", "team-b")
    assert covers("*", "")
    with switched_on(NEIGHBOURS_ALLOWED):
        assert covers("team", "team-b")


def test_seeded_bug_rights_of_names_that_only_begin_alike_is_caught() -> None:
    """With it an agent of one team may spend what another has whose name begins alike."""
    mine = rights(rule("a1", budgets=["team"]))
    assert not mine.may("a1", "budgets", "team-b/x")
    with switched_on(NEIGHBOURS_ALLOWED):
        assert rights(rule("a1", budgets=["team"])).may("a1", "budgets", "team-b/x")


def test_what_no_rule_speaks_of_is_open_unless_the_set_is_closed() -> None:
    """Each kind by itself; rules of a principal add up; an empty list means none."""
    rules = (rule("a*", budgets=["x"]), rule("a1", budgets=["y"], gpus=[]))
    mine = rights(*rules)
    assert [mine.may("a1", "budgets", name) for name in ("x", "y", "z")] == [True, True, False]
    assert [mine.may("a2", "budgets", name) for name in ("x", "y", "z")] == [True, False, False]
    assert mine.may("b", "budgets", "z")
    assert mine.may("a1", "models", "m")
    assert not mine.may("a1", "gpus", "h/u")
    closed = rights(*rules, closed=True)
    assert not closed.may("b", "budgets", "x")
    assert not closed.may("a1", "models", "m")
    assert closed.may("a1", "budgets", "y")


@pytest.mark.property
@given(
    st.lists(st.tuples(st.sampled_from(["a", "ab", "b"]), st.lists(st.sampled_from(["x", "x/y", "z*", "*"])))),
    st.sampled_from(["a", "ab", "b", "c"]),
    st.sampled_from(["x", "x/y", "xy", "zz", "z"]),
    st.booleans(),
)
def test_answers_are_those_of_the_rules_read_one_by_one(
    rules: list[tuple[str, list[str]]], who: str, name: str, closed: bool
) -> None:
    """Whatever is remembered: the same answer twice, and that of the plain definition."""
    mine = rights(*(rule(whom, budgets=patterns) for whom, patterns in rules), closed=closed)
    named = [patterns for whom, patterns in rules if whom == who]
    expected = any(covers(p, name) for patterns in named for p in patterns) if named else not closed
    assert mine.may(who, "budgets", name) is mine.may(who, "budgets", name) is expected


# ---- the limiter


def spec(name: str) -> BudgetSpec:
    return BudgetSpec(name=name, limits={"requests": LimitSpec(limit=1_000, window_ms=1_000, paced=False)})


def limiter() -> limiter_desk.Desk:
    desk = limiter_desk.Desk(spec("team"), spec("other"))
    assert isinstance(set_rights(desk, rule("a1", budgets=["team"])), Accept)
    return desk


def reserve(desk: Any, budget: str, **more: Any) -> Reserve:
    return Reserve(id=desk.new_id(), budget=budget, amounts=Amounts(requests=1), **more)


def test_limiter_grants_from_budgets_that_one_may_use_and_from_no_others() -> None:
    """Also where the other one is only named beside, or reported on."""
    desk = limiter()
    assert isinstance(desk.ask(reserve(desk, "team"), "a1"), Accept)
    before = desk.dump()
    assert is_forbidden(desk.ask(reserve(desk, "other"), "a1"), "other")
    assert is_forbidden(desk.ask(reserve(desk, "team", also=("other",)), "a1"), "other")
    assert is_forbidden(desk.ask(RateLimited(id=desk.new_id(), budget="other"), "a1"), "other")
    lease = Lease(id=desk.new_id(), budget="other", want=(1,) * 7, demand=(1,) * 7)
    assert is_forbidden(desk.ask(lease, "a1"), "other")
    assert desk.dump() == before
    assert isinstance(desk.ask(reserve(desk, "other"), "a2"), Accept)
    desk.check()


def test_a_lease_ends_when_the_right_is_taken_away() -> None:
    """It was granted before; the next report on it brings nothing more."""
    desk = limiter_desk.Desk(spec("team"))
    seven = (5, 0, 0, 0, 0, 0, 0)
    lease = desk.must(Lease(id=desk.new_id(), budget="team", want=seven, demand=seven), "a1")["lease"]
    set_rights(desk, rule("a1", budgets=[]))
    nothing = (0,) * 7
    told = {"lease": lease, "period": 1, "hand": nothing, "unused": nothing, "done": nothing, "open": nothing}
    reply = desk.must(Renew(id=desk.new_id(), want=seven, demand=seven, **told), "a1")
    assert (reply["over"], reply["add"]) == (True, nothing)
    desk.check()


def test_the_same_rights_again_change_nothing_and_rights_survive_a_dump() -> None:
    """So an owner can apply its file each time; and a take-over has them."""
    desk = limiter()
    again = set_rights(desk, rule("a1", budgets=["team"]))
    assert isinstance(again, Refuse)
    assert again.reply["changed"] is False
    loaded = desk.decider.load(desk.dump())
    command = Command("a1", "x-1", reserve(desk, "other"))
    assert is_forbidden(desk.decider.decide(loaded, command, desk.now, (1, 1, 99)), "other")
    opened = set_rights(desk)
    assert isinstance(opened, Accept)
    assert isinstance(desk.ask(reserve(desk, "other"), "a1"), Accept)
    assert "set rights: 0 rules" in desk.decider.describe(opened.events[0])


# ---- the GPU manager


def gpus() -> gpu_desk.Desk:
    desk = gpu_desk.Desk("h1=1x16GiB", "h2=1x16GiB")
    assert isinstance(set_rights(desk, rule("a1", gpus=["h1"], models=["llama*"]), rule("a2", gpus=[])), Accept)
    return desk


def test_gpu_manager_places_a_lease_among_the_cards_that_one_may_use() -> None:
    """Even when another card would be the better one; and whoever may use none is refused as such."""
    desk = gpus()
    held = {desk.granted(GIB, "a1")["devices"][0]["host"] for _ in range(8)}
    assert held == {"h1"}
    before = desk.decider.dump(desk.state)
    assert is_forbidden(desk.lease(GIB, "a1", hosts=("h2",)), "h2")
    assert is_forbidden(desk.lease(GIB, "a2"), "")
    assert desk.decider.dump(desk.state) == before
    desk.granted(GIB, "a3", hosts=("h2",))
    desk.check()


def test_what_does_not_fit_on_ones_own_cards_is_refused_though_others_have_room() -> None:
    """An ordinary refusal: another time it may fit."""
    desk = gpus()
    desk.granted(12 * GIB, "a1")
    assert desk.refused(12 * GIB, "a1")["reason"]
    desk.granted(12 * GIB, "a3")
    desk.check()


def test_a_gpu_lease_is_not_renewed_when_the_right_is_taken_away() -> None:
    """It ends at its time, as if it had not been asked for."""
    desk = gpus()
    lease = desk.granted(GIB, "a1")
    set_rights(desk, rule("a1", gpus=["h2"]))
    assert is_forbidden(desk.renew(lease["lease"], "a1"), lease["devices"][0]["device"])
    assert desk.granted(GIB, "a1")["devices"][0]["host"] == "h2"
    desk.check()


def test_who_waits_for_a_card_does_not_get_it_after_the_right_is_gone() -> None:
    """The rights count that hold when it is granted."""
    desk = gpus()
    first = desk.granted(13 * GIB, "a1")
    body = gpu_wire.Lease(id=desk.new_id(), memory=13 * GIB, wait_ms=60_000)
    desk.ask(body, "a1")
    set_rights(desk, rule("a1", gpus=["h2"]))
    desk.release(first["lease"], "a1")
    desk.live(1_000)
    assert is_forbidden(desk.answers["a1", body.id], first["devices"][0]["device"])
    desk.check()


def test_gpu_manager_lets_nobody_load_a_model_without_the_right() -> None:
    """And not on a host that is not one's own, either."""
    desk = gpus()

    def want(model: str, place: str) -> Outcome:
        body = CacheWant(id=desk.new_id(), model=model, place=place, tier="ram", size=GIB)
        return desk.ask(body, "a1")

    assert is_forbidden(want("qwen-7b", "h1"), "qwen-7b")
    assert is_forbidden(want("llama-8b", "h2"), "h2")
    assert not isinstance(want("llama-8b", "h1"), Reject)


# ---- the breaker


def test_breaker_hears_reports_on_targets_that_one_may_use_and_on_no_others() -> None:
    """A report on another's target opens nothing, and no permit is given for it."""
    desk = breaker_desk.Desk(breaker_desk.rule(consecutive=1, quorum=1, quorum_permille=0))
    set_rights(desk, rule("a1", targets=["openai"]))
    bad = Report(deltas=(Delta(target="openai/eu", error=9), Delta(target="anthropic", error=9)))
    assert is_forbidden(desk.ask(bad, "a1"), "anthropic")
    assert is_forbidden(desk.ask(Probe(id=desk.new_id(), target="anthropic"), "a1"), "anthropic")
    assert not isinstance(desk.ask(Report(deltas=(Delta(target="openai/eu", error=9),)), "a1"), Reject)


# ---- the scheduler


def task(desk: Any, **more: Any) -> task_wire.Submit:
    return task_wire.Submit(id=desk.new_id(), task_class="c", **more)


def needs(**fields: Any) -> task_wire.Needs:
    return task_wire.Needs(**fields)


def test_scheduler_accepts_tasks_for_models_and_gpus_that_one_may_use() -> None:
    """A task that could run on any GPU needs the right to all."""
    desk = scheduler_desk.Desk()
    set_rights(desk, rule("ann", models=["llama*"], gpus=["h1"]))
    before = desk.decider.dump(desk.state)
    assert is_forbidden(desk.ask(task(desk, needs=needs(model="qwen-7b"))), "qwen-7b")
    assert is_forbidden(desk.ask(task(desk, hints=task_wire.Hints(model="qwen-7b"))), "qwen-7b")
    assert is_forbidden(desk.ask(task(desk, needs=needs(kind="gpu"))), "")
    assert is_forbidden(desk.ask(task(desk, needs=needs(gpu_memory_mib=10, host="h2"))), "h2")
    assert desk.decider.dump(desk.state) == before
    desk.must(task(desk, needs=needs(model="llama-8b", kind="gpu", host="h1")))
    desk.must(task(desk))


def test_scheduler_looks_at_every_task_of_a_graph_and_at_what_was_posted() -> None:
    """A graph is refused as a whole; a posted task becomes a dead letter that says why: nobody hears an answer."""
    desk = scheduler_desk.Desk()
    set_rights(desk, rule("ann", models=["llama*"], budgets=["team"]))
    template = task_wire.Task(task_class="c", needs=needs(tokens={"team": 10}))
    good, bad = Item(name="a"), Item(name="b", needs=needs(model="qwen"))
    assert is_forbidden(desk.ask(Graph(id=desk.new_id(), name="g", template=template, items=(good, bad))), "qwen")
    assert is_forbidden(desk.ask(task(desk, needs=needs(tokens={"other": 10}))), "other")
    desk.must(Graph(id=desk.new_id(), name="g", template=template, items=(good,)))
    for sequence, model in enumerate(("qwen", "llama-8b"), 1):
        post = task_wire.Post(name=f"p{sequence}", task_class="c", needs=needs(model=model))
        assert isinstance(desk.decide(Command("ann", "", Delivered(sequence, post))), Accept)
    assert "ann.p1" in desk.state.dead
    assert "ann.p2" in desk.state.tasks


# ---- the file


def test_a_file_of_rights_is_read_as_it_stands(tmp_path: Path) -> None:
    """With the names of the contract; a mistake is named with its place."""
    path = tmp_path / "rights.toml"
    path.write_text('closed = true\n[[rule]]\nwho = ["a*"]\nbudgets = ["team"]\n')
    read = read_rights(path)
    assert (read.closed, read.rules) == (True, (rule("a*", budgets=["team"]),))
    for text, wrong in (
        ("[[rule]]\n", "who"),
        ('[[rule]]\nwho=["A"]\n', "who"),
        ('[[rule]]\nwho=["a"]\nbudget=["x"]\n', "budget"),
        ('[[rule]]\nwho=["a"]\nbudgets=["a b"]\n', "budgets"),
        ("open = 1\n", "open"),
        ("[[rule", "rights.toml"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=wrong):
            read_rights(path)
    with pytest.raises(ValueError, match="cannot be read"):
        read_rights(tmp_path / "none.toml")


def test_a_new_owner_decides_the_rights_of_its_file_first(tmp_path: Path) -> None:
    """Before what the service itself begins with. A file that has gone bad since the start changes nothing; one that is
    bad at the start keeps the process from starting."""
    path = tmp_path / "rights.toml"
    path.write_text('[[rule]]\nwho = ["a1"]\nbudgets = []\n')
    settings = LimiterSettings(rights=path)
    first, *rest = first_of_all(LIMITER, settings, LimiterDecider().initial())
    assert isinstance(first, SetRights)
    assert [type(body) for body in rest] == [LoadFile]
    path.write_text("[[rule")
    assert [type(body) for body in first_of_all(LIMITER, settings, LimiterDecider().initial())] == [LoadFile]
    with pytest.raises(ValidationError, match="rights"):
        LimiterSettings(rights=path)


BAD_RULES: list[dict[str, Any]] = [
    {"who": ()},
    {"who": ("a.b",)},
    {"who": ("a",), "budgets": ("x>",)},
    {"who": ("a",), "gpus": ("",)},
]


@pytest.mark.parametrize("fields", BAD_RULES)
def test_what_is_no_rule_is_refused_at_the_border(fields: dict[str, Any]) -> None:
    """Nobody, names that are none, patterns with other wildcards."""
    with pytest.raises(ValidationError):
        RightsRule(**fields)
