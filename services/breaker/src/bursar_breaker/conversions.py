"""Dumped states of older versions, brought into the form of the next one, step by step (see docs/upgrading.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final


def _from_2(value: Any) -> Any:
    """3: rights, of which there were none."""
    return {**value, "rights": None}


CONVERSIONS: Final[Mapping[int, Callable[[Any], Any]]] = {2: _from_2}
