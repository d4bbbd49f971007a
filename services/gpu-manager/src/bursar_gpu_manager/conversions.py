"""Dumped states of older versions, brought into the form of the next one, step by step (see docs/upgrading.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final


def _from_8(value: Any) -> Any:
    """9: rights, of which there were none."""
    return {**value, "rights": None}


CONVERSIONS: Final[Mapping[int, Callable[[Any], Any]]] = {8: _from_8}
