"""Bursar: the resource control plane for fleets of AI agents.

::

    import bursar

    async with bursar.connect() as fleet:
        async with fleet.limiter.reserve("openai/gpt", input_tokens=900, output_tokens=400, wait=30) as permit:
            ...

Names are loaded when they are first used: services and tools import parts of this package and pay for nothing else.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bursar.client import (
        BadReply,
        BudgetFrozen,
        CircuitOpen,
        Conflict,
        Fleet,
        Limiter,
        LimiterUnavailable,
        NeverFits,
        NoCredentials,
        Permit,
        PermitEnded,
        PermitVoid,
        RateLimitHeaders,
        Refused,
        UnknownBudget,
        connect,
    )
    from bursar.client.breaker_errors import RetryDenied
    from bursar.client.bulkhead import BulkheadFull
    from bursar.client.deadline import DeadlineExceeded, deadline
    from bursar.client.gpu import Gpu
    from bursar.client.gpu_errors import GpuRefused, GpuUnavailable, LeaseLost
    from bursar.client.gpu_lease import GpuLease
    from bursar.client.host import Host
    from bursar.client.host_errors import HostRefused, HostUnavailable
    from bursar.client.host_lease import HostLease
    from bursar.client.local_permit import LocalPermit
    from bursar.client.scheduler_errors import (
        QueueFull,
        SchedulerUnavailable,
        TaskCancelled,
        TaskError,
        TaskExpired,
        TaskFailed,
        TaskForgotten,
        TaskInDoubt,
    )
    from bursar.client.scheduler_prefix import prefix_of
    from bursar.client.sync import SyncFleet, connect_sync
    from bursar.client.worker import Worker
    from bursar.client.worker_slots import SlotRule
    from bursar.client.worker_task import TaskRefused, TaskYielded, WorkerTask
    from bursar.client.worker_threads import ThreadPool
    from bursar.errors import BursarError, CallerError, NetworkError, ServiceError

_ERRORS = ("BursarError", "CallerError", "NetworkError", "ServiceError")
_GPU_ERRORS = ("GpuRefused", "GpuUnavailable", "LeaseLost")
_TASK_ERRORS = (
    "QueueFull",
    "SchedulerUnavailable",
    "TaskCancelled",
    "TaskError",
    "TaskExpired",
    "TaskFailed",
    "TaskForgotten",
    "TaskInDoubt",
)

_MODULES = {
    "BulkheadFull": "bursar.client.bulkhead",
    "DeadlineExceeded": "bursar.client.deadline",
    "RetryDenied": "bursar.client.breaker_errors",
    "deadline": "bursar.client.deadline",
    **dict.fromkeys(_ERRORS, "bursar.errors"),
    **dict.fromkeys(_TASK_ERRORS, "bursar.client.scheduler_errors"),
    **dict.fromkeys(("TaskRefused", "TaskYielded", "WorkerTask"), "bursar.client.worker_task"),
    **dict.fromkeys(_GPU_ERRORS, "bursar.client.gpu_errors"),
    "Gpu": "bursar.client.gpu",
    "GpuLease": "bursar.client.gpu_lease",
    "Host": "bursar.client.host",
    "HostLease": "bursar.client.host_lease",
    **dict.fromkeys(("HostRefused", "HostUnavailable"), "bursar.client.host_errors"),
    "LocalPermit": "bursar.client.local_permit",
    "SyncFleet": "bursar.client.sync",
    "prefix_of": "bursar.client.scheduler_prefix",
    "connect_sync": "bursar.client.sync",
    "SlotRule": "bursar.client.worker_slots",
    "ThreadPool": "bursar.client.worker_threads",
    "Worker": "bursar.client.worker",
}
"""Names that are not loaded with `bursar.client`, and where they are."""

__all__ = [
    "BadReply",
    "BudgetFrozen",
    "BulkheadFull",
    "BursarError",
    "CallerError",
    "CircuitOpen",
    "Conflict",
    "DeadlineExceeded",
    "Fleet",
    "Gpu",
    "GpuLease",
    "GpuRefused",
    "GpuUnavailable",
    "Host",
    "HostLease",
    "HostRefused",
    "HostUnavailable",
    "LeaseLost",
    "Limiter",
    "LimiterUnavailable",
    "LocalPermit",
    "NetworkError",
    "NeverFits",
    "NoCredentials",
    "Permit",
    "PermitEnded",
    "PermitVoid",
    "QueueFull",
    "RateLimitHeaders",
    "Refused",
    "RetryDenied",
    "SchedulerUnavailable",
    "ServiceError",
    "SlotRule",
    "SyncFleet",
    "TaskCancelled",
    "TaskError",
    "TaskExpired",
    "TaskFailed",
    "TaskForgotten",
    "TaskInDoubt",
    "TaskRefused",
    "TaskYielded",
    "ThreadPool",
    "UnknownBudget",
    "Worker",
    "WorkerTask",
    "connect",
    "connect_sync",
    "deadline",
    "prefix_of",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only when a name is used

    value = getattr(import_module(_MODULES.get(name, "bursar.client")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
