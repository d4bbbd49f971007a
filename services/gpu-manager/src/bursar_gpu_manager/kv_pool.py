"""One pool of KV pages: its pages, who may join, and which pages are asked back for whom.

Durable but for ``heard`` (when an engine said something last), ``asked_at`` (when one wanted pages that are asked back
from others) and the blocks that engines say they use.
"""

from __future__ import annotations

from typing import Any

from bursar_gpu_manager.kv_pages import Pages


class Pool:
    """``page``: bytes of a page. ``engines``: who may join beside the holder of the lease. ``keep_ms``: who is silent
    for so long has left. ``asked``: pages by who wants them, then by whom they are asked of."""

    __slots__ = ("asked", "asked_at", "engines", "heard", "keep_ms", "page", "pages")

    def __init__(self, page: int, engines: tuple[str, ...], keep_ms: int, pages: Pages) -> None:
        self.page = page
        self.engines = engines
        self.keep_ms = keep_ms
        self.pages = pages
        self.asked: dict[str, dict[str, int]] = {}
        self.heard: dict[str, int] = {}
        self.asked_at: dict[str, int] = {}

    def copy(self) -> Pages:
        """Its pages, to try something with."""
        return self.pages.copy()

    def asked_by(self, who: str) -> dict[str, int]:
        return self.asked.get(who, {})

    def wanted(self, engine: str) -> int:
        """Pages that others want back from it."""
        return sum(asked.get(engine, 0) for asked in self.asked.values())

    def apply(self, what: str, row: Any) -> None:
        if what == "join":
            engine, promised, limit, per_page = row
            self.pages.add(engine, promised, limit, per_page)
        elif what == "asked":
            who, asked = row
            self.asked[who] = dict(asked)
            if not asked:
                self._unask(who)
        elif what == "set":
            self._set(*row)
        else:
            self.pages.remove(row[0])
            self._forget(row[0])
            self.heard.pop(row[0], None)

    def _set(self, engine: str, pages: int) -> None:
        """Who has got pages asks for none any more; who gave some is asked for so many fewer."""
        before = self.pages.engines[engine].pages
        self.pages.put(engine, pages)
        if pages > before:
            self._unask(engine)
        given = before - pages
        for asked in self.asked.values():
            part = min(max(0, given), asked.get(engine, 0))
            if part:
                given -= part
                asked[engine] -= part

    def _unask(self, who: str) -> None:
        self.asked.pop(who, None)
        self.asked_at.pop(who, None)

    def _forget(self, engine: str) -> None:
        self._unask(engine)
        for asked in self.asked.values():
            asked.pop(engine, None)

    def dump(self) -> Any:
        asked = [[who, [list(pair) for pair in rows.items()]] for who, rows in self.asked.items()]
        return [self.page, list(self.engines), self.keep_ms, self.pages.dump(), asked]

    @classmethod
    def load(cls, value: Any) -> Pool:
        page, engines, keep_ms, pages, asked = value
        found = cls(page, tuple(engines), keep_ms, Pages.load(pages))
        found.asked = {who: dict(rows) for who, rows in asked}
        return found
