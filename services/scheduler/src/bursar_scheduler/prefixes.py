"""Which workers have computed the beginning of which prompts: an estimate of what is in their caches. Volatile.

A task tells a hash for each block of its prompt, each over all blocks up to its own. Who was given a task has its
blocks from then on, until they are among the oldest of all that are kept here; a process that is new has none. The
worker's own cache may have dropped a block before that, or keep it longer: it is a hint for the placement, nobody
relies on it (llm-d's approximate prefix scorer and SGLang's router work alike).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

MAX_BLOCKS: Final = 65_536
MAX_HOLDERS: Final = 8
"""Workers that are remembered for a block: those that had it last."""


class Prefixes:
    """``blocks``: by hash the workers that have it, each with its session, the latest last."""

    __slots__ = ("_sessions", "blocks")

    def __init__(self) -> None:
        self.blocks: OrderedDict[str, dict[str, str]] = OrderedDict()
        self._sessions: dict[str, str] = {}

    def seat(self, worker: str, session: str) -> None:
        """This process speaks for the worker from now on."""
        self._sessions[worker] = session

    def forget(self, worker: str) -> None:
        self._sessions.pop(worker, None)

    def take(self, worker: str, hashes: tuple[str, ...]) -> None:
        """A worker was given a task with this prompt."""
        session = self._sessions.get(worker, "")
        for one in hashes:
            holders = self.blocks.setdefault(one, {})
            self.blocks.move_to_end(one)
            holders.pop(worker, None)
            holders[worker] = session
            if len(holders) > MAX_HOLDERS:
                del holders[next(iter(holders))]
        while len(self.blocks) > MAX_BLOCKS:
            self.blocks.popitem(last=False)

    def held(self, hashes: tuple[str, ...], block: int) -> tuple[tuple[str, int], ...]:
        """Who has how many tokens of a prompt, the longest first; ``block``: tokens of one."""
        found: dict[str, int] = {}
        for place in range(len(hashes), 0, -1):
            for worker, session in self.blocks.get(hashes[place - 1], {}).items():
                if worker not in found and self._sessions.get(worker) == session:
                    found[worker] = place * block
            if len(found) >= MAX_HOLDERS:
                break
        return tuple(found.items())
