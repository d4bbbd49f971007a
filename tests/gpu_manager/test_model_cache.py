"""The model cache: loaded once, bounded, and nothing goes that is used."""

from __future__ import annotations

from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from bursar.errors import CallerError
from bursar_gpu_manager import model_cache as cache
from bursar_gpu_manager.cache_state import DEFAULT_BOUND, HOLD_MS, CacheState, Event, key_of
from bursar_gpu_manager.eviction import TIME_MS
from bursar_gpu_manager.model_cache import Want

GB = 10**9
CARD = "h1/gpu-0"


def tell(state: CacheState, events: Any) -> None:
    found: list[Event] = list(events)
    for event in found:
        state.apply(event)


def put(state: CacheState, model: str, size: int = GB, at: int = 0, place: str = CARD, took: int = 1_000) -> str:
    """Weights that were loaded and used once."""
    answer = cache.want(state, Want(model, place, size, "ann"), at)
    assert answer.what == "load"
    tell(state, answer.events)
    key = key_of(model, place, "gpu")
    tell(state, cache.loaded(state, key, answer.load, size, took, at))
    tell(state, cache.leave(state, key, "ann", at))
    return key


def gone(state: CacheState, key: str, now: int) -> None:
    tell(state, cache.observe(state, key, 0, now))


def test_one_loads_and_the_others_wait() -> None:
    """All of them use it when it is there; who comes then has a hit."""
    state = CacheState()
    first = cache.want(state, Want("m", CARD, GB, "ann"), 0)
    tell(state, first.events)
    for who in ("bob", "cid"):
        answer = cache.want(state, Want("m", CARD, GB, who), 1)
        assert (answer.what, answer.load) == ("wait", first.load)
        tell(state, answer.events)
    key = key_of("m", CARD, "gpu")
    tell(state, cache.loaded(state, key, first.load, GB, 4_000, 5))
    assert state.entries[key].users == {"ann": 1, "bob": 1, "cid": 1}
    assert cache.want(state, Want("m", CARD, GB, "dan"), 6).what == "hit"
    assert state.counts["loaded"] == 1
    assert state.counts["saved_ms"] == 8_000


def test_when_the_loader_fails_the_next_one_loads() -> None:
    """By its word, by leaving, or by its time; a report of the earlier load counts for nothing."""
    state = CacheState()
    key = key_of("m", CARD, "gpu")
    first = cache.want(state, Want("m", CARD, GB, "ann"), 0)
    tell(state, first.events)
    for who in ("bob", "cid", "dan"):
        tell(state, cache.want(state, Want("m", CARD, GB, who), 0).events)
    tell(state, cache.failed(state, key, first.load, 10))
    assert (state.entries[key].loader, state.entries[key].load) == ("bob", first.load + 1)
    with pytest.raises(CallerError) as error:
        cache.loaded(state, key, first.load, GB, 10, 20)
    assert error.value.code == "conflict"
    tell(state, cache.leave(state, key, "bob", 30))
    assert state.entries[key].loader == "cid"
    late = cache.wake_at(state)
    assert late is not None
    assert cache.overdue(state, late - 1) == []
    tell(state, cache.overdue(state, late))
    assert state.entries[key].loader == "dan"
    tell(state, cache.lapsed(state, {(key, "dan")}, late))
    assert not state.entries
    assert state.counts["failed"] == 4


def test_a_host_is_bounded_and_the_bound_can_be_set() -> None:
    """8 GB unless it is set; room is made before a load begins, and memory counts until it is back."""
    state = CacheState()
    assert state.bound("h1", "gpu") == DEFAULT_BOUND == 8 * GB
    keys = [put(state, f"m{number}", 2 * GB, number) for number in range(4)]
    asked = Want("new", CARD, 2 * GB, "bob")
    assert cache.want(state, asked, HOLD_MS - 1).what == "refused"
    answer = cache.want(state, asked, HOLD_MS + 3)
    assert (answer.what, answer.evict) == ("room", (keys[0],))
    tell(state, answer.events)
    again = cache.want(state, asked, HOLD_MS + 4)
    assert (again.what, again.events, again.evict) == ("room", (), (keys[0],))
    gone(state, keys[0], HOLD_MS + 5)
    assert cache.want(state, asked, HOLD_MS + 6).what == "load"
    tell(state, cache.bound(state, "h1", "gpu", 2 * GB, HOLD_MS + 3))
    assert sum(entry.phase == "evicting" for entry in state.entries.values()) == 2
    with pytest.raises(CallerError):
        cache.bound(state, "h1", "gpu", -1, 0)


def test_what_is_used_pinned_or_held_stays() -> None:
    """For as long as it is."""
    state = CacheState()
    used, pinned = put(state, "used", 3 * GB), put(state, "pinned", 3 * GB)
    tell(state, cache.want(state, Want("used", CARD, 3 * GB, "bob"), 10).events)
    tell(state, cache.pin(state, pinned, True))
    assert cache.pin(state, pinned, True) == []
    asked = Want("new", CARD, 4 * GB, "cid")
    assert cache.want(state, asked, 10**6).what == "refused"
    tell(state, cache.pin(state, pinned, False))
    assert cache.want(state, asked, 10**6).evict == (pinned,)
    tell(state, cache.leave(state, used, "bob", 10**6))
    assert cache.to_free(state, CARD, 6 * GB, 2 * 10**6) == [pinned, used]
    assert cache.to_free(state, CARD, 7 * GB, 2 * 10**6) is None
    assert cache.to_free(state, "h1/gpu-1", 1, 2 * 10**6) is None
    with pytest.raises(CallerError):
        cache.pin(state, "nothing", True)


def test_what_is_cheap_to_load_and_seldom_used_goes_first() -> None:
    """Cost and frequency over size, not age alone; and what was dear once sinks as the clock rises."""
    state = CacheState()
    dear = put(state, "dear", 2 * GB, 0, took=60_000)
    often = put(state, "often", 2 * GB, 1)
    for at in range(5):
        tell(state, cache.want(state, Want("often", CARD, 2 * GB, "bob"), at).events)
        tell(state, cache.leave(state, often, "bob", at))
    cheap = put(state, "cheap", 2 * GB, 5)
    order = sorted(cache.evictable(state.entries.values(), 10**6))
    assert [candidate.key for candidate in order] == [cheap, often, dear]
    at = 10**6
    for number in range(200):
        key = put(state, f"n{number}", 2 * GB, at, took=1_000)
        at += HOLD_MS
        answer = cache.want(state, Want("next", CARD, 2 * GB, "cid"), at)
        tell(state, answer.events)
        for gone_key in answer.evict:
            gone(state, gone_key, at)
        if dear not in state.entries:
            break
        assert key
    assert dear not in state.entries


def test_what_is_larger_than_the_bound_is_served_and_not_kept() -> None:
    """Shared like any other; when its last user leaves it goes."""
    state = CacheState()
    key = key_of("big", CARD, "gpu")
    answer = cache.want(state, Want("big", CARD, 16 * GB, "ann"), 0)
    tell(state, answer.events)
    tell(state, cache.want(state, Want("big", CARD, 16 * GB, "bob"), 0).events)
    tell(state, cache.loaded(state, key, answer.load, 16 * GB, 1, 1))
    assert state.cached("h1", "gpu") == 0
    tell(state, cache.leave(state, key, "ann", 2))
    assert state.entries[key].phase == "ready"
    tell(state, cache.leave(state, key, "bob", 3))
    assert state.entries[key].phase == "evicting"
    assert cache.want(state, Want("big", CARD, 16 * GB, "ann"), 4).evict == (key,)


def test_weights_that_turn_out_larger_do_not_break_the_bound() -> None:
    """They are used, and not kept."""
    state = CacheState()
    put(state, "m", 6 * GB)
    answer = cache.want(state, Want("n", CARD, GB, "bob"), 0)
    tell(state, answer.events)
    key = key_of("n", CARD, "gpu")
    tell(state, cache.loaded(state, key, answer.load, 3 * GB, 1, 1))
    assert state.cached("h1", "gpu") == 6 * GB
    tell(state, cache.lapsed(state, {(key, "bob")}, 2))
    tell(state, cache.trim(state, 2))
    assert state.entries[key].phase == "evicting"


def test_an_eviction_ends_when_the_card_says_so() -> None:
    """Asked, put to sleep, killed, quarantined; charged all the time; quarantine ends when the memory is back."""
    state = CacheState()
    key = put(state, "m", 4 * GB)
    tell(state, [cache.evict(state, key, 4 * GB, 0)])
    at = 0
    for step in ("ask", "sleep", "kill"):
        eviction = state.entries[key].eviction
        assert eviction is not None
        assert eviction.step == step
        assert cache.wake_at(state) == at + TIME_MS[step]
        assert cache.observe(state, key, 4 * GB, at + 1) == []
        assert cache.observe(state, key, None, at + 1) == []
        at += TIME_MS[step]
        tell(state, cache.observe(state, key, None, at))
    assert state.entries[key].phase == "quarantined"
    assert state.cached("h1", "gpu") == 4 * GB
    assert cache.wake_at(state) is None
    assert cache.observe(state, key, 4 * GB * 6 // 100, at + 10**6) == []
    tell(state, cache.observe(state, key, 4 * GB * 5 // 100, at + 10**6))
    assert not state.entries
    assert (state.counts["evicted"], state.counts["quarantined"]) == (1, 1)
    assert cache.observe(state, key, 0, at) == []
    other = put(state, "n")
    assert cache.observe(state, other, 0, at) == []


def test_mapped_files_are_listed_and_not_counted() -> None:
    """The kernel takes the page cache back by itself."""
    state = CacheState()
    answer = cache.want(state, Want("m", "h1", 100 * GB, "ann", "mmap"), 0)
    assert answer.what == "load"
    tell(state, answer.events)
    tell(state, cache.loaded(state, key_of("m", "h1", "mmap"), answer.load, 100 * GB, 1, 1))
    assert state.cached("h1", "mmap") == 0
    assert [copy.tier for copy in cache.where(state, "m")] == ["mmap"]
    tell(state, cache.bound(state, "h1", "mmap", 0, 5))
    assert state.entries


def test_weights_come_from_the_quickest_tier() -> None:
    """Another card of the host, its memory, a mapped file, the disk, the network; what was measured counts."""
    state = CacheState()
    ask = Want("m", CARD, 20 << 30, "ann")
    assert cache.source(state, ask, on_disk=False).kind == "network"
    assert cache.source(state, ask, on_disk=True) == ("disk", "h1", 10 * 1_024)
    for place, tier, kind in (("h1", "mmap", "mmap"), ("h1", "ram", "ram"), ("h1/gpu-1", "gpu", "peer")):
        answer = cache.want(state, Want("m", place, GB, "bob", tier), 0)  # type: ignore[arg-type]
        tell(state, answer.events)
        assert cache.source(state, ask, on_disk=True).kind != kind
        tell(state, cache.loaded(state, key_of("m", place, tier), answer.load, GB, 1, 1))  # type: ignore[arg-type]
        assert cache.source(state, ask, on_disk=True).kind == kind
    assert cache.source(state, ask, True, {"disk": 1 << 40}).kind == "disk"
    host = Want("m", "h1", 20 << 30, "ann", "ram")
    assert cache.source(CacheState(), host, on_disk=True).kind == "disk"
    assert cache.source(state, host, on_disk=True).kind == "peer"


def test_loading_ahead_takes_only_room_that_is_free() -> None:
    """It evicts nothing, is nobody's, and is no miss; who wants it then has a hit."""
    state = CacheState()
    put(state, "m", 6 * GB)
    assert cache.ahead(state, Want("m", CARD, 6 * GB, "x"), 10**6) is None
    assert cache.ahead(state, Want("n", CARD, 3 * GB, "x"), 10**6) is None
    assert cache.ahead(state, Want("n", CARD, 0, "x"), 10**6) is None
    answer = cache.ahead(state, Want("n", CARD, 2 * GB, "x"), 10**6)
    assert answer is not None
    tell(state, answer.events)
    key = key_of("n", CARD, "gpu")
    tell(state, cache.loaded(state, key, answer.load, 2 * GB, 100, 10**6))
    assert state.entries[key].users == {}
    assert cache.want(state, Want("n", CARD, 2 * GB, "ann"), 10**6).what == "hit"
    assert state.counts["misses"] == 1


def test_who_has_what_where_and_what_it_brought_is_told() -> None:
    """Hit rate counts those who waited for somebody else's load; load time is a mean."""
    state = CacheState()
    assert cache.report(state) == (0.0, 0.0, 0, 0)
    key = put(state, "m", took=3_000)
    put(state, "n", took=1_000, place="h2/gpu-0")
    for _ in range(2):
        tell(state, cache.want(state, Want("m", CARD, GB, "bob"), 5).events)
    told = cache.report(state)
    assert (told.hit_rate, told.mean_load_ms, told.saved_ms, told.cached) == (0.5, 2_000.0, 6_000, 2 * GB)
    assert [(copy.model, copy.place, copy.users) for copy in cache.where(state)] == [
        ("m", CARD, 2),
        ("n", "h2/gpu-0", 0),
    ]
    tell(state, cache.leave(state, key, "bob", 6))
    tell(state, cache.leave(state, key, "nobody", 6))
    assert state.entries[key].users == {"bob": 1}
    assert cache.leave(state, "nothing", "bob", 6) == []


def test_asking_whether_something_is_there_renews_nothing() -> None:
    """Only use does: otherwise whatever somebody looks at could never be evicted."""
    state = CacheState()
    key = put(state, "m")
    before = state.dump()
    cache.where(state)
    cache.source(state, Want("m", "h1/gpu-1", GB, "ann"), on_disk=True)
    cache.trim(state, 10**9)
    assert state.dump() == before
    assert cache.is_evictable(state.entries[key], HOLD_MS)


def test_without_a_size_there_are_no_weights() -> None:
    """Nothing changes."""
    with pytest.raises(CallerError):
        cache.want(CacheState(), Want("m", CARD, 0, "ann"), 0)


def test_a_transient_copy_nobody_uses_is_trimmed() -> None:
    """It was loaded for somebody who left while it was loading."""
    state = CacheState()
    answer = cache.want(state, Want("big", CARD, 16 * GB, "ann"), 0)
    tell(state, answer.events)
    tell(state, cache.want(state, Want("big", CARD, 16 * GB, "bob"), 0).events)
    key = key_of("big", CARD, "gpu")
    tell(state, cache.leave(state, key, "bob", 1))
    tell(state, cache.loaded(state, key, answer.load, 16 * GB, 1, 1))
    tell(state, cache.pin(state, key, True))
    tell(state, cache.leave(state, key, "ann", 2))
    assert cache.trim(state, 3) == []
    tell(state, cache.pin(state, key, False))
    tell(state, cache.trim(state, 3))
    assert state.entries[key].phase == "evicting"


def test_dump_and_load_are_inverse() -> None:
    """With a load, a waiter, an eviction and a bound in it."""
    state = CacheState()
    key = put(state, "m")
    tell(state, cache.want(state, Want("n", CARD, GB, "ann"), 5).events)
    tell(state, cache.want(state, Want("n", CARD, GB, "bob"), 5).events)
    tell(state, [cache.evict(state, key, GB, 6)])
    tell(state, cache.bound(state, "h2", "ram", GB, 7))
    again = CacheState.load(msgpack.unpackb(msgpack.packb(state.dump())))
    assert again.dump() == state.dump()
    tell(again, cache.leave(again, key_of("n", CARD, "gpu"), "ann", 8))
    assert again.entries[key_of("n", CARD, "gpu")].loader == "bob"
