"""What has happened, as it stands in the journal: short tuples of msgpack values, the kind first, the time second.

| kind | then | means |
|---|---|---|
| ``s`` | task, class, kind, labels, band, payload, size, digest, numbers as in `task`, a map of the rest | accepted |
| ``o`` | as ``s``, and why | posted, but not accepted: set aside as a dead letter |
| ``p`` | sequence, what became of it | a message of the inbox has been dealt with; what follows stands beside |
| ``m`` | task, another | what it comes after has ended (met); it is ready after the last |
| ``a`` | task, worker, token | assigned |
| ``j`` | task, workers, token | assigned to a gang |
| ``b`` | task | started (begun) |
| ``i`` | task, worker | one of its gang has started |
| ``t`` | task, worker, result, size | the part of one of its gang has ended |
| ``y`` | task, until | preempting: asked to yield, by then at the latest |
| ``k`` | task, value, size | a checkpoint of its attempt |
| ``w`` | task, why, error, not before | the attempt is over, the task waits again |
| ``d`` | task, why, error | the task is a dead letter |
| ``e`` | task, end, result, size, why, error | ended |
| ``q`` | task | a dead letter waits again |
| ``r`` | worker, session, kind, slots, classes, labels, versions, tokens kept and void, resources, place | registered |
| ``l`` | worker | a sign of life, at half of its time to live |
| ``f`` | worker, token | a slot is free: a void attempt has been stopped |
| ``n`` | worker, until | drains: gets nothing new; its host goes then, if not 0 |
| ``v`` | worker, why | gone; where its attempts went stands before |
| ``c`` | digest of the settings or "", rules as a map | rules changed |
| ``h`` | team, agent, weight, slots, borrow, lend | shares of the slots changed |
| ``u`` | owner, hash, size, part, data | a part of a value that is too large for a message was stored |
| ``g`` | agent, program, order | a program ends: its tasks up to this order are to be cancelled; 0: they are |
| ``rights`` | by whom, whether closed, rules | other rights hold (`bursar.kernel.rights`) |
| ``x`` | (nothing) | acknowledged entries were lost: what was live is a dead letter, in doubt |
"""

from __future__ import annotations

from typing import Any

from bursar.kernel.rights import RIGHTS
from bursar.kernel.rights import in_words as in_words_of_rights

ACCEPTED = "s"
SET_ASIDE = "o"
POSTED = "p"
MET = "m"
ASSIGNED = "a"
GANGED = "j"
STARTED = "b"
JOINED = "i"
PARTED = "t"
PREEMPTING = "y"
CHECKPOINT = "k"
WAITS = "w"
DEAD = "d"
ENDED = "e"
REQUEUED = "q"
REGISTERED = "r"
FREED = "f"
HEARD = "l"
DRAINS = "n"
GONE = "v"
CONFIGURED = "c"
SHARED = "h"
STORED = "u"
PROGRAM_ENDS = "g"
LOST = "x"


def in_words(event: tuple[Any, ...]) -> str:
    """One line for an operator; payloads, results and errors are not shown."""
    kind, at = event[0], event[1]
    return f"{at} ms: {_WORDS[kind](*event[2:])}"


def _accepted(task: str, task_class: str, kind: str, labels: Any, band: int, _: Any, size: int, *rest: Any) -> str:
    needs = [kind] * bool(kind) + [f"{name}={value}" for name, value in labels]
    return f"accepted {task}: {task_class}, band {band}, {size} bytes, needs {', '.join(needs) or 'nothing'}"


def _registered(worker: str, session: str, kind: str, slots: int, classes: Any, *_: Any) -> str:
    return f"registered {worker} ({session}): {kind}, {slots} slots, {', '.join(classes)}"


def _waits(task: str, why: str, _: str, not_before: int) -> str:
    return f"{task} waits again ({why})" + (f", not before {not_before} ms" if not_before else "")


_WORDS: dict[str, Any] = {
    RIGHTS: in_words_of_rights,
    ACCEPTED: _accepted,
    SET_ASIDE: lambda task, *rest: f"set aside {task} ({rest[-1]})",
    POSTED: lambda sequence, what: f"inbox message {sequence}: {what}",
    MET: lambda task, other: f"{task} need not wait for {other} any more",
    ASSIGNED: lambda task, worker, token: f"assigned {task} to {worker} as {token}",
    GANGED: lambda task, workers, token: f"assigned {task} to {', '.join(workers)} as {token}",
    STARTED: lambda task: f"started {task}",
    JOINED: lambda task, worker: f"{worker} has started its part of {task}",
    PARTED: lambda task, worker, _, size: f"{worker} has ended its part of {task}, {size} bytes",
    WAITS: _waits,
    DEAD: lambda task, why, _: f"{task} is a dead letter ({why})",
    ENDED: lambda task, end, _, size, why, __: f"{task} ended: {end} ({why}), {size} bytes",
    REQUEUED: lambda task: f"dead letter {task} waits again",
    REGISTERED: _registered,
    HEARD: lambda worker: f"{worker} lives",
    FREED: lambda worker, token: f"{worker} has stopped {token}",
    PREEMPTING: lambda task, until: f"{task} is to yield, by {until} ms",
    CHECKPOINT: lambda task, _, size: f"checkpoint of {task}: {size} bytes",
    DRAINS: lambda worker, until: f"{worker} drains" + (f", its host goes at {until} ms" if until else ""),
    GONE: lambda worker, why: f"{worker} is gone ({why})",
    CONFIGURED: lambda source, rules: f"rules{' from settings' if source else ''}: {rules}",
    SHARED: lambda team, agent, weight, slots, *_: f"{agent or team or 'all'}: weight {weight}, {slots} slots",
    STORED: lambda owner, name, size, part, _: f"{owner} stored part {part} of {name[:12]} ({size} bytes)",
    PROGRAM_ENDS: lambda agent, program, order: (
        f"program {program} of {agent} " + (f"is cancelled up to task {order}" if order else "has ended")
    ),
    LOST: lambda: "entries lost: what was live is a dead letter, in doubt",
}
