"""What is known of the circuits, in whatever order it was heard."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.client.breaker_view import View
from bursar.client.errors import BadReply
from bursar.contracts.breaker import digest_of

STATES = ("closed", "open", "half_open", "forced_open", "forced_closed")


def change(
    revision: int, target: str, state: str, incarnation: int = 1, remaining_ms: int | None = None
) -> dict[str, Any]:
    return {
        "target": target, "state": state, "revision": revision, "generation": revision, "reason": "r",
        "remaining_ms": None, "fence": f"{incarnation}.1.{revision}.x",
    }  # fmt: skip


def snapshot(changes: list[dict[str, Any]], revision: int, incarnation: int = 1) -> dict[str, Any]:
    """What the registry would say after these changes."""
    last = {told["target"]: told for told in changes if told["revision"] <= revision}
    rows = [told for told in last.values() if told["state"] != "closed"]
    return {
        "revision": revision, "same": False, "circuits": rows, "fence": f"{incarnation}.1.9.x",
        "digest": digest_of((row["target"], row["state"], row["revision"]) for row in rows),
    }  # fmt: skip


@pytest.mark.property
@given(
    st.lists(st.tuples(st.sampled_from("pqr"), st.sampled_from(STATES)), min_size=1, max_size=25),
    st.data(),
)
def test_every_order_of_messages_and_one_snapshot_end_in_the_same_view(
    told: list[tuple[str, str]], data: st.DataObject
) -> None:
    """Lost, repeated, late; snapshots of any moment between them: after the last snapshot all is known."""
    changes = [change(number, *row) for number, row in enumerate(told, 1)]
    heard = data.draw(st.lists(st.sampled_from(changes), max_size=40))
    view = View()
    for message in heard:
        if data.draw(st.integers(0, 9)) == 0:
            view.load(snapshot(changes, data.draw(st.integers(0, len(changes)))), 0.0)
        before = dict(view.known)
        if not view.hear(message, 0.0):
            assert view.known == before
        newest = {row.target: row.revision for row in view.known.values()}
        assert all(newest[target] >= before[target].revision for target in newest if target in before)
    final = snapshot(changes, len(changes))
    view.load(final, 0.0)
    assert view.digest == final["digest"]
    assert view.revision == len(changes)
    assert not view.has_gap
    for message in changes:
        assert not view.hear(message, 0.0), "nothing is newer"
    assert view.digest == final["digest"]


@pytest.mark.property
@given(st.permutations([change(n, "pqr"[n % 3], STATES[n % 5]) for n in range(1, 12)]))
def test_all_messages_in_any_order_need_no_snapshot(heard: list[dict[str, Any]]) -> None:
    """The latest of each target counts, and no gap is left."""
    view = View()
    for message in heard:
        view.hear(message, 0.0)
    assert view.revision == 11
    assert not view.has_gap
    in_order = sorted(heard, key=lambda told: int(told["revision"]))
    assert view.digest == snapshot(in_order, 11)["digest"]


def test_a_higher_incarnation_begins_anew_and_a_lower_one_is_over() -> None:
    """What was known stays until a snapshot says otherwise."""
    view = View()
    view.load(snapshot([change(1, "p", "open")], 1), 0.0)
    assert view.hear(change(1, "q", "open", 2), 0.0)
    assert set(view.known) == {"p", "q"}
    assert not view.hear(change(9, "r", "open", 1), 0.0)
    assert not view.load(snapshot([], 50, 1), 0.0)
    assert view.load(snapshot([change(2, "q", "closed", 2)], 2, 2), 0.0)
    assert view.known == {}


def test_an_older_snapshot_changes_nothing() -> None:
    """It was under way while something newer was heard."""
    view = View()
    changes = [change(1, "p", "open"), change(2, "p", "closed")]
    for message in changes:
        view.hear(message, 0.0)
    assert not view.load(snapshot(changes, 1), 0.0)
    assert view.known == {}


def test_single_circuits_of_other_answers_count_if_they_are_newer() -> None:
    """They close no gap."""
    view = View()
    view.load(snapshot([change(1, "p", "open")], 1), 0.0)
    view.merge([change(3, "p", "half_open"), change(1, "q", "open")], {"fence": "1.1.4.x"}, 0.0)
    view.merge([change(9, "p", "closed")], {"fence": "2.1.4.x"}, 0.0)
    view.merge(None, {"fence": "1.1.4.x"}, 0.0)
    assert {row.target: row.state for row in view.known.values()} == {"p": "half_open"}
    assert view.revision == 1


@pytest.mark.parametrize(
    "told",
    [
        {},
        {**change(1, "p", "open"), "fence": 3},
        {**change(1, "p", "open"), "revision": "1"},
        {**change(1, "p", "open"), "target": None},
    ],
)
def test_what_cannot_be_read_changes_nothing(told: dict[str, Any]) -> None:
    """A newer service may say more than this client understands."""
    view = View()
    with pytest.raises(BadReply):
        view.hear(told, 0.0)
    with pytest.raises(BadReply):
        view.load({**told, "same": False, "circuits": [3]}, 0.0)
    assert view.known == {}
