"""Budgets from a LiteLLM configuration: its ``model_list`` with ``rpm``, ``tpm`` and ``max_parallel_requests``.

A deployment there is a model at a provider, called with a key. What the provider limits is the key, for a model or for
a pool of models that share one limit: so deployments of the same provider, key, address and pool become one budget.
Where their figures differ the smaller one is taken, and a comment says so. What has no figures becomes a comment, too.

| LiteLLM | here |
|---|---|
| ``rpm``, ``rpd`` | ``limits.requests`` per minute, per day |
| ``tpm``, ``tpd`` | ``limits.total_tokens`` per minute, per day |
| ``itpm``, ``otpm`` | ``limits.input_tokens``, ``limits.output_tokens`` per minute |
| ``max_parallel_requests`` | ``limits.concurrent`` |

They stand in ``litellm_params``, in ``model_info``, or beside both, which goes before.

Keys are never written down: a key is named after its variable of the environment, or numbered.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from bursar.client.charge_model import charge_model, newest

MAX_BYTES: Final = 4 * 1024 * 1024
MOST: Final = 2**53 - 1

_LIMITS: Final = {
    "rpm": ("requests", "1m"),
    "rpd": ("requests", "1d"),
    "tpm": ("total_tokens", "1m"),
    "tpd": ("total_tokens", "1d"),
    "itpm": ("input_tokens", "1m"),
    "otpm": ("output_tokens", "1m"),
    "max_parallel_requests": ("concurrent", ""),
}
_PROVIDERS: Final = {"claude": "anthropic", "gpt": "openai", "o1": "openai", "o3": "openai", "o4": "openai"}
"""What a model is called whose provider is not named."""


class BadConfig(Exception):
    """The configuration cannot be imported; the text says where and why."""


class Deployment(NamedTuple):
    """One entry of the list. ``where``: its place in the file; ``limits``: what of `_LIMITS` it has."""

    where: str
    name: str
    provider: str
    model: str
    key: str
    base: str
    limits: dict[str, int]


def import_litellm(text: str, origin: str) -> str:
    """The budgets as TOML. ``origin``, the file's name, is for errors and comments. Raises `BadConfig`."""
    groups: dict[tuple[str, str, str, str], list[Deployment]] = {}
    for deployment in deployments(text, origin):
        pool = _pool(deployment)
        groups.setdefault((deployment.provider, pool, deployment.key, deployment.base), []).append(deployment)
    names = _names(list(groups))
    tables = [_table(names[key], members) for key, members in groups.items()]
    if not any(limits for members in groups.values() for limits in (member.limits for member in members)):
        raise BadConfig(f"{origin}: no deployment has {', '.join(_LIMITS)}: there is nothing to limit")
    return "\n".join(
        [f"# Budgets from {_line(origin)} (LiteLLM's model_list). Compare with your provider's console.", *tables, ""]
    )


def deployments(text: str, origin: str) -> list[Deployment]:
    """The entries of the ``model_list``. Raises `BadConfig`."""
    document = _yaml(text, origin)
    entries = document.get("model_list") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries:
        raise BadConfig(f"{origin}: it has no model_list, which must be a list of deployments")
    return [_deployment(entry, f"{origin}: model_list[{index}]") for index, entry in enumerate(entries)]


def _yaml(text: str, origin: str) -> Any:
    try:
        import yaml  # only this command needs it
    except ImportError:
        raise BadConfig("reading YAML needs PyYAML: pip install pyyaml") from None
    if len(text) > MAX_BYTES:
        raise BadConfig(f"{origin}: larger than {MAX_BYTES} bytes")
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        place = getattr(error, "problem_mark", None)
        line = "" if place is None else f", line {place.line + 1}"
        problem = getattr(error, "problem", None) or type(error).__name__
        raise BadConfig(f"{origin}{line}: not YAML: {problem}") from None


def _deployment(entry: Any, where: str) -> Deployment:
    if not isinstance(entry, dict):
        raise BadConfig(f"{where}: must be a map with model_name and litellm_params")
    name, params = entry.get("model_name"), entry.get("litellm_params")
    if not isinstance(name, str) or not name:
        raise BadConfig(f"{where}: has no model_name")
    where = f"{where} ({name[:80]})"
    if not isinstance(params, dict):
        raise BadConfig(f"{where}: has no litellm_params")
    model = params.get("model")
    if not isinstance(model, str) or not model:
        raise BadConfig(f"{where}: litellm_params has no model")
    provider, model = _provider(model, params.get("custom_llm_provider"))
    info = entry.get("model_info")
    told = {**(info if isinstance(info, dict) else {}), **params, **entry}
    limits = {key: _number(told[key], f"{where}: {key}") for key in _LIMITS if told.get(key) is not None}
    return Deployment(where, name, provider, model, _text(params, "api_key"), _text(params, "api_base"), limits)


def _provider(model: str, named: Any) -> tuple[str, str]:
    """``provider/model``, or a model whose name shows its provider."""
    before, slash, rest = model.partition("/")
    if isinstance(named, str) and named:
        return _slug(named), model
    if slash:
        return _slug(before), rest
    found = next((provider for start, provider in _PROVIDERS.items() if model.startswith(start)), "openai")
    return found, model


def _number(value: Any, where: str) -> int:
    if isinstance(value, str) and value.startswith("os.environ/"):
        raise BadConfig(f"{where} = {value!r}: is read from the environment there; write the number")
    text = str(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else ""
    if not re.fullmatch(r"\s*[0-9][0-9_]*(\.0+)?\s*", text):
        raise BadConfig(f"{where} = {value!r}: must be a whole number")
    number = int(float(text.replace("_", ""))) if "." in text else int(text.replace("_", ""))
    if not 1 <= number <= MOST:
        raise BadConfig(f"{where} = {value!r}: must be from 1 to {MOST}")
    return number


def _text(params: Mapping[str, Any], key: str) -> str:
    value = params.get(key)
    return value if isinstance(value, str) else ""


def _pool(deployment: Deployment) -> str:
    model = charge_model(deployment.provider) if deployment.provider in newest() else charge_model("generic")
    return model.pool_of(deployment.model)


def _names(groups: list[tuple[str, str, str, str]]) -> dict[tuple[str, str, str, str], str]:
    """A name for each budget: provider and pool, and the key or a number where there are several of these."""
    names: dict[tuple[str, str, str, str], str] = {}
    for group in groups:
        provider, pool, key, _ = group
        alike = [other for other in groups if other[:2] == group[:2]]
        name = f"{provider}/{pool}"
        if len(alike) > 1:
            variable = _slug(key.removeprefix("os.environ/")) if key.startswith("os.environ/") else ""
            labels = [other[2] for other in alike]
            is_own = variable and labels.count(key) == 1
            name = f"{name}/{variable if is_own else f'key-{alike.index(group) + 1}'}"
        names[group] = name if name not in names.values() else f"{name}-{len(names) + 1}"
    return names


def _table(name: str, members: list[Deployment]) -> str:
    lines = ["", *(f"# {_line(member.name)}: {_line(f'{member.provider}/{member.model}')}" for member in members)]
    limits = list(_smallest(members))
    if not limits:
        return "\n".join([*lines, f'# [budgets."{name}"] has no limits there.'])
    lines.append(f'[budgets."{name}"]')
    by_dimension: dict[str, list[str]] = {}
    for key, amount, differ in limits:
        dimension, window = _LIMITS[key]
        if differ:
            lines.append(f"# {key} differs between them; the smallest is taken: they share the provider's limit.")
        produced = ', charge = "production"' if key == "otpm" and members[0].provider == "anthropic" else ""
        value = f'{{ limit = {amount}, window = "{window}"{produced} }}' if window else str(amount)
        by_dimension.setdefault(dimension, []).append(value)
    for dimension, values in by_dimension.items():
        lines.append(f"limits.{dimension} = {values[0] if len(values) == 1 else '[' + ', '.join(values) + ']'}")
    return "\n".join(lines)


def _smallest(members: list[Deployment]) -> Iterable[tuple[str, int, bool]]:
    """(key, the smallest amount, whether they differ) of what any of them has."""
    for key in _LIMITS:
        told = [member.limits[key] for member in members if key in member.limits]
        if told:
            yield key, min(told), len(set(told)) > 1


def _line(text: str) -> str:
    """Text of somebody else's for a comment: on one line, whatever is in it."""
    return "".join(letter if letter.isprintable() else " " for letter in text)[:120]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:63] or "provider"
