"""The part of the GPU manager's catalogue that is about pages of KV cache."""

from __future__ import annotations

from typing import Final

from bursar.contracts import gpu_kv as kv
from bursar.contracts.catalog.base import Operation, Telling, Word

_LEASE: Final = {"lease": "1.1.7"}
_FENCE: Final = "1.1.7.0123456789abcdef"

OPERATIONS: Final = (
    Operation(
        "req",
        "kv-open",
        kv.KvOpen,
        "A lease for kv_cache becomes a pool of pages that engines share.",
        replies=(kv.KvOpened,),
        errors=("unknown_lease", "lease_ended", "not_yours", "bad_fence", "conflict"),
        example={**_LEASE, "fence": _FENCE},
    ),
    Operation(
        "req",
        "kv-join",
        kv.KvJoin,
        "An engine joins a pool with a promise and a limit.",
        replies=(kv.KvHeld, kv.KvRefused),
        errors=("unknown_lease", "lease_ended", "not_yours", "bad_fence", "conflict"),
        example={**_LEASE, "promised": 256, "limit": 1_024, "per_page": 64},
    ),
    Operation(
        "req",
        "kv-pages",
        kv.KvPages,
        "What an engine uses, gives back and wants; says that it is still there.",
        replies=(kv.KvHeld,),
        errors=("unknown_lease", "lease_ended", "not_yours", "conflict"),
        example={**_LEASE, "blocks": 1_000, "take": 16, "held": [{"page": 3, "blocks": 2}]},
    ),
    Operation(
        "req",
        "kv-leave",
        kv.KvLeave,
        "An engine leaves a pool.",
        replies=(kv.KvLeft,),
        example=_LEASE,
    ),
    Operation(
        "req",
        "kv-status",
        kv.KvStatus,
        "What a pool has, who has it, and what of it is wasted.",
        replies=(kv.KvReply,),
        errors=("unknown_lease", "conflict"),
        example=_LEASE,
    ),
)

TELLINGS: Final = (Telling(kv.KvWanted, "To an engine that was lent pages beyond its promise: another wants them."),)

WORDS: Final = {
    "KvOpen.fence": Word("The fence that came with the lease."),
    "KvOpen.page": Word("Size of a page.", "bytes"),
    "KvOpen.engines": Word("Who may join beside the holder of the lease."),
    "KvOpened.pages": Word("Pages of the pool.", "pages"),
    "KvJoin.promised": Word("Pages that the engine can always have.", "pages"),
    "KvJoin.limit": Word("Pages that it may have at most.", "pages"),
    "holding": Word("Pages that it has already, after the manager has lost data.", "pages"),
    "KvJoin.fence": Word("Of the last answer of this pool before that; null: it holds none."),
    "per_page": Word("Its blocks in a page.", "blocks"),
    "KvPage.page": Word("Number of the page.", "number"),
    "KvPage.blocks": Word("Blocks of it in use.", "blocks"),
    "busy": Word("Of these, of sequences that still run.", "blocks"),
    "used_at_ms": Word("When it was used last, by a clock of the engine's own.", "ms"),
    "KvPages.blocks": Word("Blocks that the engine uses now.", "blocks"),
    "give": Word("Pages that it gives back.", "pages"),
    "take": Word("Pages that it wants beside those that it has.", "pages"),
    "KvPages.held": Word("Pages of its own, best those with fewest blocks, so that it is told which to empty."),
    "KvHeld.promised": Word("Pages that it can always have.", "pages"),
    "KvHeld.pages": Word("Pages that it has now.", "pages"),
    "taken": Word("Whether it got the pages that it wanted."),
    "asked": Word("Pages that others are asked for instead.", "pages"),
    "wanted": Word("Pages that others want back from it.", "pages"),
    "empty": Word("Which of the pages told to empty for that.", "number"),
    "lendable": Word("Pages that it may take now.", "pages"),
    "waste": Word("Part of the pages held that is not used.", "millionths"),
    "packed": Word("The fewest pages that hold its blocks.", "pages"),
    "KvHeld.keep_ms": Word("The pages are its own for so long after it sent this, unless it says more.", "ms"),
    "KvRefused.reason": Word("Why it cannot join so."),
    "was_there": Word("Whether it had joined."),
    "KvReply.page": Word("Size of a page.", "bytes"),
    "KvReply.pages": Word("Pages of the pool.", "pages"),
    "KvReply.free": Word("Pages that nobody has.", "pages"),
    "KvReply.engines": Word("By engine."),
    "KvEngine.engine": Word("The principal."),
    "KvEngine.promised": Word("Pages that it can always have.", "pages"),
    "KvEngine.limit": Word("Pages that it may have at most.", "pages"),
    "KvEngine.pages": Word("Pages that it has.", "pages"),
    "KvEngine.blocks": Word("Blocks that it uses, as it said last.", "blocks"),
    "KvWanted.service": Word("Who tells."),
    "KvWanted.what": Word("What is told."),
    "KvWanted.pages": Word("How many of its pages.", "pages"),
}
