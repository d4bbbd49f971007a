"""Subjects and wildcards as nats-server has them."""

from __future__ import annotations

import pytest

from bursar.bus.subjects import is_publishable, is_subscribable, matches


@pytest.mark.parametrize("subject", ["a", "a.b", "a.*", "*", ">", "a.>", "a.*.b.>", "$SRV.PING", "_R.a.1"])
def test_what_can_be_subscribed_to(subject: str) -> None:
    """Wildcards stand for whole tokens, ``>`` at the end."""
    assert is_subscribable(subject)


@pytest.mark.parametrize("subject", ["", ".", "a.", ".a", "a..b", "a.>.b", "a*", "a.b>", "a b", "a\n", " a", "a.\t"])
def test_what_cannot(subject: str) -> None:
    """Empty tokens, half wildcards, white space."""
    assert not is_subscribable(subject)


@pytest.mark.parametrize("subject", ["", "a b", "a\r\n", "\ta"])
def test_what_cannot_even_be_published_to(subject: str) -> None:
    """White space would break the protocol."""
    assert not is_publishable(subject)


@pytest.mark.parametrize(
    ("pattern", "subject", "does"),
    [
        ("a.b", "a.b", True),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        (">", "a", True),
        ("*", "a.b", False),
        ("a.*", "a.*", True),
        ("a.*", "a.>", False),
        ("a.b", "a.*", False),
        ("a.>", "a.*", True),
        (">", ">", True),
        ("*.>", ">", False),
    ],
)
def test_what_a_pattern_covers(pattern: str, subject: str, does: bool) -> None:
    """Also of another pattern: all that it can stand for must be covered."""
    assert matches(pattern, subject) is does
