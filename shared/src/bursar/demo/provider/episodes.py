"""Which bad time it is: scheduled ones from the settings, and those begun by hand while the judge runs."""

from __future__ import annotations

import random
from collections.abc import Iterable

from .settings import Episode, EpisodeKind


class Episodes:
    """Times are seconds since the start of the judge."""

    def __init__(self, planned: Iterable[Episode], seed: int) -> None:
        self.known = list(planned)
        self._random = random.Random(seed)

    def begin(self, kind: EpisodeKind, now_s: float, seconds: float, share: float) -> Episode:
        episode = Episode(kind, now_s, seconds, share)
        self.known.append(episode)
        return episode

    def out(self, now_s: float) -> bool:
        """The provider cannot be reached now."""
        return self._current("outage", now_s) is not None

    def hits(self, kind: EpisodeKind, now_s: float) -> bool:
        """This call meets an episode of that kind (by its share)."""
        episode = self._current(kind, now_s)
        return episode is not None and self._random.random() < episode.share

    def _current(self, kind: EpisodeKind, now_s: float) -> Episode | None:
        for episode in self.known:
            if episode.kind == kind and episode.start_s <= now_s < episode.start_s + episode.seconds:
                return episode
        return None
