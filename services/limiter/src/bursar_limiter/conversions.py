"""Dumped states of older versions, brought into the form of the next one, step by step (see docs/upgrading.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final


def _from_3(value: Any) -> Any:
    """4: rights, of which there were none; the book of what was spent, which begins now."""
    return {**value, "rights": None, "parts": {**value["parts"], "spending": ()}}


CONVERSIONS: Final[Mapping[int, Callable[[Any], Any]]] = {3: _from_3}
