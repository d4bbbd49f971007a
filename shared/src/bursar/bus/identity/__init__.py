"""Who is who: a decentralised NATS identity (operator, accounts, scoped signing keys) kept in one directory."""

from bursar.bus.identity.home import (
    JETSTREAM_LIMITS,
    Home,
    HomeError,
    Trust,
    create_home,
    load_home,
    mint_agent,
    revoke_agent,
    rotate_agent,
)
from bursar.bus.identity.jwt import BadToken

__all__ = [
    "JETSTREAM_LIMITS",
    "BadToken",
    "Home",
    "HomeError",
    "Trust",
    "create_home",
    "load_home",
    "mint_agent",
    "revoke_agent",
    "rotate_agent",
]
