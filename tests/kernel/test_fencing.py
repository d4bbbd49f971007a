"""Fences as agents carry them."""

from __future__ import annotations

import re

import pytest

from bursar.contracts.base import FENCE
from bursar.kernel.fencing import Fencer, parse_fence


def test_sealed_fence_is_genuine_under_its_key_only() -> None:
    """Another key, another number or another MAC is a lie."""
    fencer = Fencer(b"k" * 32)
    sealed = fencer.seal((3, 12, 4_000))
    assert re.match(FENCE, sealed)
    assert fencer.is_genuine(sealed)
    assert parse_fence(sealed) == (3, 12, 4_000)
    assert not Fencer(b"l" * 32).is_genuine(sealed)
    assert not fencer.is_genuine(sealed.replace("4000", "4001"))
    assert not fencer.is_genuine(sealed[:-1] + ("0" if sealed[-1] != "0" else "1"))
    assert not fencer.is_genuine("")


def test_short_key_is_refused() -> None:
    """A key that can be guessed seals nothing."""
    with pytest.raises(ValueError, match="16 bytes"):
        Fencer(b"short")
