"""What the limiter can be told, beside what every service can (`ServiceSettings`)."""

from __future__ import annotations

from pathlib import Path

from bursar.kernel.settings import ServiceSettings


class LimiterSettings(ServiceSettings):
    """Settings of one instance of the limiter; environment variables begin with ``BURSAR_``."""

    limiter_budgets: Path | None = None
    """TOML file with the budgets (see ``budgets.toml``). Read when this instance becomes owner; an operator reloads it
    by the admin verb ``reload``. None: the example beside this module."""
