"""The judge's settings: one frozen object, read from JSON and checked at start."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from .windows import Kind

EpisodeKind = Literal["overload", "outage", "errors"]
OutputCharge = Literal["produced", "max_tokens"]


class SettingsError(ValueError):
    """The configuration says something that the judge cannot do; the text names the field."""


@dataclass(frozen=True)
class Limits:
    """Limits of one API key; None means unlimited. Windowed amounts are per ``window_ms`` of the settings."""

    requests: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    concurrency: int | None = None


@dataclass(frozen=True)
class Episode:
    """A bad time: from ``start_s`` after the start of the judge, for ``seconds``.

    overload: ``share`` of the calls is answered 529 (Anthropic) or 503 (OpenAI); errors: 500 instead; outage: open
    connections are reset and new ones too, before a word is answered.
    """

    kind: EpisodeKind
    start_s: float
    seconds: float
    share: float = 1.0


@dataclass(frozen=True)
class Settings:
    """Everything that can be set.

    ``first_token_ms`` and ``per_token_ms`` are medians; ``spread`` is the sigma of the log-normal factor on both;
    ``scale`` multiplies all latency. ``chunk_tokens`` is how many tokens one streamed event carries.
    """

    keys: dict[str, Limits] = field(default_factory=dict)
    window: Kind = "rolling"
    window_ms: int = 60_000
    output_charge: OutputCharge = "produced"
    rejected_count: bool = False
    seed: int = 1
    first_token_ms: float = 250.0
    per_token_ms: float = 10.0
    spread: float = 0.25
    scale: float = 1.0
    chunk_tokens: int = 8
    mean_output: int = 28
    episodes: tuple[Episode, ...] = field(default=())

    def __post_init__(self) -> None:
        _require(self.window in get_args(Kind), f"window: {self.window!r} is not one of {get_args(Kind)}")
        _require(self.window_ms > 0, "window_ms: must be above 0")
        _require(self.output_charge in get_args(OutputCharge), f"output_charge: {self.output_charge!r} is unknown")
        _require(self.chunk_tokens > 0 and self.mean_output > 0, "chunk_tokens, mean_output: must be above 0")
        latencies = (self.first_token_ms, self.per_token_ms, self.spread, self.scale)
        _require(min(latencies) >= 0, "first_token_ms, per_token_ms, spread, scale: must not be negative")
        for key, limits in self.keys.items():
            values = [getattr(limits, f.name) for f in fields(limits)]
            _require(all(v is None or v > 0 for v in values), f"keys.{key}: every limit must be above 0 or null")
        for episode in self.episodes:
            _require(episode.kind in get_args(EpisodeKind), f"episodes: {episode.kind!r} is unknown")
            _require(episode.seconds >= 0 and 0 <= episode.share <= 1, "episodes: seconds >= 0 and share in 0..1")


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise SettingsError(text)


def from_json(text: str) -> Settings:
    """Settings from a JSON object.

    Raises:
        SettingsError: not JSON, an unknown field, or a value out of range.
    """
    try:
        raw = json.loads(text)
        return from_dict(raw)
    except (TypeError, AttributeError, ValueError) as error:
        raise SettingsError(f"configuration: {error}") from error


def from_dict(raw: dict[str, Any]) -> Settings:
    keys = {key: Limits(**limits) for key, limits in raw["keys"].items()} if "keys" in raw else {}
    episodes = tuple(Episode(**episode) for episode in raw.get("episodes", ()))
    rest = {name: value for name, value in raw.items() if name not in ("keys", "episodes")}
    return Settings(keys=keys, episodes=episodes, **rest)
