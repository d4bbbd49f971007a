"""What a pulse of the registry says, read once for all who hear it in this process."""

from __future__ import annotations

from typing import Any, NamedTuple

from bursar.client.errors import BadReply


class Heard(NamedTuple):
    """``moment``: incarnation, epoch and time of the owner, so that an older one is known as such."""

    moment: tuple[int, int, int]
    revision: int
    digest: str
    edition: int
    free: list[str]
    recent: list[dict[str, Any]]


_last: list[tuple[object, Heard]] = []


def read(body: dict[str, Any]) -> Heard:
    """Raises `BadReply`. The verifier hands the same object to all who hear the same message."""
    for known, heard in _last:
        if known is body:
            return heard
    try:
        incarnation, epoch = (int(part) for part in body["fence"].split(".")[:2])
        moment = (incarnation, epoch, int(body["now_ms"]))
        free = [str(target) for target in body["free"]]
        recent = [{**row, "fence": body["fence"]} for row in body["recent"]]
        heard = Heard(moment, int(body["revision"]), str(body["digest"]), int(body["edition"]), free, recent)
    except (LookupError, TypeError, ValueError, AttributeError):
        raise BadReply("the pulse of the breaker cannot be read") from None
    _last[:] = [(body, heard)]
    return heard
