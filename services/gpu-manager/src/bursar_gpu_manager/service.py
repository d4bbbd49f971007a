"""The GPU manager as the host sees it: its decider and its verbs."""

from __future__ import annotations

from collections.abc import Sequence

from bursar.contracts import gpu as wire
from bursar.contracts import gpu_advice as advice
from bursar.contracts import gpu_cache as cache
from bursar.contracts import gpu_kv as kv
from bursar.contracts import gpu_moves as moves
from bursar.contracts.base import Message
from bursar.contracts.rights import SetRights
from bursar.kernel.spec import ServiceSpec, Verb
from bursar_gpu_manager.core import GpuDecider
from bursar_gpu_manager.operating import Adopt, digest
from bursar_gpu_manager.settings import GpuSettings
from bursar_gpu_manager.state import State


def start(settings: GpuSettings, state: State) -> Sequence[Message]:
    """The settings of the environment, unless they were applied before."""
    rules = settings.rules()
    return [] if digest(rules) == state.source else [Adopt(settings=rules)]


SPEC = ServiceSpec(
    name=wire.SERVICE,
    version="0.1.0",
    description="GPU memory that agents share: leases with a time to live, never more than the card has.",
    decider=GpuDecider,
    verbs={
        "lease": Verb(wire.Lease),
        "renew": Verb(wire.Renew, genuine=("fence",)),
        "release": Verb(wire.Release, genuine=("fence",)),
        "redeclare": Verb(wire.Redeclare, genuine=("fence",)),
        "status": Verb(wire.Status, query=True),
        "cache-want": Verb(cache.CacheWant),
        "cache-keep": Verb(cache.CacheKeep, query=True),
        "cache-loaded": Verb(cache.CacheLoaded),
        "cache-failed": Verb(cache.CacheFailed),
        "cache-leave": Verb(cache.CacheLeave),
        "cache-gone": Verb(cache.CacheGone),
        "cache-where": Verb(cache.CacheWhere, query=True),
        "kv-open": Verb(kv.KvOpen, genuine=("fence",)),
        "kv-join": Verb(kv.KvJoin, genuine=("fence",)),
        "kv-pages": Verb(kv.KvPages),
        "kv-leave": Verb(kv.KvLeave),
        "kv-status": Verb(kv.KvStatus, query=True),
        "explain": Verb(wire.Explain, query=True),
        "holdings": Verb(wire.Holdings, query=True),
        "movable": Verb(moves.Movable, genuine=("fence",)),
        "move": Verb(moves.Move, genuine=("fence",)),
        "fragmentation": Verb(moves.Fragmentation, query=True),
        "startup": Verb(advice.Startup, query=True, genuine=("fence",)),
        "advise": Verb(advice.Advise, query=True),
        "pace": Verb(advice.Pace, query=True),
        "tune": Verb(advice.Tune),
        "tune-step": Verb(advice.TuneStep),
        "tune-window": Verb(advice.TuneWindow),
    },
    admin={
        "cache-pin": Verb(cache.CachePin),
        "cache-bound": Verb(cache.CacheBound),
        "emergency": Verb(wire.Emergency),
        "cordon": Verb(wire.Cordon),
        "uncordon": Verb(wire.Uncordon),
        "drop": Verb(wire.Drop),
        "forget": Verb(wire.Forget),
        "configure": Verb(wire.Configure),
        "rights": Verb(SetRights, large=True),
    },
    nodes={wire.OBSERVED: Verb(wire.Report)},
    start=start,
)
