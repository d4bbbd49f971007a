"""Pages of KV cache, shared by the engines of one card.

Paged attention fills blocks of a few tokens; the driver maps memory in pages of many blocks. A page is held as long as
one of its blocks is, so what an engine holds is more than what it uses: ``waste = 1 - used / held``. The least that so
many blocks can be held in is the packed floor, whole pages of them. The ledger counts both per engine, keeps what each
was promised, lends what nobody uses, and says which blocks to give up so that whole pages come back: dropping the
oldest blocks wherever they lie frees almost none (kvcached: 0.03 GB against 0.88 GB for the same number of blocks).
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final, NamedTuple

from bursar.errors import CallerError
from bursar.kernel.bugs import seeded

PAGE: Final = 2 << 20
"""What CUDA maps at a time, in bytes."""


def packed_pages(blocks: int, per_page: int) -> int:
    """The fewest pages that hold so many blocks."""
    return -(-blocks // per_page)


def waste(used: int, held: int) -> Fraction:
    """Part of what is held that is not used; 0 when nothing is held."""
    return Fraction(held - used, held) if held else Fraction(0)


class Holding(NamedTuple):
    """An engine's pages. ``promised``: pages that it can always have; ``limit``: that it may have while nobody else
    needs them; ``per_page``: blocks of this engine in a page."""

    promised: int
    limit: int
    per_page: int
    blocks: int = 0
    pages: int = 0

    @property
    def waste(self) -> Fraction:
        return waste(self.blocks, self.pages * self.per_page)

    @property
    def packed(self) -> int:
        return packed_pages(self.blocks, self.per_page)


class Pages:
    """The pages of one card (``total``) and who has them. What is promised never exceeds the total, and every engine
    can have its promise at once: a page beyond it is lent only while the promises of all others still fit."""

    __slots__ = ("_held", "total")

    def __init__(self, total: int) -> None:
        self.total = total
        self._held: dict[str, Holding] = {}

    @property
    def engines(self) -> Mapping[str, Holding]:
        return self._held

    @property
    def free(self) -> int:
        return self.total - sum(held.pages for held in self._held.values())

    def add(self, engine: str, promised: int, limit: int, per_page: int) -> None:
        """Raises `CallerError`: ``conflict`` (it is there), ``no_pages`` (the promises would exceed the card)."""
        if engine in self._held:
            raise CallerError("conflict", f"the engine {engine} has its pages already")
        if min(promised, per_page - 1) < 0 or promised > limit:
            raise CallerError("bad_request", "a promise is at most the limit, and a page holds a block or more")
        if sum(held.promised for held in self._held.values()) + promised > self.total or promised > self.lendable(""):
            raise CallerError("no_pages", f"{promised} pages more cannot be promised", free=self.lendable(""))
        self._held[engine] = Holding(promised, limit, per_page)

    def remove(self, engine: str) -> None:
        self._get(engine)
        del self._held[engine]

    def lendable(self, engine: str) -> int:
        """Pages that it may take now: what is free, less what others were promised and have not taken."""
        owed = sum(max(0, held.promised - held.pages) for name, held in self._held.items() if name != engine)
        return self.free - (0 if seeded("gpu_promised_pages_are_lent") else owed)

    def take(self, engine: str, pages: int) -> bool:
        """Whether it got so many pages more: within its limit, and not what others were promised."""
        held = self._get(engine)
        if pages < 0 or held.pages + pages > held.limit or pages > self.lendable(engine):
            return False
        self._held[engine] = held._replace(pages=held.pages + pages)
        return True

    def use(self, engine: str, blocks: int) -> None:
        """It uses so many blocks now, as it reports. Raises `CallerError` (bad_request) when its pages do not hold
        them."""
        held = self._get(engine)
        if not 0 <= blocks <= held.pages * held.per_page:
            raise CallerError("bad_request", f"{held.pages} pages do not hold {blocks} blocks")
        self._held[engine] = held._replace(blocks=blocks)

    def give(self, engine: str, pages: int) -> None:
        """It gave pages back. Raises `CallerError` (bad_request) when blocks would be left without a page."""
        held = self._get(engine)
        if not 0 <= pages <= held.pages - held.packed:
            raise CallerError("bad_request", f"{held.blocks} blocks need {held.packed} of {held.pages} pages")
        self._held[engine] = held._replace(pages=held.pages - pages)

    def reclaim(self, engine: str, pages: int) -> dict[str, int]:
        """Pages to ask back from others so that ``engine`` can take ``pages``: only what is lent beyond a promise,
        the most wasteful engine first. Empty when nothing has to be asked, or when it would not be enough."""
        missing = pages - self.lendable(engine)
        lent = [(held.waste, held.pages - held.promised, name) for name, held in self._held.items() if name != engine]
        asked: dict[str, int] = {}
        for _, beyond, name in sorted(lent, key=lambda row: (-row[0], -row[1], row[2])):
            if missing > 0 and beyond > 0:
                asked[name] = min(beyond, missing)
                missing -= asked[name]
        return asked if missing <= 0 else {}

    def _get(self, engine: str) -> Holding:
        held = self._held.get(engine)
        if held is None:
            raise CallerError("unknown", f"no engine {engine} has pages here")
        return held

    def put(self, engine: str, pages: int) -> None:
        """It has so many pages now, as was decided; blocks that it told of and that do not fit any more are gone."""
        held = self._get(engine)
        self._held[engine] = held._replace(pages=pages, blocks=min(held.blocks, pages * held.per_page))

    def copy(self) -> Pages:
        found = Pages(self.total)
        found._held = dict(self._held)
        return found

    def dump(self) -> Any:
        """Without the blocks, which engines tell again."""
        rows = [[name, held.promised, held.limit, held.per_page, held.pages] for name, held in self._held.items()]
        return [self.total, rows]

    @classmethod
    def load(cls, value: Any) -> Pages:
        total, rows = value
        found = cls(total)
        for name, promised, limit, per_page, pages in rows:
            found._held[name] = Holding(promised, limit, per_page, 0, pages)
        return found


class PageUse(NamedTuple):
    """A page of an engine: blocks in use, of these how many sequences still run on (``busy``), and when last used."""

    page: int
    blocks: int
    busy: int
    used_at: int


def to_give_up(pages: list[PageUse], wanted: int) -> list[int]:
    """Pages to empty so that ``wanted`` come back for the fewest blocks lost: never a busy one, emptiest first, then
    the one used longest ago. Fewer when there are not so many."""
    idle = [page for page in pages if not page.busy]
    idle.sort(key=lambda page: (page.blocks, page.used_at, page.page))
    return [page.page for page in idle[:wanted]]
