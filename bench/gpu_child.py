"""A process that really uses a card: allocates, copies, ends. Told by lines on its standard input, answers by lines.

Only the CUDA driver's own library is needed (``libcuda.so.1``, which comes with the driver), by ctypes.

    alloc BYTES          ok, or the driver's error number
    copy SECONDS         copies within the card's memory for so long; answers with bytes that were moved
"""

from __future__ import annotations

import ctypes
import sys
import time

COPY = 1 << 30
OUT_OF_MEMORY = 2


class CudaError(Exception):
    """``code``: CUresult."""

    def __init__(self, call: str, code: int) -> None:
        super().__init__(f"{call}: CUDA error {code}")
        self.code = code


class Cuda:
    """One card of this process. Raises `OSError` without a driver, `CudaError` without a card."""

    def __init__(self, number: int) -> None:
        self._library = ctypes.CDLL("libcuda.so.1")
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuInit", ctypes.c_uint(0))
        self._call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(number))
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._call("cuCtxSetCurrent", context)

    def _call(self, name: str, *arguments: object) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            raise CudaError(name, code)

    def allocate(self, size: int) -> int:
        pointer = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(size))
        return pointer.value

    def free(self, pointer: int) -> None:
        self._call("cuMemFree_v2", ctypes.c_uint64(pointer))

    def copy(self, seconds: float) -> int:
        """Bytes moved: each copy reads and writes its size."""
        first, second, moved = self.allocate(COPY), self.allocate(COPY), 0
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            for _ in range(16):
                self._call("cuMemcpyDtoD_v2", ctypes.c_uint64(second), ctypes.c_uint64(first), ctypes.c_size_t(COPY))
            self._call("cuCtxSynchronize")
            moved += 16 * 2 * COPY
        self.free(first)
        self.free(second)
        return moved


def main() -> int:
    cuda = Cuda(int(sys.argv[1]))
    print("ready", flush=True)
    for line in sys.stdin:
        what, _, amount = line.strip().partition(" ")
        try:
            if what == "alloc":
                cuda.allocate(int(amount))
                print("ok", flush=True)
            else:
                print(cuda.copy(float(amount)), flush=True)
        except CudaError as error:
            print(f"error {error.code}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
