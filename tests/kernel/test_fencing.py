"""Fences as agents carry them."""

from __future__ import annotations

import re

import pytest

from bursar.contracts.base import FENCE
from bursar.kernel.fencing import EVERYBODY, Fencer, parse_fence


def test_sealed_fence_is_genuine_under_its_key_only() -> None:
    """Another key, another number or another MAC is a lie."""
    fencer = Fencer(b"k" * 32)
    sealed = fencer.seal((3, 12, 4_000), "ann")
    assert re.match(FENCE, sealed)
    assert fencer.is_genuine(sealed, "ann")
    assert parse_fence(sealed) == (3, 12, 4_000)
    assert not Fencer(b"l" * 32).is_genuine(sealed, "ann")
    assert not fencer.is_genuine(sealed.replace("4000", "4001"), "ann")
    assert not fencer.is_genuine(sealed[:-1] + ("0" if sealed[-1] != "0" else "1"), "ann")
    assert not fencer.is_genuine("", "ann")


@pytest.mark.parametrize("other", ["bob", "an", "annn", "0ann", EVERYBODY])
def test_fence_is_genuine_for_the_one_that_it_was_given_to_only(other: str) -> None:
    """However the names are alike, and also when it was given to all; nor do a number and a name run together."""
    fencer = Fencer(b"k" * 32)
    assert not fencer.is_genuine(fencer.seal((1, 2, 3), "ann"), other)
    assert not fencer.is_genuine(fencer.seal((1, 2, 3), other), "ann")
    mac = fencer.seal((1, 2, 30), "ann").rpartition(".")[2]
    assert not fencer.is_genuine(f"1.2.3.{mac}", "0ann")


def test_short_key_is_refused() -> None:
    """A key that can be guessed seals nothing."""
    with pytest.raises(ValueError, match="16 bytes"):
        Fencer(b"short")
