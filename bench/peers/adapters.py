"""One class per peer: take an amount of a limit now, or be refused. Each uses what its own documentation recommends.

Imports are by name, since these packages exist only in the environment of the peers. A window is given in whole
seconds.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any, Protocol


class Peer(Protocol):
    """``Peer(port, limit, window)``: the port of Redis on this host, units per window, seconds."""

    async def open(self) -> None: ...

    async def take(self, amount: int) -> bool: ...


class Limits:
    """`limits`: its fixed window on Redis, the fastest that it has there (its moving window stores every unit of a
    cost by itself)."""

    def __init__(self, port: int, limit: int, window: int) -> None:
        limits = import_module("limits")
        storage = import_module("limits.storage").RedisStorage(f"redis://127.0.0.1:{port}")
        self._limiter = import_module("limits.strategies").FixedWindowRateLimiter(storage)
        self._item = limits.RateLimitItemPerSecond(limit, window)

    async def open(self) -> None:
        """Nothing to prepare."""

    def take_now(self, amount: int) -> bool:
        return bool(self._limiter.hit(self._item, "bench", cost=amount))

    async def take(self, amount: int) -> bool:
        return self.take_now(amount)


class Pyrate:
    """`pyrate-limiter`: its GCRA in Redis."""

    def __init__(self, port: int, limit: int, window: int) -> None:
        pyrate = import_module("pyrate_limiter")
        store = pyrate.RedisStateStore(import_module("redis").Redis(port=port), f"pyrate-{limit}")
        bucket = pyrate.StateBucket([pyrate.Rate(limit, window * 1000)], pyrate.GCRA(), store)
        self._limiter = pyrate.Limiter(bucket)

    async def open(self) -> None:
        """Nothing to prepare."""

    def take_now(self, amount: int) -> bool:
        return bool(self._limiter.try_acquire("bench", weight=amount, blocking=False))

    async def take(self, amount: int) -> bool:
        return self.take_now(amount)


class LiteLLM:
    """The v3 limiter of LiteLLM's proxy on Redis: tokens are reserved before the call (`reserve_tpm_tokens`)."""

    def __init__(self, port: int, limit: int, window: int) -> None:
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would fetch a list of prices
        os.environ["LITELLM_RATE_LIMIT_WINDOW_SIZE"] = str(window)
        self._port = port
        rate = {"tokens_per_unit": limit, "window_size": window}
        self._descriptors = [{"key": "api_key", "value": f"bench-{limit}", "rate_limit": rate}]
        self._handler: Any = None

    async def open(self) -> None:
        hook = import_module("litellm.proxy.hooks.parallel_request_limiter_v3")
        redis = import_module("litellm.caching.redis_cache").RedisCache(host="127.0.0.1", port=self._port)
        cache = import_module("litellm.caching.dual_cache").DualCache(redis_cache=redis)
        usage = import_module("litellm.proxy.utils").InternalUsageCache(cache)
        self._handler = hook._PROXY_MaxParallelRequestsHandler_v3(usage)

    async def take(self, amount: int) -> bool:
        answer = await self._handler.reserve_tpm_tokens(self._descriptors, amount)
        return bool(answer["overall_code"] == "OK")


class AioLimiter:
    """`aiolimiter`: a leaky bucket in the memory of one process; it knows of no other process."""

    def __init__(self, port: int, limit: int, window: int) -> None:
        self._made_of = (limit, window)
        self._limiter: Any = None

    async def open(self) -> None:
        self._limiter = import_module("aiolimiter").AsyncLimiter(*self._made_of)

    async def take(self, amount: int) -> bool:
        if not self._limiter.has_capacity(amount):
            return False
        await self._limiter.acquire(amount)
        return True


class TokenThrottle:
    """`token-throttle` on Redis; a call is reserved and, having used all of it, not refunded."""

    def __init__(self, port: int, limit: int, window: int) -> None:
        self._made_of = (port, limit, window)
        self._limiter: Any = None
        self._refusals: type[BaseException] = TimeoutError

    async def open(self) -> None:
        package = import_module("token_throttle")
        port, limit, window = self._made_of
        client = import_module("redis.asyncio").Redis(port=port)
        quota = package.Quota(metric="tokens", limit=limit, per_seconds=window)
        self._limiter = package.RateLimiter(
            package.PerModelConfig(quotas=package.UsageQuotas([quota])),
            backend=package.RedisBackendBuilder(client, key_prefix=f"bench-{limit}"),
        )

    async def take(self, amount: int) -> bool:
        try:
            reservation = await self._limiter.acquire_capacity({"tokens": amount}, "bench", timeout=0)
        except TimeoutError:
            return False
        await self._limiter.refund_capacity({"tokens": amount}, reservation)
        return True


PEERS: dict[str, type[Any]] = {
    "limits": Limits,
    "pyrate_limiter": Pyrate,
    "litellm_v3": LiteLLM,
    "aiolimiter": AioLimiter,
    "token_throttle": TokenThrottle,
}
