"""The command that a message of the durable inbox becomes."""

from __future__ import annotations

from typing import NamedTuple

from bursar.contracts.base import Message


class Delivered(NamedTuple):
    """Message ``sequence`` of the inbox, from the command's principal.

    ``message`` is None when it could not be read; ``error`` then has the stable code. Either way the decider must
    accept it with an event that moves its position to ``sequence``, once; a sequence at or below the position is
    refused, since the reader may hand out a message twice.
    """

    sequence: int
    message: Message | None
    error: str = ""
