"""What the monitor can be told, beyond what every service can."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import Field

from bursar.contracts.monitor_scaling import Policy
from bursar.kernel.settings import ServiceSettings
from bursar_monitor.rules import BadRules, policy_of

DEFAULT_RULES = Path(__file__).with_name("rules.toml")
"""The rules that are used when no file is named."""


class MonitorSettings(ServiceSettings):
    """Environment variables begin with ``BURSAR_``."""

    rules: Path = DEFAULT_RULES
    """TOML file of alert rules, read at the start; its content is applied once, so that a restart does not undo a
    later ``set-rules`` by an operator."""
    metrics_host: str = "127.0.0.1"
    """Address of the HTTP port for ``/metrics``, ``/healthz`` and ``/readyz``. They need no password."""
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = 9464
    """That port; when it is taken, the next free one of `bursar_monitor.web.TRIES`. 0: none."""
    page_token: Annotated[str, Field(pattern=r"^([A-Za-z0-9_-]{20,128})?$")] = ""
    """The token of the page on that port. Empty: that of the file ``page.token`` in the directory of keys, which is
    made when there is none; without such a directory there is no page."""
    lines_mib: Annotated[int, Field(ge=0, le=65_536)] = 64
    """Room for log lines of all services in ``data_dir``, in MiB; 0: they are kept in memory alone, for an hour."""
    lines_days: Annotated[int, Field(ge=1, le=3_650)] = 7
    """How many days log lines are kept there at most."""
    keda_port: Annotated[int, Field(ge=0, le=65_535)] = 0
    """Port of the external scaler for KEDA (gRPC), on the address of the metrics; it needs the packages of the extra
    ``keda``. 0: none."""
    webhook: Annotated[str, Field(pattern=r"^(https?://[^ ]+)?$")] = ""
    """Address that every notification of an incident is posted to as JSON; empty: none."""
    webhook_secret: str = ""
    """Key of the signature of these posts (HMAC-SHA256, header ``Bursar-Signature``); empty: they are not signed."""
    sweep_ms: Annotated[int, Field(ge=100, le=5_000)] = 1_000
    """Time between two questions to all instances of all services (``$SRV.STATS``)."""
    poll_ms: Annotated[int, Field(ge=100, le=5_000)] = 2_000
    """Time between two questions to each service for its own status."""


def read_rules(path: Path) -> Policy:
    """What a file of rules says. Raises `BadRules`."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadRules(f"{path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise BadRules(f"{path}: {error}") from error
    return policy_of(document, str(path))
