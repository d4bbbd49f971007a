"""Rules, objectives, inhibitions, scalers and the grouping of alerts from a TOML file, in units that people write.

    [rules.cpu-high]
    signal = "cpu_permille"
    at_least = "85%"        # a time ("5s"), a percentage, a rate ("14.4x") or a count: as the signal's name says
    clear_below = "80%"
    hold = "60s"
    clear = "15s"
    severity = "warning"
    subjects = "gpu-host-*"

    [slos.cpu]
    signal = "cpu_permille"
    low = "70%"
    high = "85%"
    objective = "95%"

    [[inhibitions]]
    source = "host-silent"
    target = "gpu-lost"
    equal = "head"

    [grouping]
    wait = "5s"

    [scalers.workers]
    least = 5
    most = 100
    busy = "77.5%"
    down_steps = ["10% in 1m", "4 in 1m"]

    [costs]
    reference = "large"
    gpu_slot_hour = "$0.80"
    [costs.prices.large]
    budgets = "openai/gpt*"
    input = "$2.50"         # of a million tokens
    output = "$10"

Every error names the file, the table and the key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Final, NamedTuple, TypeVar

from pydantic import ValidationError

from bursar.contracts.base import Message
from bursar.contracts.monitor_costs import Costing, Price
from bursar.contracts.monitor_policy import Grouping, Inhibition, Rule, Slo
from bursar.contracts.monitor_scaling import Policy, Scaler, StepPolicy
from bursar_monitor.operating import fault_of

_TIMES = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

Made = TypeVar("Made", bound=Message)


class BadRules(Exception):
    """The file of rules is wrong; the text says where and why."""


def duration(value: Any) -> int:
    """Milliseconds: "500ms", "20s", "1m", "4h", "1d"; or a whole number of ms."""
    return _scaled(value, r"([0-9]+(?:\.[0-9]+)?) ?(ms|s|m|h|d)", 'a time such as "500ms", "20s" or "1m"')


def seconds(value: Any) -> int:
    """Whole seconds: "20s", "5m"; or a number of them."""
    found = value * 1_000 if isinstance(value, int) and not isinstance(value, bool) else duration(value)
    if found % 1_000:
        raise ValueError("must be whole seconds")
    return found // 1_000


def steps(value: Any) -> tuple[StepPolicy, ...]:
    """How much may change within which time: ["100% in 15s", "4 in 15s"]."""
    if not isinstance(value, list):
        raise ValueError('must be a list such as ["100% in 15s", "4 in 15s"]')  # noqa: TRY004 - a key's value
    return tuple(_step(item) for item in value)


def _step(value: Any) -> StepPolicy:
    match = re.fullmatch(r"([0-9]{1,4}) ?(%?) in (.+)", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('must be a list such as ["100% in 15s", "4 in 15s"]')
    return StepPolicy(unit="percent" if match[2] else "replicas", value=int(match[1]), period_s=seconds(match[3]))


def percentage(value: Any) -> int:
    """Thousandths: "85%", "92.5%"."""
    return _scaled(value, r"([0-9]+(?:\.[0-9]+)?) ?(%)", 'a percentage such as "85%"')


def share(value: Any) -> int:
    """Millionths: "99.9%"."""
    return _scaled(value, r"([0-9]+(?:\.[0-9]+)?) ?(%)", 'a percentage such as "99.9%"', 10_000)


def rate(value: Any) -> int:
    """Thousandths: "14.4x"."""
    return _scaled(value, r"([0-9]+(?:\.[0-9]+)?) ?(x)", 'a rate such as "14.4x"')


def count(value: Any) -> int:
    return _scaled(value, r"([0-9]+)()", "a whole number")


def _scaled(value: Any, pattern: str, what: str, percent: int = 10) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(pattern, value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"must be {what}")
    exact = Fraction(match[1]) * {**_TIMES, "%": percent, "x": 1000, "": 1}[str(match[2])]
    if exact != int(exact):
        raise ValueError(f"must be {what}, and come out whole")
    return int(exact)


def money(value: Any) -> int:
    """Micro-dollars: "$2.50"."""
    match = re.fullmatch(r"\$([0-9]+(?:\.[0-9]+)?)", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('must be money such as "$2.50"')
    exact = Fraction(match[1]) * 1_000_000
    if exact != int(exact):
        raise ValueError("must be money, and come out in whole millionths of a dollar")
    return int(exact)


def limit_of(signal: str, value: Any) -> int:
    """A limit in the unit of its signal."""
    if signal.endswith("_ms"):
        return duration(value)
    if signal.startswith("burn_"):
        return rate(value)
    return percentage(value) if signal.endswith("_permille") else count(value)


class _Kind(NamedTuple):
    """One kind of table: its keys, the fields of those that are called otherwise, and how they are read. ``limits``
    are in the unit of the signal of the table."""

    keys: tuple[str, ...]
    fields: Mapping[str, str] = {}
    limits: tuple[str, ...] = ()
    readers: Mapping[str, Callable[[Any], Any]] = {}


_RULE: Final = _Kind(
    ("signal", "at_least", "clear_below", "hold", "clear", "severity", "subjects", "runbook"),
    {"hold": "hold_ms", "clear": "clear_ms"},
    ("at_least", "clear_below"),
    {"hold": duration, "clear": duration},
)
_SLO: Final = _Kind(
    ("signal", "objective", "low", "high", "each", "subjects", "at_least_readings"),
    {"objective": "objective_ppm"},
    ("low", "high"),
    {"objective": share},
)
_SCALER: Final = _Kind(
    (
        *("workers", "least", "most", "busy", "waiting_each", "tolerance", "up_window", "down_window", "up_steps"),
        *("down_steps", "predict", "horizon", "step", "season_steps"),
    ),
    {
        "busy": "busy_permille",
        "tolerance": "tolerance_permille",
        "up_window": "up_window_s",
        "down_window": "down_window_s",
        "horizon": "horizon_s",
        "step": "step_s",
    },
    (),
    {
        "busy": percentage,
        "tolerance": percentage,
        "up_window": seconds,
        "down_window": seconds,
        "horizon": seconds,
        "step": seconds,
        "up_steps": steps,
        "down_steps": steps,
    },
)
_INHIBITION: Final = _Kind(("source", "target", "equal"))
_GROUPING: Final = _Kind(
    ("wait", "interval", "repeat", "together"),
    {name: f"{name}_ms" for name in ("wait", "interval", "repeat", "together")},
    (),
    dict.fromkeys(("wait", "interval", "repeat", "together"), duration),
)


_HOURS: Final = ("gpu_slot", "cpu_slot", "remote_slot", "gpu_gib", "cpu", "memory_gib")
_COSTS: Final = _Kind(
    ("reference", *(f"{name}_hour" for name in _HOURS), "spot_discount", "spot_losses", "spot_lost"),
    {
        **{f"{name}_hour": f"{name}_hour_micros" for name in _HOURS},
        "spot_discount": "spot_discount_permille",
        "spot_losses": "spot_losses_permille",
        "spot_lost": "spot_lost_s",
    },
    (),
    {
        **dict.fromkeys((f"{name}_hour" for name in _HOURS), money),
        "spot_discount": percentage,
        "spot_losses": percentage,
        "spot_lost": seconds,
    },
)
_PRICE: Final = _Kind(
    ("budgets", "model", "team", "input", "output"),
    {"input": "input_micros", "output": "output_micros"},
    (),
    {"input": money, "output": money},
)


def policy_of(document: Mapping[str, Any], origin: str) -> Policy:
    """What a TOML document says; ``origin`` (the file's name) is for errors. Raises `BadRules`."""
    tables = ("rules", "slos", "inhibitions", "grouping", "scalers", "costs")
    unknown = sorted(document.keys() - set(tables))
    if unknown:
        raise BadRules(f"{origin}: unknown key {unknown[0]!r}; there are {', '.join(tables)}")
    rules, slos, grouping, scalers = (
        _tables(document, name, origin) for name in ("rules", "slos", "grouping", "scalers")
    )
    inhibitions = document.get("inhibitions", [])
    if not isinstance(inhibitions, list):
        raise BadRules(f"{origin}: inhibitions stand in tables [[inhibitions]]")
    policy = Policy(
        rules=tuple(_made(Rule, _RULE, rules[name], f"{origin}: [rules.{name}]", name) for name in rules),
        slos=tuple(_made(Slo, _SLO, slos[name], f"{origin}: [slos.{name}]", name) for name in slos),
        inhibitions=tuple(
            _made(Inhibition, _INHIBITION, table, f"{origin}: [[inhibitions]] number {number}")
            for number, table in enumerate(inhibitions, 1)
        ),
        scalers=tuple(_made(Scaler, _SCALER, scalers[name], f"{origin}: [scalers.{name}]", name) for name in scalers),
        grouping=_made(Grouping, _GROUPING, grouping, f"{origin}: [grouping]"),
        costs=_costs(document.get("costs", {}), origin),
    )
    fault = fault_of(policy)
    if fault is not None:
        raise BadRules(f"{origin}: {fault[1]}")
    return policy


def _costs(table: Any, origin: str) -> Costing:
    if not isinstance(table, dict):
        raise BadRules(f"{origin}: [costs]: must be a table")
    rest = {key: value for key, value in table.items() if key != "prices"}
    prices = _tables(table, "prices", f"{origin}: [costs]")
    made = [_made(Price, _PRICE, prices[name], f"{origin}: [costs.prices.{name}]", name) for name in prices]
    return _made(Costing, _COSTS, rest, f"{origin}: [costs]").model_copy(update={"prices": tuple(made)})


def _tables(document: Mapping[str, Any], name: str, origin: str) -> Mapping[str, Any]:
    tables = document.get(name, {})
    if not isinstance(tables, dict):
        raise BadRules(f"{origin}: {name} stand in tables [{name}.NAME]")
    return tables


def _made(kind: type[Made], how: _Kind, table: Any, where: str, name: str | None = None) -> Made:
    if not isinstance(table, dict):
        raise BadRules(f"{where}: must be a table")
    unknown = [key for key in table if key not in how.keys]
    if unknown:
        raise BadRules(f"{where}: unknown key {unknown[0]!r}; there are {', '.join(how.keys)}")
    fields: dict[str, Any] = {} if name is None else {"name": name}
    for key, value in table.items():
        try:
            fields[how.fields.get(key, key)] = _read(how, table, key, value)
        except ValueError as error:
            raise BadRules(f"{where}: {key} = {value!r} {error}") from None
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise BadRules(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _read(how: _Kind, table: Mapping[str, Any], key: str, value: Any) -> Any:
    if key in how.limits:
        return limit_of(str(table.get("signal", "")), value)
    reader = how.readers.get(key)
    return value if reader is None else reader(value)
