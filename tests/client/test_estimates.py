"""How long an answer will be: learned, bounded by what the caller allows, and measured."""

from __future__ import annotations

import math
import random

import pytest

from bursar.client.estimates import DEFAULT_OUTPUT, ENOUGH, GENERATION, MOST, Estimates, Guess


def taught(answers: dict[tuple[str, str], list[int]], quantile: float = 0.95) -> Estimates:
    estimates = Estimates(quantile)
    for (agent, model), lengths in answers.items():
        for tokens in lengths:
            estimates.learn(agent, model, tokens)
    return estimates


def test_who_has_answered_little_is_guessed_by_a_wider_view() -> None:
    """Agent and model, then the model, then all, then the default."""
    estimates = Estimates()
    assert estimates.guess("a", "m") == Guess(DEFAULT_OUTPUT, "default")
    estimates = taught({("a", "m"): [100] * ENOUGH, ("b", "m"): [300] * (ENOUGH - 1)})
    assert estimates.guess("a", "m").level == "agent"
    assert 100 <= estimates.guess("a", "m").tokens <= 103
    assert estimates.guess("b", "m").level == "model"
    assert 300 <= estimates.guess("b", "m").tokens <= 307
    assert estimates.guess("c", "n").level == "global"


def test_a_reservation_is_never_above_the_stated_maximum() -> None:
    """Nor is the maximum undercut before anything was learned."""
    estimates = Estimates()
    assert estimates.reserve("a", "m", 4_096) == 4_096
    assert estimates.reserve("a", "m", None) == DEFAULT_OUTPUT
    estimates = taught({("a", "m"): [500] * ENOUGH})
    assert 500 <= estimates.reserve("a", "m", 4_096) <= 511
    assert estimates.reserve("a", "m", 64) == 64


def test_the_share_of_answers_above_the_guess_is_that_of_the_quantile() -> None:
    """Measured over a heavy tail that nobody knows in advance, each answer guessed before it is learned."""
    rng, estimates = random.Random(7), Estimates(0.9)
    for _ in range(4_000):
        tokens = max(1, round(200 * math.exp(rng.gauss(0, 1.0))))
        estimates.learn("a", "m", tokens, estimates.reserve("a", "m", 32_000))
    (quality,) = estimates.report()
    assert quality.answers == 4_000
    assert 0.08 <= quality.above_share <= 0.12
    assert quality.above == round(quality.above_share * 4_000)
    assert 0.0 < quality.refund_share < 0.8
    back = quality.reserved * (1 - quality.refund_share + quality.overage_share)
    assert back == pytest.approx(quality.used)


def test_old_habits_are_forgotten() -> None:
    """Two generations later nothing is left of them."""
    estimates = taught({("a", "m"): [10_000] * GENERATION + [50] * (2 * GENERATION)})
    assert estimates.guess("a", "m").tokens <= 52


def test_a_guess_follows_what_is_learned() -> None:
    """It is looked up anew when a sixteenth part more has been answered."""
    estimates = taught({("a", "m"): [100] * 100})
    assert estimates.guess("a", "m").tokens < 110
    for _ in range(20):
        estimates.learn("a", "m", 1_000)
    assert estimates.guess("a", "m").tokens >= 1_000


def test_the_memory_is_bounded() -> None:
    """The pair that was used longest ago goes first."""
    estimates = taught({("kept", "m"): [5]})
    for number in range(MOST + 50):
        estimates.learn(f"agent-{number}", "m", 5)
        estimates.learn("kept", "m", 5)
    names = {quality.agent for quality in estimates.report()}
    assert len(names) == MOST
    assert "kept" in names
    assert "agent-0" not in names


def test_a_quantile_is_a_part() -> None:
    """Above 0, at most 1."""
    for quantile in (0.0, 1.1):
        with pytest.raises(ValueError, match="quantile"):
            Estimates(quantile)
