"""What may be said of a task beside its class and payload: the same in `submit`, `post`, graphs and pipelines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from bursar.errors import CallerError

if TYPE_CHECKING:
    from bursar.client.scheduler_handle import Handle


class TaskOptions(TypedDict, total=False):
    """All may be left out. Times are seconds.

    ``priority``: reactive, standard (default) or proactive. ``deadline``: from now, after which the task ends as
    expired. ``retries``: further attempts after failures (2); ``backoff``: the first pause after one (1, doubling).
    ``lease``: how long an attempt is kept without a sign of life (10); ``timeout`` of one attempt. ``needs``:
    ``{"kind": "gpu", "labels": {"zone": "a"}}``, and ``{"gang": 4}`` for four workers at once. ``hints``: what makes
    one worker better than another, as ``{"model": "llama3:8b", "prefix": bursar.prefix_of(prompt)}``; both in all
    their fields: `bursar.contracts.scheduler_needs`. ``takes``: what its worker takes before it starts, all or
    nothing: ``{"budget": "provider", "amounts": {"input_tokens": 900}, "circuit": "provider", "gpu_bytes": 1 << 30}``
    (`bursar.contracts.scheduler_takes`). ``preemptible``: it stops at the end of a chunk when it is asked to,
    and goes on from its checkpoint (`bursar.client.worker_task`). ``after``: own tasks, or their handles, that have to
    end before; ``after_failure``: "cancel" (default) or "run", when one of them does not end well.
    """

    priority: str
    deadline: float | None
    retries: int
    backoff: float
    lease: float
    timeout: float | None
    needs: Mapping[str, Any] | None
    hints: Mapping[str, Any] | None
    preemptible: bool
    program: str
    takes: Mapping[str, Any] | None
    after: Iterable[str | Handle]
    after_failure: str


_PLAIN = ("priority", "retries", "after_failure", "preemptible", "program")
_SPANS = {"deadline": "deadline_ms", "backoff": "backoff_ms", "lease": "lease_ms", "timeout": "timeout_ms"}


def fields_of(task_class: str, payload: bytes | dict[str, Any] | None, options: TaskOptions) -> dict[str, Any]:
    """The task as it goes over the wire; ``payload``: as `bursar.client.scheduler_blobs.Blobs.send` gives it. Raises
    `CallerError` for what cannot be sent, TypeError for an option that there is not."""
    unknown = options.keys() - TaskOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"there is no option {', '.join(sorted(unknown))}")
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    fields: dict[str, Any] = {"task_class": task_class, "payload": payload}
    fields |= {name: given[name] for name in _PLAIN if name in given}
    for name, wire_name in _SPANS.items():
        if name in given:
            ms = span_ms(name, given[name])
            fields[wire_name] = max(1, ms) if name in {"deadline", "timeout"} else ms
    for name in ("needs", "hints"):
        if name in given:
            fields[name] = {"v": 1, **given[name]}
    if "takes" in given:
        fields["takes"] = {"v": 1, **given["takes"]}
    if "after" in given:
        fields["after"] = refs_of(given["after"])
    return fields


def refs_of(after: Iterable[Any]) -> list[str]:
    """Ids of tasks, or names, as they go over the wire."""
    return [one if isinstance(one, str) else one.id for one in after]


def span_ms(name: str, seconds: float) -> int:
    try:
        return round(seconds * 1000.0)
    except (TypeError, ValueError, OverflowError):
        raise CallerError("bad_request", f"{name} is a number of seconds, not {seconds!r:.40}") from None
