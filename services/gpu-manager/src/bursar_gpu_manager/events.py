"""What has happened, as it stands in the journal: short tuples of msgpack values, the kind first, the time second.

| kind | then | means |
|---|---|---|
| ``a`` | host, labels as pairs, rows of [uuid, index, model, total] | devices announced: new, changed, or back |
| ``l`` | device, why | a device is lost, and its capacity with it |
| ``f`` | device | a lost device is forgotten |
| ``g`` | lease, principal, ttl, expires, [device, bytes]s, [pid, started]s, purpose, note, urgent?, group, \
[labels as pairs, apart, strictly?] or [], rows as in `claiming` | granted |
| ``rights`` | by whom, whether closed, rules | other rights hold (`bursar.kernel.rights`) |
| ``n`` | lease, ttl, expires, pairs [pid, started] or nil, purpose or nil | renewed |
| ``r`` | lease | released by its holder |
| ``x`` | lease | expired: ttl and margin have passed |
| ``d`` | lease, why | taken away; it counts until it is released or has expired |
| ``c`` | host or device, whether | cordoned or not |
| ``s`` | settings as a map, digest of the environment's or "" | settings changed |
| ``z`` | until | acknowledged entries were lost: nothing granted until then |
| ``b`` | as ``g`` | a lease that was lost, adopted from its holder |
| ``w`` | device or lease, bytes, bytes before | everybody is told of foreign memory or overuse; 0: it is over |
| ``m`` | lease, cost in ms, hosts | its holder agrees to being asked to move it; -1: no more |
| ``p`` | class, rows of moves | moves are to be made, one after the other |
| ``h`` | kind of `cache_state`, its fields, owner, lease | something about cached weights |
| ``v`` | lease, step, until, lease to move to or "" | a move took a step |
| ``k`` | worker, step, until, recommendation or nil | a change that was recommended took a step |
| ``y`` | lease, what, its fields as in `kv_sharing` | something about a pool of KV pages |
| ``q`` | worker, throughput, us between tokens, preemptions | a worker measured a window |
"""

from __future__ import annotations

from typing import Any

from bursar.kernel.rights import RIGHTS
from bursar.kernel.rights import in_words as in_words_of_rights

ANNOUNCED = "a"
DEVICE_LOST = "l"
FORGOTTEN = "f"
GRANTED = "g"
RENEWED = "n"
RELEASED = "r"
EXPIRED = "x"
TAKEN = "d"
CORDONED = "c"
SETTINGS = "s"
LOST = "z"
ADOPTED = "b"
ALARMED = "w"
CACHE = "h"
MOVABLE = "m"
PLANNED = "p"
MOVED = "v"
ADVISED = "k"
MEASURED = "q"
KV = "y"


def in_words(event: tuple[Any, ...]) -> str:
    """One line for an operator."""
    kind, at = event[0], event[1]
    return f"{at} ms: {_WORDS[kind](*event[2:])}"


def _announced(host: str, _: Any, rows: Any) -> str:
    devices = ", ".join(f"{uuid} ({model or 'no name'}, {total} bytes)" for uuid, _, model, total in rows)
    return f"host {host} announces {devices or 'labels'}"


def _device_lost(device: str, why: str) -> str:
    return f"device {device} is lost: {why}"


def _forgotten(device: str) -> str:
    return f"device {device} is forgotten"


def _shares(devices: Any) -> str:
    return ", ".join(f"{memory} bytes on {device}" for device, memory in devices)


def _granted(lease: str, principal: str, ttl: int, expires: int, devices: Any, *_: Any) -> str:
    return f"granted {lease} to {principal} for {ttl} ms, until {expires} ms: {_shares(devices)}"


def _adopted(lease: str, principal: str, ttl: int, expires: int, devices: Any, *_: Any) -> str:
    return f"adopted {lease} of {principal} for {ttl} ms, until {expires} ms: {_shares(devices)}"


def _renewed(lease: str, ttl: int, expires: int, _: Any, purpose: str | None) -> str:
    told = "" if purpose is None else f", for {purpose} from now on"
    return f"renewed {lease} for {ttl} ms, until {expires} ms{told}"


def _released(lease: str) -> str:
    return f"released {lease}"


def _expired(lease: str) -> str:
    return f"expired {lease}"


def _taken(lease: str, why: str) -> str:
    return f"taken away {lease}: {why}"


def _cordoned(target: str, on: bool) -> str:
    return f"{'cordoned' if on else 'uncordoned'} {target}"


def _settings(settings: dict[str, Any], source: str) -> str:
    told = ", ".join(f"{name} {value}" for name, value in settings.items())
    return f"settings{' from the environment' if source else ''}: {told}"


def _alarmed(subject: str, level: int, _: int) -> str:
    what = "beyond its lease" if "/" not in subject else "of others"
    return f"{subject}: {level} bytes {what}" if level else f"{subject}: nothing to be alarmed of any more"


def _lost(until: int) -> str:
    return f"entries lost: nothing is granted until {until} ms"


def _cache(kind: str, row: Any, *_: Any) -> str:
    return f"cache, {kind.lower()}: {row[0] if isinstance(row[0], str) else ' '.join(row[0])}"


def _movable(lease: str, cost: int, _: Any) -> str:
    return f"{lease} may not be moved any more" if cost < 0 else f"{lease} may be moved, at a cost of {cost} ms"


def _planned(size: int, rows: Any) -> str:
    told = ", ".join(f"{row[0]} from {row[1]} to {row[2]}" for row in rows)
    return f"to be moved, for requests of {size} bytes: {told}"


def _moved(lease: str, step: str, _: int, copy: str) -> str:
    return f"move of {lease}: {step}{f', to {copy}' if copy else ''}"


def _advised(worker: str, step: str, _: int, first: Any) -> str:
    what = "" if first is None else f": {first[1]} {first[3]} instead of {first[2]}, because {first[6]}"
    return f"change of {worker}: {step}{what}"


def _measured(worker: str, throughput: int, itl_us: int, preemptions: int) -> str:
    return (
        f"{worker} measured {throughput} thousandths of a token/s, {itl_us} us between tokens, {preemptions} preempted"
    )


def _kv(lease: str, what: str, row: Any) -> str:
    return f"KV pages of {lease}, {what}: {', '.join(map(str, row))}"


_WORDS: dict[str, Any] = {
    RIGHTS: in_words_of_rights,
    ANNOUNCED: _announced,
    DEVICE_LOST: _device_lost,
    FORGOTTEN: _forgotten,
    GRANTED: _granted,
    RENEWED: _renewed,
    RELEASED: _released,
    EXPIRED: _expired,
    TAKEN: _taken,
    CORDONED: _cordoned,
    SETTINGS: _settings,
    LOST: _lost,
    ADOPTED: _adopted,
    ALARMED: _alarmed,
    CACHE: _cache,
    MOVABLE: _movable,
    PLANNED: _planned,
    MOVED: _moved,
    ADVISED: _advised,
    MEASURED: _measured,
    KV: _kv,
}
