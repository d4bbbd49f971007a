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

    def rules(self) -> Settings:
        return Settings(
            reserve=self.gpu_reserve,
            max_ttl_ms=self.gpu_max_ttl_ms,
            margin_ms=self.gpu_margin_ms,
            fresh_ms=self.gpu_fresh_ms,
            silence_ms=self.gpu_silence_ms,
            max_waiting=self.gpu_max_waiting,
            alarm_growth=self.gpu_alarm_growth,
        )
