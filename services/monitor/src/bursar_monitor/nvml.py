"""GPUs through NVIDIA's management library, where there is one. Whatever a device cannot tell is None, never 0.

A device that answered once and then fails (fallen off the bus, or its driver has given it up) is told as lost.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Final

from bursar.contracts.monitor import GpuSample

MAX_GPUS: Final = 32
AGAIN: Final = 10
"""Each so many looks it is tried whether there is a driver, where there was none."""


class Gpus:
    """The devices of this host. ``library``: the module ``pynvml``, or a twin for tests; None when there is none."""

    def __init__(self, library: Any) -> None:
        self._nvml = library
        self._is_up = False
        self._looks = 0
        self._names: dict[int, tuple[str | None, str]] = {}

    def sample(self) -> tuple[GpuSample, ...]:
        """One look at every device; empty where there is no driver."""
        if not self._start():
            return tuple(self._lost(index) for index in self._names)
        count = self._ask(self._nvml.nvmlDeviceGetCount)
        if count is None:
            self._stop()
            return tuple(self._lost(index) for index in self._names)
        indexes = sorted({*range(min(count, MAX_GPUS)), *self._names})
        return tuple(gpu for index in indexes if (gpu := self._one(index)) is not None)

    def close(self) -> None:
        self._stop()

    def _start(self) -> bool:
        self._looks += 1
        is_worth_it = bool(self._names) or self._looks % AGAIN == 1
        if self._nvml is not None and not self._is_up and is_worth_it:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlInit()
                self._is_up = True
        return self._is_up

    def _stop(self) -> None:
        if self._is_up:
            self._is_up = False
            self._ask(self._nvml.nvmlShutdown)

    def _lost(self, index: int) -> GpuSample:
        uuid, name = self._names[index]
        return GpuSample(index=index, uuid=uuid, name=name, lost=True)

    def _one(self, index: int) -> GpuSample | None:
        handle = self._ask(self._nvml.nvmlDeviceGetHandleByIndex, index)
        memory = None if handle is None else self._ask(self._nvml.nvmlDeviceGetMemoryInfo, handle)
        if handle is None or (memory is None and index in self._names):
            return self._lost(index) if index in self._names else None
        if index not in self._names:
            uuid, name = (
                self._ask(getattr(self._nvml, ask), handle) for ask in ("nvmlDeviceGetUUID", "nvmlDeviceGetName")
            )
            self._names[index] = (_text(uuid), (_text(name) or "")[:96])
        uuid, name = self._names[index]
        busy = self._ask(self._nvml.nvmlDeviceGetUtilizationRates, handle)
        power = self._ask(self._nvml.nvmlDeviceGetPowerUsage, handle)
        return GpuSample(
            index=index,
            uuid=uuid,
            name=name,
            memory_total_bytes=None if memory is None else int(memory.total),
            memory_used_bytes=None if memory is None else int(memory.used),
            busy_permille=None if busy is None else min(1000, int(busy.gpu) * 10),
            temperature_c=self._temperature(handle),
            power_mw=None if power is None else int(power),
        )

    def _temperature(self, handle: Any) -> int | None:
        value = self._ask(self._nvml.nvmlDeviceGetTemperature, handle, self._nvml.NVML_TEMPERATURE_GPU)
        return None if value is None else int(value)

    def _ask(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """The answer of the library; None when it has none."""
        try:
            return call(*arguments)
        except self._nvml.NVMLError:
            return None


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value if isinstance(value, str) else None


def library() -> Any:
    """The library's module; None when it is not installed."""
    try:
        import pynvml  # type: ignore[import-untyped] # noqa: PLC0415 - a host without GPUs needs none of it
    except ImportError:
        return None
    return pynvml
