"""Each wrong rule of admission, put into the manager itself, is caught by a judge that knows what is true."""

from __future__ import annotations

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from bursar_gpu_manager import explaining, fitting, refusal, status
from bursar_gpu_manager.admission_rules import RIGHT, RULES, Known, Picture, Rule
from bursar_gpu_manager.device import Device
from bursar_gpu_manager.state import State
from tests.gpu_manager.test_machine import Machine
from tests.gpu_manager.test_truth import Truth

pytestmark = pytest.mark.property

SEARCH = settings(
    max_examples=200, stateful_step_count=30, deadline=None, database=None, phases=[Phase.generate], derandomize=True
)
SAFE = "free_less_leases"
"""The wrong rule that grants too little."""


def room_by(rule: Rule, state: State, device: Device) -> int | None:
    """The most that the rule would grant on a device, as `fitting.room_of`; found by bisection."""
    view = state.view(device)
    if view is None or view.used is None:
        return None
    seen_at, observed = state.sights[device.host].at, fitting.observed_of(state, device)
    leases = [
        Known(memory, observed.get(key, 0), state.leases[key].expires_at - state.leases[key].ttl >= seen_at)
        for key, memory in device.leases.items()
    ]
    total = min(device.total - view.kept, view.visible) - state.settings.reserve
    card, low, high = Picture(total, view.used, leases), -1, total + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if rule(card, middle) else (low, middle)
    return low


def catches(machine: type[RuleBasedStateMachine], monkeypatch: pytest.MonkeyPatch, name: str) -> bool:
    def wrong(state: State, device: Device, *, emergency: bool = False) -> int | None:
        return room_by(RULES[name], state, device)

    for module in (fitting, refusal, status, explaining):
        monkeypatch.setattr(module, "room_of", wrong)
    try:
        run_state_machine_as_test(machine, settings=SEARCH)
    except Exception:  # noqa: BLE001 - an assertion, or the card that has no more memory
        return True
    return False


@pytest.mark.parametrize("name", [name for name in RULES if name not in (RIGHT, SAFE)])
def test_a_manager_that_promises_the_same_memory_twice_is_caught_by_the_cards(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A holder does not get what it was granted, or the sum says so first."""
    assert catches(Truth, monkeypatch, name)


def test_a_manager_that_counts_what_is_loaded_twice_is_caught_by_what_it_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is safe; the oracle says what would have fitted."""
    assert catches(Machine, monkeypatch, SAFE)
