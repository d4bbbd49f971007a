"""Answers made of packed replies."""

from __future__ import annotations

from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.kernel.replies import whole, whole_packed

FENCE = "1.2.3." + "0" * 16


@pytest.mark.parametrize("keys", [0, 1, 12, 13, 14, 15, 16, 40])
def test_the_packed_way_says_the_same_as_the_plain_one(keys: int) -> None:
    """Small maps are put together from bytes, larger ones are packed anew; the caller sees no difference."""
    reply = {f"key{n}": n for n in range(keys)}
    assert whole_packed(msgpack.packb(reply), FENCE) == msgpack.packb(whole(reply, FENCE))


@pytest.mark.property
@given(st.dictionaries(st.text(max_size=8).filter(lambda k: k not in {"v", "fence"}), st.integers() | st.text()))
def test_any_reply_comes_out_whole(reply: dict[str, Any]) -> None:
    """Whatever a decider answers."""
    reply = {key: value for key, value in reply.items() if not isinstance(value, int) or abs(value) < 2**63}
    assert msgpack.unpackb(whole_packed(msgpack.packb(reply), FENCE)) == {"v": 1, **reply, "fence": FENCE}
