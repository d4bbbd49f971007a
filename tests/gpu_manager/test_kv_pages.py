"""Pages of KV cache on one card."""

from __future__ import annotations

from fractions import Fraction

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.errors import CallerError
from bursar_gpu_manager.kv_pages import Pages, PageUse, packed_pages, to_give_up, waste

MIB = 1 << 20


def test_the_packed_floor_is_the_golden_one() -> None:
    """1000 blocks, 64 to a page of 144 MiB: 16 pages, 2304 MiB."""
    assert packed_pages(1_000, 64) == 16
    assert packed_pages(1_000, 64) * 144 * MIB == 2_304 * MIB
    assert packed_pages(0, 64) == 0


def test_waste_is_what_is_held_and_not_used() -> None:
    """32 pages of 64 blocks for 1000 of them: half; nothing held, nothing wasted."""
    assert waste(1_000, 32 * 64) == 1 - Fraction(1_000, 2_048)
    assert waste(0, 0) == 0


def two() -> Pages:
    """A hundred pages; both engines were promised 40 and may have 80."""
    pages = Pages(100)
    pages.add("a", 40, 80, 64)
    pages.add("b", 40, 80, 32)
    return pages


def test_what_was_promised_is_always_there() -> None:
    """An engine borrows what nobody uses, never what another was promised."""
    pages = two()
    assert pages.lendable("a") == 60
    assert pages.take("a", 60)
    assert not pages.take("a", 1)
    assert pages.take("b", 40)
    assert pages.free == 0


def test_a_limit_holds_even_when_pages_are_free() -> None:
    """It is what its lease pays for."""
    pages = Pages(100)
    pages.add("a", 10, 20, 64)
    assert not pages.take("a", 21)
    assert not pages.take("a", -1)
    assert pages.take("a", 20)


def test_promises_never_exceed_the_card() -> None:
    """Nor what is free now."""
    pages = two()
    for promised in (21, 101):
        with pytest.raises(CallerError) as error:
            pages.add("c", promised, 200, 1)
        assert error.value.code == "no_pages"
    pages.take("a", 55)
    with pytest.raises(CallerError):
        pages.add("c", 10, 10, 1)
    pages.add("c", 5, 5, 1)


def test_blocks_in_use_keep_their_pages() -> None:
    """65 blocks of 64 to a page need two of three; the third can go."""
    pages = two()
    pages.take("a", 3)
    pages.use("a", 65)
    assert pages.engines["a"].packed == 2
    assert pages.engines["a"].waste == 1 - Fraction(65, 192)
    with pytest.raises(CallerError):
        pages.give("a", 2)
    pages.give("a", 1)
    with pytest.raises(CallerError):
        pages.use("a", 129)
    assert pages.engines["a"].pages == 2


def test_lent_pages_are_asked_back_from_the_most_wasteful() -> None:
    """Only beyond the promise, and only when it is enough."""
    pages = Pages(100)
    for name in ("a", "b", "c"):
        pages.add(name, 10, 80, 10)
    pages.take("a", 40)
    pages.take("b", 40)
    pages.use("a", 390)
    pages.use("b", 50)
    assert pages.lendable("c") == 20
    assert pages.reclaim("c", 15) == {}
    assert pages.reclaim("c", 45) == {"b": 25}
    assert pages.reclaim("c", 60) == {"b": 30, "a": 10}
    assert pages.reclaim("c", 99) == {}


@pytest.mark.parametrize(("promised", "limit", "per_page"), [(-1, 5, 1), (6, 5, 1), (1, 5, 0)])
def test_numbers_without_sense_are_refused(promised: int, limit: int, per_page: int) -> None:
    """And change nothing."""
    pages = Pages(100)
    with pytest.raises(CallerError):
        pages.add("a", promised, limit, per_page)
    assert not pages.engines


def test_unknown_and_known_engines() -> None:
    """Twice is a conflict; who is not there has no pages; who leaves gives all back; dump and load are inverse."""
    pages = two()
    with pytest.raises(CallerError) as error:
        pages.add("a", 1, 1, 1)
    assert error.value.code == "conflict"
    with pytest.raises(CallerError):
        pages.take("z", 1)
    pages.take("a", 7)
    assert Pages.load(msgpack.unpackb(msgpack.packb(pages.dump()))).dump() == pages.dump()
    pages.remove("a")
    assert pages.free == 100


def test_emptiest_pages_are_given_up_first() -> None:
    """One block lost per page instead of a page's worth; busy pages stay."""
    pages = [PageUse(1, 60, 0, 5), PageUse(2, 1, 0, 900), PageUse(3, 1, 1, 1), PageUse(4, 1, 0, 3)]
    assert to_give_up(pages, 2) == [4, 2]
    assert to_give_up(pages, 9) == [4, 2, 1]


STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["take", "give", "use"]), st.integers(0, 40)), max_size=30
)


@given(STEPS)
@pytest.mark.property
def test_every_promise_can_be_kept_at_once(steps: list[tuple[str, str, int]]) -> None:
    """After whatever history: what is free covers what all were promised and have not taken."""
    pages = Pages(60)
    for name, promised in (("a", 10), ("b", 20), ("c", 30)):
        pages.add(name, promised, 60, 4)
    for name, what, number in steps:
        try:
            getattr(pages, what)(name, number)
        except CallerError:
            continue
        owed = sum(max(0, held.promised - held.pages) for held in pages.engines.values())
        assert 0 <= owed <= pages.free
        assert all(held.blocks <= held.pages * held.per_page for held in pages.engines.values())
