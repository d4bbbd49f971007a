"""What every service can be told, from arguments or from environment variables that begin with ``BURSAR_``."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final, NoReturn, TypeVar

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bursar.contracts.base import SHARDS
from bursar.kernel.rights_file import read_rights

Told = TypeVar("Told", bound=BaseSettings)

BAD_SETTINGS: Final = 2
"""Exit status of a process that was told something wrong."""


class ServiceSettings(BaseSettings):
    """Settings that all services share; each service adds its own in a subclass. Times in milliseconds."""

    model_config = SettingsConfigDict(env_prefix="BURSAR_", frozen=True, extra="ignore", use_attribute_docstrings=True)

    url: str = "nats://127.0.0.1:4222"
    """NATS server, or several with commas between. ``tls://`` addresses are encrypted: BURSAR_TLS_CA, BURSAR_TLS_CERT
    and BURSAR_TLS_KEY name PEM files of the authority, of this service's certificate and of its key."""
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
    rights: Path | None = None
    """TOML file of rights: which principals may use which budgets, models, GPUs and targets. It is applied when an
    instance becomes the owner, unless these hold already. None: those that were set before hold, or no limits."""
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
    principal_rate: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Requests a second that one principal may make while others ask, too (`bursar.kernel.fairness`); more are refused
    with ``overloaded``. 0: no such limit. The images have 500."""
    health_host: str = "127.0.0.1"
    """Address of the HTTP port for ``/healthz``, ``/readyz`` and ``/metrics``, which say nothing secret and need no
    password."""
    health_port: Annotated[int, Field(ge=0, le=65_535)] = 0
    """That port. 0: none."""
    audit: bool = False
    """Write each act of an operator into the audit log before it is decided, and what policy forbids in batches; when
    the log does not take it, the act is refused (``audit_unavailable``). Needs the accounts and the stream of
    `bursar up` or `bursar deploy`, which set it."""
    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR; log lines are JSON on standard error."""

    @field_validator("rights")
    @classmethod
    def _can_be_read(cls, value: Path | None) -> Path | None:
        if value is not None:
            read_rights(value)  # rather not start than start without them
        return value

    @field_validator("shards", mode="before")
    @classmethod
    def _has_one(cls, value: object) -> None:
        if value is not None:
            raise ValueError("an instance serves one shard: use 'shard' (BURSAR_SHARD), a number from 0 to 15")


def told(settings: type[Told], command: str, arguments: Sequence[str] | None = None) -> Told:
    """What the environment says to this process.

    ``command``: how it was called. There are no arguments but ``--help``, which prints all variables and ends the
    process (status 0); another one, or a variable that cannot be, ends it with status 2 and a line that says why.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if any(argument in {"-h", "--help"} for argument in arguments):
        sys.stdout.write(page(settings, command))
        raise SystemExit(0)
    if arguments:
        _end(f"{command}: unknown argument {arguments[0]!r}; it is told by environment variables, see --help")
    try:
        return settings()
    except ValidationError as error:
        prefix = settings.model_config.get("env_prefix", "")
        named = ("_".join(str(part) for part in one["loc"]).upper() for one in error.errors())
        _end(*(f"{command}: {prefix}{name}: {one['msg']}" for name, one in zip(named, error.errors(), strict=True)))


def page(settings: type[BaseSettings], command: str) -> str:
    """The page of help: every variable with its meaning and default."""
    prefix = settings.model_config.get("env_prefix", "")
    lines = [f"usage: {command} [--help]", "", "It is told by environment variables:", ""]
    for name, default, meaning in _variables(settings):
        lines.append(f"  {prefix}{name.upper()}  (default: {default})")
        lines += textwrap.wrap(meaning, 100, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines) + "\n"


def _variables(settings: type[BaseSettings]) -> Iterator[tuple[str, str, str]]:
    """Name, default and meaning, which is the text below the field."""
    for name, field in settings.model_fields.items():
        if field.annotation is not type(None):
            default = "none" if field.default is None or field.default == "" else str(field.default)
            yield name, default, field.description or ""


def _end(*lines: str) -> NoReturn:
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    raise SystemExit(BAD_SETTINGS)
