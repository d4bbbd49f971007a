"""The file of rights: TOML, one table ``[[rule]]`` for each rule, with the fields of `bursar.contracts.rights`::

closed = false          # true: of what no rule speaks of, nothing may be used

[[rule]]
who = ["alice", "team-a-*"]
budgets = ["team-a"]    # and all below it
models = ["llama-3-8b", "qwen*"]
gpus = ["gpu-host-1"]   # all of that host, or <host>/<uuid>
targets = ["openai/eu"]
"""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from bursar.contracts.base import Message
from bursar.contracts.rights import SetRights
from bursar.kernel.rights import RIGHTS
from bursar.kernel.spec import ServiceSpec

log = logging.getLogger("bursar.kernel")

FROM_FILE: Final = "rights_file"
"""Stands for a request id, which a file has none of."""


def read_rights(path: Path) -> SetRights:
    """The rights of a file. Raises `ValueError`, which says what is wrong with it."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: {error}") from None
    rules = document.pop("rule", [])
    try:
        fields = {**document, "rules": rules, "id": FROM_FILE}
        return SetRights.model_validate(fields, strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{path}: {where}: {first['msg']} ({error.error_count()} mistakes)") from None


def first_of_all(spec: ServiceSpec, settings: Any, state: Any) -> Iterator[Message]:
    """What a new owner decides before it listens: the rights of the settings' file, then what the service wants."""
    if settings.rights is not None and RIGHTS in spec.admin:
        try:
            yield read_rights(settings.rights)
        except ValueError as error:  # those that were set before hold
            log.warning("rights_not_loaded", extra={"why": str(error)})
    if spec.start is not None:
        yield from spec.start(settings, state)
