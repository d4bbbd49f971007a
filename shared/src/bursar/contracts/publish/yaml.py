"""Plain values as YAML, in block style: what a person can read and every YAML reader takes.

Strings that YAML could take for something else are written as in JSON, which is YAML too. Nothing else is needed to
write a document, so that publishing the contracts takes no further package.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*( [A-Za-z0-9_(][A-Za-z0-9_./()-]*)*")
_WORDS_OF_YAML = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def to_yaml(value: dict[str, Any]) -> str:
    """A document with this value."""
    return "\n".join(_lines(value, "")) + "\n"


def _lines(value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _entry(f"{indent}{_text(key)}:", inner, indent + "  ")
    else:
        for inner in value:
            yield from _entry(f"{indent}-", inner, indent + "  ")


def _entry(head: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, dict | list) and value:
        if head.endswith("-"):  # the first line of an item stands beside its dash
            first, *rest = _lines(value, indent)
            yield f"{head} {first.removeprefix(indent)}"
            yield from rest
        else:
            yield head
            yield from _lines(value, indent)
    else:
        yield f"{head} {_text(value) if isinstance(value, str) else json.dumps(value)}"


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS_OF_YAML:
        return text
    return json.dumps(text, ensure_ascii=False)
