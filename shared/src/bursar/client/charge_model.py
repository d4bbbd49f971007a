"""What a call counts as at one provider, as versioned data.

Providers count differently, and change how: one admission formula is wrong for at least one of them. A charge model is
a TOML file: those of this package lie in ``charge_models/<name>@<revision>.toml``, each with the date on which the
provider's documents were read and their addresses; a newer revision of your own is a file away::

    http = fleet.http_client("anthropic/{pool}", charge_model="anthropic")      # the newest revision
    http = fleet.http_client("old", charge_model="anthropic@2025-08-12")        # a particular one
    http = fleet.http_client("mine", charge_model=Path("our-gateway.toml"))     # your own

What it says:

- ``input.counts``: which tokens of the prompt count: ``fresh``, ``cache_write``, ``cache_read``; other ones for some
  models. None named: all for an answer in OpenAI's shape, all but cache reads for one in Anthropic's.
- ``output.reserve``: what is reserved for the answer: ``max_tokens`` (the caller's maximum), or ``estimate`` (what is
  learned, never above it). ``output.settle``: ``produced`` (what is not used comes back), or ``reserved`` (what was
  charged in advance stays charged).
- ``total``: how one limit on all tokens counts: ``sum``, ``larger`` (of the maximum and the prompt), ``input``.
- ``failed``: what a call without usage counts as, by status; see `bursar.client.charges`.
- ``headers``: the window that its rate-limit headers speak of, and to how many tokens they are rounded.
- ``pools``: models that share one limit, and those that have another one for long prompts.

Models are matched by shell patterns, in the order of the file; the first match counts.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bursar.client.charges import Charge
from bursar.client.usage import CallUsage
from bursar.errors import CallerError

Tokens = Literal["fresh", "cache_write", "cache_read"]
DATA: Final = "charge_models"
GENERIC: Final = "generic"

_REVISION = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_STATUS = r"^([1-5][0-9]{2}|[1-5]xx|lost)$"
_POOL = r"^[a-z0-9][a-z0-9_-]{0,62}$"
_DIMENSION = Literal["requests", "input_tokens", "output_tokens", "total_tokens"]


class BadChargeModel(CallerError):
    """A charge model is not there, or its file is wrong; the text says where and why."""

    def __init__(self, text: str) -> None:
        super().__init__("bad_config", text)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputOf(_Part):
    """For models that match: other tokens count than for the rest."""

    match: Annotated[tuple[str, ...], Field(min_length=1)]
    counts: tuple[Tokens, ...]


class Input(_Part):
    counts: tuple[Tokens, ...] = ()
    models: tuple[InputOf, ...] = ()


class Output(_Part):
    reserve: Literal["max_tokens", "estimate"] = "max_tokens"
    settle: Literal["produced", "reserved"] = "produced"


class Headers(_Part):
    """``window_ms``: length of the window of which limit and remaining speak. ``rounding``: what a remaining count may
    be rounded to, in the unit of the dimension."""

    window_ms: Annotated[int, Field(ge=1, le=86_400_000)] = 60_000
    rounding: dict[_DIMENSION, Annotated[int, Field(ge=0, le=1_000_000)]] = Field(default_factory=dict)


class Pool(_Part):
    """Models that share one limit; ``input_above``: only for prompts of more tokens."""

    name: Annotated[str, Field(pattern=_POOL)]
    match: Annotated[tuple[str, ...], Field(min_length=1)]
    input_above: Annotated[int, Field(ge=0)] | None = None


class ChargeModel(_Part):
    """How one provider counts, as its documents said on the day ``revision``."""

    format: Literal[1]
    name: Annotated[str, Field(pattern=_POOL)]
    revision: Annotated[str, Field(pattern=_REVISION)]
    sources: Annotated[tuple[str, ...], Field(min_length=1)]
    note: str = ""
    hosts: tuple[str, ...] = ()
    input: Input = Input()
    output: Output = Output()
    total: Literal["sum", "larger", "input"] = "sum"
    failed: dict[Annotated[str, Field(pattern=_STATUS)], Charge] = Field(default_factory=dict)
    headers: Headers = Headers()
    pools: tuple[Pool, ...] = ()

    @property
    def version(self) -> str:
        return f"{self.name}@{self.revision}"

    @property
    def charges(self) -> dict[int | str, Charge]:
        """The table ``failed``, with statuses as numbers."""
        return {int(status) if status.isdigit() else status: charge for status, charge in self.failed.items()}

    def pool_of(self, model: str, input_tokens: int = 0) -> str:
        """The pool that a model's call draws from; its own name, as a name of a budget, where it has a limit alone."""
        for pool in self.pools:
            if pool.input_above is not None and input_tokens <= pool.input_above:
                continue
            if _matches(pool.match, model):
                return pool.name
        return re.sub(r"[^a-z0-9_-]+", "-", model.lower()).strip("-_")[:63] or "model"

    def input_tokens(self, model: str, usage: CallUsage) -> int | None:
        """What the prompt of a call counted as; None: the answer does not tell."""
        if usage.fresh is None:
            return None
        counts = next((rule.counts for rule in self.input.models if _matches(rule.match, model)), self.input.counts)
        if not counts:
            return usage.input_tokens
        amounts = {"fresh": usage.fresh, "cache_write": usage.cache_write, "cache_read": usage.cache_read}
        return sum(amounts[kind] for kind in counts)

    def output_tokens(self, reserved: int, produced: int) -> int:
        """What the answer counted as."""
        return max(reserved, produced) if self.output.settle == "reserved" else produced

    def total_tokens(self, input_tokens: int, output_tokens: int) -> int:
        """What a limit on all tokens together counts."""
        if self.total == "larger":
            return max(input_tokens, output_tokens)
        return input_tokens + (output_tokens if self.total == "sum" else 0)


def _matches(patterns: tuple[str, ...], model: str) -> bool:
    return any(fnmatchcase(model, pattern) for pattern in patterns)


def charge_model(which: str | Path | ChargeModel | None, host: str = "") -> ChargeModel:
    """A charge model by ``name`` (its newest revision), ``name@revision`` or file; None: by the host that is called,
    and `GENERIC` for one that nobody knows. Raises `BadChargeModel`."""
    if isinstance(which, ChargeModel):
        return which
    if isinstance(which, Path):
        return read_charge_model(_text_of(which), str(which))
    if which is None:
        return next((model for model in newest().values() if host in model.hosts), newest()[GENERIC])
    found = shipped().get(which) or newest().get(which)
    if found is None:
        raise BadChargeModel(f"there is no charge model {which!r}; there are {', '.join(sorted(shipped()))}")
    return found


@cache
def shipped() -> Mapping[str, ChargeModel]:
    """All charge models of this package, by version, the oldest first."""
    folder = files("bursar.client").joinpath(DATA)
    texts = {
        entry.name: entry.read_text(encoding="utf-8") for entry in folder.iterdir() if entry.name.endswith(".toml")
    }
    models = [read_charge_model(text, name) for name, text in sorted(texts.items())]
    return {model.version: model for model in models}


@cache
def newest() -> Mapping[str, ChargeModel]:
    """The newest revision of each charge model of this package, by name."""
    return {model.name: model for model in sorted(shipped().values(), key=lambda model: model.revision)}


def read_charge_model(text: str, origin: str) -> ChargeModel:
    """The charge model in a TOML text; ``origin``, the file's name, is for errors. Raises `BadChargeModel`."""
    try:
        return ChargeModel.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise BadChargeModel(f"{origin}: {error}") from None
    except ValidationError as error:
        first: Any = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadChargeModel(f"{origin}: {where}: {first['msg']}") from None


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadChargeModel(f"{path}: cannot be read: {error}") from None
