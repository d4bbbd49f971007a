"""The table of transitions, and what is made from it."""

from __future__ import annotations

from pathlib import Path

from bursar_breaker.events import in_words
from bursar_breaker.lifecycle import CLOSED, ORDERED, STATES, TRANSITIONS, diagram, next_state

COUNTS = {"calls": 4, "failed": 3, "slow": 0, "reporters": 2, "voices": 2}
README = Path(__file__).parents[2] / "services/breaker/README.md"


def test_the_readme_shows_the_diagram_of_the_table() -> None:
    """Documentation and code are the same table."""
    assert diagram() in README.read_text(encoding="utf-8")


def test_nothing_but_orders_moves_a_forced_circuit() -> None:
    """And orders are possible in every state; each of them can be released, and ends when its time is over."""
    orders = {"force_open", "force_close", "disable", "metrics_only", "reset", "annotate"}
    for state in STATES:
        causes = {cause for before, cause in TRANSITIONS if before == state}
        assert orders <= causes
        if state in ORDERED:
            assert causes == orders | {"release", "order_over"}


def test_every_state_leads_back_to_closed() -> None:
    """No circuit can get stuck for want of a way."""
    for state in STATES:
        reached, queue = {state}, [state]
        while queue:
            here = queue.pop()
            for (before, _), after in TRANSITIONS.items():
                if before == here and after not in reached:
                    reached.add(after)
                    queue.append(after)
        assert CLOSED in reached


def test_what_is_not_in_the_table_leads_nowhere() -> None:
    """A closed circuit does not become half-open."""
    assert next_state("closed", "time_over") is None
    assert next_state("open", "time_over") == "half_open"


def test_every_kind_of_event_has_its_words() -> None:
    """An operator can read the journal."""
    told = [
        ("o", 5, 1, "p", 9, "failure_rate", 1, {"counts": COUNTS}),
        ("l", 5, 2, "p", 12),
        ("h", 12, 3, "p"),
        ("r", 13, 4, "p", "ramp_begins", 50, 14),
        ("c", 13, 4, "p", "ramp_done"),
        ("f", 13, 5, "p", "reset", "ops", "", 0),
        ("y", 13, 6, "p", 40),
        ("p", 14, "1.1.9", "ann", 20, [["p", 3]]),
        ("d", 15, "1.1.9", "ok", []),
        ("e", 15, "1.1.9"),
        ("b", 15, "abc", [[{}, {"target": "p"}], [["eu", ["p"]]]], 0),
        ("x", 15, 50),
    ]
    for event in told:
        assert in_words(event).startswith(f"{event[1]} ms: ")
