"""What the GPU manager can be told, beyond what every service can."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bursar.contracts.gpu import DEFAULT_ALARM_GROWTH, DEFAULT_RESERVE, Settings
from bursar.kernel.settings import ServiceSettings


class GpuSettings(ServiceSettings):
    """Environment variables begin with ``BURSAR_``; the meanings are those of `bursar.contracts.gpu.Settings`. They
    are applied when they have changed since they were last applied, so that a restart does not undo a later
    ``configure`` by an operator."""

    gpu_reserve: Annotated[int, Field(ge=0, le=2**50)] = DEFAULT_RESERVE
    """Bytes kept free on each device."""
    gpu_max_ttl_ms: Annotated[int, Field(ge=100, le=600_000)] = 60_000
    """Longest time to live of a lease; also how long nothing is granted after a loss of data."""
    gpu_margin_ms: Annotated[int, Field(ge=0, le=60_000)] = 500
    """Memory is freed so much later than its lease expires."""
    gpu_fresh_ms: Annotated[int, Field(ge=100, le=600_000)] = 2_000
    """A report older than this is none."""
    gpu_silence_ms: Annotated[int, Field(ge=200, le=600_000)] = 3_000
    """A host that is silent for longer has lost its devices."""
    gpu_max_waiting: Annotated[int, Field(ge=0, le=10_000)] = 1_000
    """How many may stand in line."""
    gpu_alarm_growth: Annotated[int, Field(ge=1, le=2**50)] = DEFAULT_ALARM_GROWTH
    """Bytes by which foreign memory, or use beyond a lease, has to grow to be told to everybody."""

    gpu_cache_use_ms: Annotated[int, Field(ge=100, le=3_600_000)] = 60_000
    """Who uses cached weights and is silent for longer has left them."""
    gpu_evict_ask_ms: Annotated[int, Field(ge=0, le=600_000)] = 5_000
    """So long an owner of cached weights has to unload them when it is asked to."""
    gpu_evict_sleep_ms: Annotated[int, Field(ge=0, le=600_000)] = 10_000
    """So long it has to give their memory back when it is put to sleep."""
    gpu_evict_kill_ms: Annotated[int, Field(ge=0, le=600_000)] = 10_000
    """So long after the kill the memory has to be back, or it is quarantined."""

    def rules(self) -> Settings:
        return Settings(
            reserve=self.gpu_reserve,
            max_ttl_ms=self.gpu_max_ttl_ms,
            margin_ms=self.gpu_margin_ms,
            fresh_ms=self.gpu_fresh_ms,
            silence_ms=self.gpu_silence_ms,
            max_waiting=self.gpu_max_waiting,
            alarm_growth=self.gpu_alarm_growth,
            cache_use_ms=self.gpu_cache_use_ms,
            evict_ask_ms=self.gpu_evict_ask_ms,
            evict_sleep_ms=self.gpu_evict_sleep_ms,
            evict_kill_ms=self.gpu_evict_kill_ms,
        )
