"""Names of requests and the watermark."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from bursar.client.session import Session
from bursar.contracts.base import REQUEST_ID


def test_ids_fit_the_contract_and_differ_between_sessions() -> None:
    """A restarted process never uses a name again."""
    one, other = Session(), Session()
    assert re.fullmatch(REQUEST_ID, one.id_of(one.begin()))
    assert one.id_of(1) != other.id_of(1)


@given(st.permutations(range(1, 30)), st.integers(0, 29))
def test_the_watermark_is_the_end_of_the_unbroken_beginning(order: list[int], count: int) -> None:
    """acked = n exactly when all up to n have ended and n + 1 has not."""
    session = Session("s")
    for _ in range(29):
        session.begin()
    for number in order[:count]:
        session.end(number)
        session.end(number)
    ended = set(order[:count])
    expected = next(n for n in range(30) if n + 1 not in ended)
    assert session.acked == expected
