"""What an agent will probably want next at a place, as a hint to load it ahead into room that is free.

Volatile: hints begin anew after a take-over. Only what was wanted before has a size here.
"""

from __future__ import annotations

from typing import Final

from bursar_gpu_manager.cache_state import CacheState, key_of
from bursar_gpu_manager.model_cache import Want
from bursar_gpu_manager.predicting import Predictor

SIZES: Final = 4_096


class Foretelling:
    __slots__ = ("_sizes", "predictor")

    def __init__(self) -> None:
        self.predictor = Predictor()
        self._sizes: dict[str, int] = {}

    def see(self, ask: Want) -> None:
        self.predictor.see(ask.who, ask.model)
        self._sizes.pop(ask.model, None)
        self._sizes[ask.model] = ask.size
        if len(self._sizes) > SIZES:
            del self._sizes[next(iter(self._sizes))]

    def next_of(self, cache: CacheState, ask: Want) -> tuple[str, int] | None:
        """Model and bytes; None when nothing is likely, when it is there, or when there is no free room for it."""
        model = self.predictor.next_of(ask.who)
        size = 0 if model is None else self._sizes.get(model, 0)
        if model is None or not size or key_of(model, ask.place, ask.tier) in cache.entries:
            return None
        host = ask.place.partition("/")[0]
        fits = ask.tier == "mmap" or cache.cached(host, ask.tier) + size <= cache.bound(host, ask.tier)
        return (model, size) if fits else None
