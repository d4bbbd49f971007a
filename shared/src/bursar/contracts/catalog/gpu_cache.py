"""The part of the GPU manager's catalogue that is about the model cache."""

from __future__ import annotations

from typing import Final, Literal

from bursar.contracts import gpu_cache as cache
from bursar.contracts.base import Message
from bursar.contracts.catalog.base import Event, Operation, Telling, Word

_NAME: Final = {"model": "llama-3-8b", "place": "host-1/GPU-3f6c"}
_SIZE: Final = 16 * 10**9


class CacheAlarm(Message):
    """The memory of an evicted copy does not come back."""

    model: str
    place: str
    state: Literal["quarantined"]
    bytes: int
    fence: str


OPERATIONS: Final = (
    Operation(
        "req",
        "cache-want",
        cache.CacheWant,
        "Weights are wanted at a place: use them, wait for who loads them, or load them.",
        replies=(cache.CacheAnswer,),
        errors=("unknown_device", "unknown_host", "too_many_uses"),
        example={**_NAME, "size": _SIZE},
    ),
    Operation(
        "req",
        "cache-keep",
        cache.CacheKeep,
        "Copies that somebody still uses, waits for, or loads; without it they count as left after a while.",
        replies=(cache.CacheKept,),
        example={"copies": [_NAME]},
    ),
    Operation(
        "req",
        "cache-loaded",
        cache.CacheLoaded,
        "A load is done: all that wait are told.",
        replies=(cache.CacheDone,),
        errors=("conflict", "not_yours", "unknown_lease"),
        example={**_NAME, "load": 7, "size": _SIZE, "took_ms": 8_200, "lease": "1.1.7"},
    ),
    Operation(
        "req",
        "cache-failed",
        cache.CacheFailed,
        "A load has failed: the next of those who wait loads.",
        replies=(cache.CacheDone,),
        errors=("conflict", "not_yours"),
        example={**_NAME, "load": 7},
    ),
    Operation(
        "req",
        "cache-leave",
        cache.CacheLeave,
        "The weights are not used, or not waited for, any more.",
        replies=(cache.CacheDone,),
        example=_NAME,
    ),
    Operation(
        "req",
        "cache-gone",
        cache.CacheGone,
        "A copy in a host's memory is gone, says its owner.",
        replies=(cache.CacheDone,),
        errors=("conflict", "not_yours"),
        example={"model": "llama-3-8b", "place": "host-1", "tier": "ram"},
    ),
    Operation(
        "req",
        "cache-where",
        cache.CacheWhere,
        "Who has which weights where, and how good the cache is.",
        replies=(cache.CacheReply,),
        example={"model": "llama-3-8b"},
    ),
    Operation(
        "adm",
        "cache-pin",
        cache.CachePin,
        "Keep a copy whatever it is worth, or no more.",
        replies=(cache.CacheDone,),
        errors=("unknown_copy",),
        example={**_NAME, "pinned": True},
    ),
    Operation(
        "adm",
        "cache-bound",
        cache.CacheBound,
        "How many bytes of weights a host keeps in a tier.",
        replies=(cache.CacheBounded,),
        errors=("unknown_host",),
        example={"host": "host-1", "size": 32 * 10**9},
    ),
)

EVENTS: Final = (Event("cache", "the host", CacheAlarm, "The memory of an evicted copy does not come back."),)

TELLINGS: Final = (Telling(cache.CacheTold, "To who waits for weights, loads them, or has to give them back."),)

_MODEL: Final = Word("Name of the model.")
_SIZE_WORD: Final = Word("Bytes of the weights.", "bytes")

WORDS: Final = {
    **{
        f"{message}.model": _MODEL
        for message in ("CacheWant", "CacheLoaded", "CacheFailed", "CacheLeave", "CacheGone", "CachePin", "CopyStatus",
                        "CopyName", "CacheTold", "CacheAlarm")
    },
    "CacheWhere.model": Word("Only of this model; null: of all."),
    "place": Word("A device <host>/<uuid> for copies on a card, otherwise a host."),
    "tier": Word("gpu: on a card; ram: in the host's memory; mmap: a mapped file."),
    **{
        f"{message}.size": _SIZE_WORD for message in ("CacheWant", "CacheLoaded", "CopyStatus", "CacheBound")
    },
    "CacheBounded.size": _SIZE_WORD,
    "on_disk": Word("Whether the host has the file."),
    "ahead": Word("Nobody uses them yet: only where room is free."),
    "next": Word("What will probably be wanted after this; null: nothing is foretold."),
    "CacheAnswer.keep_ms": Word("Say within this time that the copy is still used, or it counts as left.", "ms"),
    "CacheKept.keep_ms": Word("Say it again within this time.", "ms"),
    "CacheKeep.copies": Word("Which they are, at most 64."),
    "gone": Word("Those of them that one has no part in any more."),
    "next_size": Word("What that takes; 0: nothing is foretold.", "bytes"),
    "CacheAnswer.what": Word("What to do."),
    "CacheAnswer.load": Word("Number of the load, to report with.", "number"),
    "CacheLoaded.load": Word("Number of the load.", "number"),
    "CacheFailed.load": Word("Number of the load.", "number"),
    "CacheTold.load": Word("Number of the load, for who is to load; otherwise 0 or that of the load.", "number"),
    "CacheLoaded.lease": Word("The lease under which the weights are held."),
    "evict": Word("Copies that have to be gone first."),
    "source": Word("From where it is quickest: peer, ram, mmap, disk or network."),
    "CacheAnswer.source": Word("From where it is quickest: peer, ram, mmap, disk or network."),
    "source_place": Word("Where that is."),
    "source_ms": Word("How long that is estimated to take.", "ms"),
    "took_ms": Word("How long it took.", "ms"),
    "CacheDone.phase": Word("Phase of the copy now; empty: it is not there."),
    "CopyStatus.phase": Word("Phase of the copy."),
    "CopyStatus.load": Word("Number of its load.", "number"),
    "CopyStatus.step": Word("Step of its eviction; empty: none is under way."),
    "CopyStatus.users": Word("How many use it.", "users"),
    "owner": Word("Who has loaded it, or does."),
    "pinned": Word("Whether it is kept whatever it is worth."),
    "copies": Word("The copies, at most 512."),
    "copies_total": Word("How many there are.", "copies"),
    "hit_permille": Word("Of what was wanted, what was there or on its way.", "thousandths"),
    "mean_load_ms": Word("What a load takes.", "ms"),
    "saved_ms": Word("Loading that was not necessary.", "ms"),
    "cached": Word("Bytes that count to the bounds.", "bytes"),
    "evicted": Word("Copies that were evicted.", "copies"),
    "quarantined": Word("Copies whose memory did not come back.", "copies"),
    "CacheTold.service": Word("Who tells."),
    "CacheTold.what": Word("What is told."),
    "CacheTold.step": Word("What has happened, or is to be done."),
    "CacheAlarm.state": Word("State of the copy."),
}  # fmt: skip
