"""What every service can be told, from arguments or from environment variables that begin with ``BURSAR_``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bursar.contracts.base import SHARDS


class ServiceSettings(BaseSettings):
    """Settings that all services share; each service adds its own in a subclass. Times in milliseconds."""

    model_config = SettingsConfigDict(env_prefix="BURSAR_", frozen=True, extra="ignore")

    url: str = "nats://127.0.0.1:4222"
    """NATS server, or several with commas between."""
    creds: Path | None = None
    """Credentials of the service's own principal (hears agents). None: a server without authentication."""
    log_creds: Path | None = None
    """Credentials of its log principal (journal and checkpoints)."""
    keys_dir: Path | None = None
    """Directory with ``signing.nk`` (broadcast signatures) and ``fence.key``; shared by all instances of a service.
    None: keys are made up for this process, so that a second instance could not check the first one's fences."""
    data_dir: Path | None = None
    """Directory of this instance for the highest fence that it knows. None: nothing is kept outside of NATS."""
    instance: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{0,40}$")] = ""
    """Name of this instance in listings; random if empty."""
    shard: Annotated[int, Field(ge=0, lt=SHARDS)] = 0
    """The shard whose journal this instance works on; all instances of a service have the same. Requests carry no
    shard, so that two shards of one service would both answer them: more than one takes more than a setting."""
    shards: None = None
    """Refused: an instance has one shard."""
    takeover_ms: Annotated[int, Field(ge=300, le=60_000)] = 1000
    """Silence of the owner after which a standby takes over."""
    snapshot_ms: Annotated[int, Field(ge=100)] = 30_000
    """Time between snapshots while anything happens."""
    snapshot_events: Annotated[int, Field(ge=1)] = 200_000
    """Events after which a snapshot is made earlier."""
    drain_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    """How long SIGTERM waits for accepted requests to be answered."""
    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR; log lines are JSON on standard error."""

    @field_validator("shards", mode="before")
    @classmethod
    def _has_one(cls, value: object) -> None:
        if value is not None:
            raise ValueError("an instance serves one shard: use 'shard' (BURSAR_SHARD), a number from 0 to 15")
