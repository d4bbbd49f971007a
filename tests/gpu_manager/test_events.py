"""The kinds of events: each has a letter and words of its own."""

from __future__ import annotations

from bursar_gpu_manager import events
from bursar_gpu_manager.evolve import APPLY


def test_every_kind_of_event_has_a_letter_words_and_one_who_applies_it() -> None:
    """Two with the same letter would be taken for one another in every later replay."""
    letters = [value for name, value in vars(events).items() if name.isupper() and isinstance(value, str)]
    assert len(letters) == len(set(letters))
    assert set(letters) == set(APPLY) == set(events._WORDS)
