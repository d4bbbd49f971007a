"""Whatever agents, loaders and cards do: the promises of the model cache."""

from __future__ import annotations

from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bursar.errors import CallerError
from bursar_gpu_manager import model_cache as cache
from bursar_gpu_manager.cache_state import HOLD_MS, CacheState, Evicted, Failed, key_of
from bursar_gpu_manager.model_cache import Want

MODELS, AGENTS, PLACES = ("a", "b", "c", "d"), ("ann", "bob", "cid"), ("h1/g0", "h1/g1", "h2/g0")
SIZES = {"a": 3, "b": 5, "c": 4, "d": 12}
BOUND = 10


class Cache(RuleBasedStateMachine):
    """Events are folded into two states, one of which goes through dump and load all the time."""

    def __init__(self) -> None:
        super().__init__()
        self.state, self.now = CacheState(), 0
        self.uses: dict[tuple[str, str], int] = {}
        for host in ("h1", "h2"):
            self.tell(cache.bound(self.state, host, "gpu", BOUND, 0))

    def tell(self, events: Any) -> None:
        for event in events:
            if isinstance(event, Evicted) and self.state.entries[event.key].eviction is None:
                entry = self.state.entries[event.key]
                assert not entry.pinned
                assert entry.transient or not entry.users
                assert entry.transient or self.now >= entry.used_at + HOLD_MS or entry.phase != "ready"
            copy = CacheState.load(msgpack.unpackb(msgpack.packb(self.state.dump())))
            copy.apply(event)
            self.state.apply(event)
            assert copy.dump() == self.state.dump()

    @rule(model=st.sampled_from(MODELS), who=st.sampled_from(AGENTS), place=st.sampled_from(PLACES))
    def want(self, model: str, who: str, place: str) -> None:
        answer = cache.want(self.state, Want(model, place, SIZES[model], who), self.now)
        self.tell(answer.events)
        key = key_of(model, place, "gpu")
        if answer.what in ("hit", "wait", "load"):
            self.uses[key, who] = self.uses.get((key, who), 0) + 1
        if answer.what == "load":
            assert self.state.entries[key].loader == who

    @rule(model=st.sampled_from(MODELS), place=st.sampled_from(PLACES))
    def ahead(self, model: str, place: str) -> None:
        answer = cache.ahead(self.state, Want(model, place, SIZES[model], "x"), self.now)
        self.tell(() if answer is None else answer.events)

    @rule(data=st.data(), good=st.booleans(), more=st.integers(0, 4), stale=st.booleans())
    def report(self, data: st.DataObject, good: bool, more: int, stale: bool) -> None:
        loading = [entry for entry in self.state.entries.values() if entry.phase == "loading"]
        if not loading:
            return
        entry = data.draw(st.sampled_from(loading))
        if stale:
            with pytest.raises(CallerError):
                cache.loaded(self.state, entry.key, entry.load + 1, 1, 1, self.now)
        elif good:
            self.tell(cache.loaded(self.state, entry.key, entry.load, entry.size + more, 500, self.now))
        else:
            self.uses.pop((entry.key, entry.loader), None)
            self.forget_loader(entry.key, entry.loader)
            self.tell(cache.failed(self.state, entry.key, entry.load, self.now))

    def forget_loader(self, key: str, who: str) -> None:
        """A loader that failed waits no more for that load; other waits of its own go on."""
        left = self.state.entries[key].waiting.get(who, 0)
        if left:
            self.uses[key, who] = left

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        if not self.uses:
            return
        key, who = data.draw(st.sampled_from(sorted(self.uses)))
        self.tell(cache.leave(self.state, key, who, self.now))
        self.uses[key, who] -= 1
        if not self.uses[key, who]:
            del self.uses[key, who]

    @rule(who=st.sampled_from(AGENTS))
    def dies(self, who: str) -> None:
        gone = {use for use in cache.uses(self.state) if use[1] == who}
        self.tell(cache.lapsed(self.state, gone, self.now))
        self.tell(cache.trim(self.state, self.now))
        self.uses = {pair: count for pair, count in self.uses.items() if pair[1] != who}

    @rule(ms=st.sampled_from([1, 5_000, HOLD_MS, 700_000]))
    def time_passes(self, ms: int) -> None:
        self.now += ms
        for event in cache.overdue(self.state, self.now):
            assert isinstance(event, Failed)
            entry = self.state.entries[event.key]
            self.uses.pop((entry.key, entry.loader), None)
            self.forget_loader(entry.key, entry.loader)
            self.tell([event])
        self.tell(cache.trim(self.state, self.now))

    @rule(data=st.data(), observed=st.sampled_from([None, 0, 3]))
    def look(self, data: st.DataObject, observed: int | None) -> None:
        leaving = [entry.key for entry in self.state.entries.values() if entry.eviction]
        if leaving:
            self.tell(cache.observe(self.state, data.draw(st.sampled_from(leaving)), observed, self.now))

    @rule(data=st.data(), pinned=st.booleans())
    def pin(self, data: st.DataObject, pinned: bool) -> None:
        ready = [entry.key for entry in self.state.entries.values() if entry.phase == "ready"]
        if ready:
            self.tell(cache.pin(self.state, data.draw(st.sampled_from(ready)), pinned))

    @invariant()
    def is_bounded(self) -> None:
        for host in ("h1", "h2"):
            assert self.state.cached(host, "gpu") <= BOUND

    @invariant()
    def everybody_is_accounted_for(self) -> None:
        """Each use or wait that an agent was given is known, and no other."""
        found: dict[tuple[str, str], int] = {}
        for entry in self.state.entries.values():
            loader = {entry.loader: 1} if entry.phase == "loading" and entry.loader else {}
            for counts in (entry.users, entry.waiting, loader):
                for who, count in counts.items():
                    found[entry.key, who] = found.get((entry.key, who), 0) + count
            assert entry.phase == "loading" or not entry.waiting
        assert found == self.uses

    @invariant()
    def something_is_due_when_something_is_open(self) -> None:
        is_open = any(
            entry.phase == "loading" or (entry.eviction and entry.eviction.until)
            for entry in self.state.entries.values()
        )
        assert (cache.wake_at(self.state) is not None) == is_open


Cache.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestCache = pytest.mark.property(Cache.TestCase)
