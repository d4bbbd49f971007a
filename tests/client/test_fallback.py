"""Chains: what comes after what."""

from __future__ import annotations

import pytest

from bursar.client.fallback import Chain, Step, of_targets, only
from bursar.errors import CallerError


def test_after_a_step_come_those_behind_it() -> None:
    """After the last none."""
    chain = of_targets(["a", "b", "c"])
    assert chain == Chain("a", (Step("primary", "a"), Step("model", "b"), Step("model", "c")))
    left = chain.after(chain.steps[1])
    assert left is not None
    assert left.steps == (Step("model", "c"),)
    assert left.after(left.steps[0]) is None
    assert only("a").after(Step("primary", "a")) is None


@pytest.mark.parametrize("targets", [[], [f"t{n}" for n in range(17)]])
def test_a_chain_has_a_target_and_not_too_many(targets: list[str]) -> None:
    """It is the caller's mistake."""
    with pytest.raises(CallerError):
        of_targets(targets)
