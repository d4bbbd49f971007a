"""Hashes of a prompt's beginning: by them the scheduler finds who has computed it before (``hints`` of a task)."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from typing import Final

from bursar.contracts.scheduler_words import MAX_PREFIX

CHARACTERS: Final = 4
"""Of a text, that count as a token."""


def prefix_of(prompt: str | Sequence[int], block: int = 256) -> tuple[str, ...]:
    """A hash for each whole block of ``block`` tokens, over all tokens up to its end: equal hashes, equal beginnings.

    ``prompt``: the tokens, or the text, of which four characters count as one. At most 32 blocks; make them larger
    for longer prompts (and say so: ``prefix_tokens``). Raises ValueError for a block below one token.
    """
    if block < 1:
        raise ValueError(f"a block has one token at least, not {block}")
    size = block * CHARACTERS if isinstance(prompt, str) else block
    state = hashlib.blake2b(digest_size=12)
    hashes = []
    for end in range(size, min(len(prompt), MAX_PREFIX * size) + 1, size):
        part = prompt[end - size : end]
        state.update(part.encode() if isinstance(part, str) else array("q", part).tobytes())
        hashes.append(state.hexdigest())
    return tuple(hashes)
