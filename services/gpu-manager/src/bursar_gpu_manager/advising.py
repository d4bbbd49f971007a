"""Advice as it is asked for, and changes that workers try.

`Advise` and `Startup` only compute (`batching`, `replicas`, `hybrid`, `startup`). `Tune` is a worker's curve with what
it runs with now: a better batch, or, where setups were measured, a better number of replicas, is recommended to it,
durably and on a subject that everybody may read; `rollout` says what follows. A smaller batch is recommended although
it costs throughput, because the memory that it frees is worth more elsewhere: what it may cost is what the curve says,
with five percent to spare. A larger number of engines has to bring five percent; where nothing was measured with two
yet, a second one is worth a trial if it is expected to keep the bound and a card of the worker has room for it.
"""

from __future__ import annotations

from typing import Any, Final

from bursar.contracts import gpu_advice as advice
from bursar.errors import CallerError
from bursar.kernel.decider import Accept, Broadcast, Command, Event, Fence, Outcome, Refuse, Reject
from bursar_gpu_manager import events
from bursar_gpu_manager.asked_model import asked_model
from bursar_gpu_manager.batching import REFERENCE, Run, best_batch, exact, fitted, of_hardware
from bursar_gpu_manager.batching import Curve as Line
from bursar_gpu_manager.contention import window_of_engine
from bursar_gpu_manager.correcting import expect
from bursar_gpu_manager.estimates import estimate
from bursar_gpu_manager.fitting import is_usable, room_of
from bursar_gpu_manager.holding import not_held
from bursar_gpu_manager.hybrid import Dispatch, Half, Layer, dispatch, threshold
from bursar_gpu_manager.replicas import WORTH, Setup, SetupAdvice, best_setup, worth_trying
from bursar_gpu_manager.rollout import Kind, Measured, Recommendation, Told, Windowed
from bursar_gpu_manager.startup import Granted, candle_vllm, numactl, vllm
from bursar_gpu_manager.state import State

KIND: Final = "advice"
"""Kind of the broadcast; its name is the worker."""
MAX_OPEN: Final = 1_024
SPARE: Final = 0.05


class Lapse:
    """Internal: a change's time is over."""


# ---- questions


def decide_startup(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: advice.Startup = command.body
    lease = state.leases.get(body.lease)
    refusal = not_held(state, command, lease, body.lease, body.fence)
    if refusal is not None:
        return refusal
    assert lease is not None
    devices = [state.devices[name] for name, _ in lease.devices if name in state.devices]
    views = [state.view(device) for device in devices]
    seen = [view for view in views if view is not None]
    reports = [view.report for view in seen]
    if not devices or (len(reports) < len(devices) and body.visible is None):
        return Reject("conflict", "The cards of this lease are not seen now.", {"lease": body.lease})
    visible = body.visible or min(view.visible for view in seen)
    numa = [-1 if report.numa_node is None else report.numa_node for report in reports]
    named = [device.uuid if view is not None and view.report.parent else device.index
             for device, view in zip(devices, views, strict=True)]  # fmt: skip
    granted = Granted(lease.devices[0][1], visible, named, numa)
    load = body.load
    try:
        shape, engine = asked_model(load, swap_space=body.swap_space_fraction)
        start = vllm if body.engine == "vllm" else candle_vllm
        found = start(load.model, shape, engine, granted, load.context, body.host_memory)
    except CallerError as error:
        return Reject(error.code, error.text, dict(error.facts))
    expect(state, body.lease, load, engine.form, estimate(shape, engine), found.tokens)
    told = {"arguments": list(found.arguments), "environment": found.environment, "tokens": found.tokens}
    return Refuse({"ok": True, "lease": body.lease, "prefix": list(numactl(granted)), **told})


def decide_advise(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: advice.Advise = command.body
    runs = _runs(body.curve)
    try:
        foretold = _foretold(runs, body)
    except CallerError as error:
        return Reject(error.code, error.text, dict(error.facts))
    best = best_batch([*runs, *foretold], body.curve.epsilon / 1_000, body.curve.bound / 1_000)
    setups = _best_setup(body.curve)
    layer = body.layer
    ratio = 0.0 if layer is None or not layer.linear_ns else layer.attention_ns / layer.linear_ns
    return Refuse(
        {
            "ok": True,
            "batch": best.batch,
            "why": best.reason,
            "efficiency": _thousandths(best.efficiency),
            "slowdown": _thousandths(best.slowdown),
            "throughput_part": _thousandths(best.throughput_part),
            "kv_part": _thousandths(best.kv_part),
            "foretold": [_told_run(run) for run in foretold],
            "setup": None if setups is None or setups.setup is None else _told_setup(setups.setup),
            "gain": None if setups is None or setups.setup is None else _thousandths(setups.gain),
            "breaking": [] if setups is None else [_told_setup(setup) for setup in setups.over],
            "dispatch": None if layer is None else _dispatch(layer),
            "threshold": None if ratio <= 0 else _thousandths(threshold(ratio)),
        }
    )


def _foretold(runs: list[Run], body: advice.Advise) -> list[Run]:
    """Of batches that nobody measured; where smaller ones were preempted already, larger ones would be as well. Raises
    `CallerError` as `asked_model`."""
    curve, holds, batches = fitted(runs), None, dict.fromkeys(body.fill)
    if body.modelled is not None:
        curve, holds = _modelled(body.modelled)
        batches = dict.fromkeys((1, REFERENCE)) | batches
    if curve is None:
        return []
    measured = {run.batch for run in runs}
    full = min((run.batch for run in runs if run.preemptions), default=None)
    found = curve.runs([batch for batch in batches if batch not in measured], holds)
    return [run if full is None or run.batch < full else run._replace(preemptions=1) for run in found]


def _modelled(told: advice.Modelled) -> tuple[Line, int | None]:
    """Its curve, and how many sequences have room."""
    shape, engine = asked_model(told.load)
    need, context = estimate(shape, engine), told.load.context
    curve = of_hardware(
        need.weights,
        need.kv_per_token,
        context,
        told.bandwidth // 1_000,
        told.step_us / 1_000,
        told.sequence_us / 1_000,
    )
    return curve, None if told.memory is None else need.tokens_within(told.memory) // context


def _dispatch(told: advice.GpuLayer) -> Dispatch:
    layer = Layer(told.linear_ns, told.attention_ns, told.gpu_rate, told.cpu_rate)
    halves = [
        Half(
            half.linear_us / 1_000,
            half.prefill_us / 1_000,
            half.gpu_decode_us / 1_000,
            half.cpu_decode_us / 1_000,
            half.sequences,
        )
        for half in told.halves
    ]
    return dispatch(layer, told.waiting, bool(halves), halves, (told.alone_sequences, told.alone_us / 1_000))


def _runs(curve: advice.Curve) -> list[Run]:
    return [
        Run(run.batch, run.throughput / 1_000, run.itl_us / 1_000, run.preemptions, run.kv / 1_000)
        for run in curve.runs
    ]


def _best_setup(curve: advice.Curve) -> SetupAdvice | None:
    """None without a reference, or without one engine to compare with: of the setups, or else of the curve."""
    reference = next((run.itl_us for run in curve.runs if run.batch == REFERENCE and not run.preemptions), 0)
    alone = [one.throughput for one in curve.setups if one.replicas == 1 and not one.preemptions]
    alone = alone or [run.throughput for run in curve.runs if not run.preemptions]
    if not reference or not curve.setups or not max(alone, default=0):
        return None
    setups = [
        Setup(one.batch, one.replicas, one.throughput / 1_000, one.itl_us / 1_000, one.preemptions)
        for one in curve.setups
    ]
    return best_setup(setups, reference / 1_000, curve.bound / 1_000, max(alone) / 1_000)


def _thousandths(part: float) -> int:
    return round(min(part, 10**9) * 1_000)


def _told_run(run: Run) -> dict[str, int]:
    rates = {"throughput": _thousandths(run.throughput), "itl_us": _thousandths(run.itl)}
    return {"batch": run.batch, **rates, "preemptions": run.preemptions, "kv": _thousandths(run.kv)}


def _told_setup(setup: Setup) -> dict[str, int]:
    rates = {"throughput": _thousandths(setup.throughput), "itl_us": _thousandths(setup.itl)}
    return {"batch": setup.batch, "replicas": setup.replicas, **rates, "preemptions": setup.preemptions}


# ---- changes


def decide_tune(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: advice.Tune = command.body
    _tell_load(state, body, command.principal)
    better = _better(body, command.principal) or _second(state, body, command.principal, now)
    told = [] if better is None else state.rollouts.recommend(better, now)
    if not told:
        return Refuse(_where(state, command.principal, now))
    if len(state.rollouts.open) >= MAX_OPEN:
        return Reject("too_many", "So many changes are open already.", {"count": len(state.rollouts.open)})
    return _accept(state, told, now)


def _tell_load(state: State, body: advice.Tune, worker: str) -> None:
    """What its curve says of the cards that it leases: what a sequence more brings, and how slow a token has become."""
    runs = {run.batch: run for run in body.curve.runs if run.throughput and run.itl_us}
    one, reference, present = runs.get(1), runs.get(REFERENCE), runs.get(body.batch)
    if one is None or reference is None or present is None:
        return
    efficiency = 100 * present.throughput // (body.batch * one.throughput)
    window = window_of_engine(efficiency, 100 * present.itl_us // reference.itl_us)
    for key, lease in state.leases.items():
        if lease.principal == worker:
            for name, _ in lease.devices:
                state.sheet.tell_engine(name, key, window)


def _better(body: advice.Tune, worker: str) -> Recommendation | None:
    """A step towards the best setup that was measured, or the batch that the curve advises; None when all is well. A
    curve is of one engine: where setups were measured it advises nothing against them."""
    runs = {run.batch: run for run in _runs(body.curve)}
    reference = runs.get(REFERENCE)
    if reference is None:
        return None
    limit = _limit(reference, body.curve)
    setups = _best_setup(body.curve)
    if setups is not None and setups.setup is not None:
        return _towards(body, worker, setups.setup, limit)
    best = best_batch(runs.values(), body.curve.epsilon / 1_000, body.curve.bound / 1_000)
    present = runs.get(body.batch)
    if best.batch is None or present is None or present.throughput <= 0 or best.batch == body.batch:
        return None
    expected = runs[best.batch].throughput / present.throughput * (1 - SPARE)
    because = f"{best.batch} is the largest batch within the bounds"
    return Recommendation(worker, "batch", body.batch, best.batch, int(1_000 * expected), limit, because)


def _limit(reference: Run, curve: advice.Curve) -> int:
    """Of the time between tokens, in microseconds."""
    return int(exact(reference.itl) * curve.bound)


def _second(state: State, body: advice.Tune, worker: str, now: int) -> Recommendation | None:
    """A second engine beside one whose batch is right, on a card of the worker that has room for it."""
    runs = {run.batch: run for run in _runs(body.curve)}
    reference, present, bound = runs.get(REFERENCE), runs.get(body.batch), body.curve.bound / 1_000
    if body.another is None or body.replicas != 1 or body.curve.setups or reference is None or present is None:
        return None
    if not worth_trying(present, reference.itl, bound) or not _has_room(state, worker, body.another, now):
        return None
    because = "a second engine has room, and is expected to keep the bound"
    return Recommendation(worker, "replicas", 1, 2, int(1_000 * (1 + WORTH)), _limit(reference, body.curve), because)


def _has_room(state: State, worker: str, memory: int, now: int) -> bool:
    names = dict.fromkeys(name for one in state.leases.values() if one.principal == worker for name, _ in one.devices)
    cards = [state.devices[name] for name in names if name in state.devices]
    return any(is_usable(state, card, now) and (room_of(state, card) or 0) >= memory for card in cards)


def _towards(body: advice.Tune, worker: str, aim: Setup, limit: int) -> Recommendation | None:
    """The batch first, since what it frees is for the replicas; but only over what was measured and keeps the bound."""
    setups = {(one.batch, one.replicas): one for one in body.curve.setups}
    present = setups.get((body.batch, body.replicas))
    steps: list[tuple[Kind, int, int, tuple[int, int]]] = [
        ("batch", body.batch, aim.batch, (aim.batch, body.replicas)),
        ("replicas", body.replicas, aim.replicas, (body.batch, aim.replicas)),
    ]
    for kind, now, then, to in steps:
        there = setups.get(to)
        if now == then or there is None or there.preemptions or there.itl_us > limit:
            continue
        promised = 1 + WORTH if kind == "replicas" and then > now else None
        if present is not None and present.throughput:
            ratio = there.throughput / present.throughput * (1 - SPARE)
            promised = ratio if promised is None else min(promised, ratio)
        if promised is not None:
            because = f"{aim.replicas} at batch {aim.batch} bring most within the bound"
            return Recommendation(worker, kind, now, then, int(1_000 * promised), limit, because)
    return None


def decide_tune_step(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    step, worker = command.body.step, command.principal
    try:
        if step == "applied":
            return _accept(state, [state.rollouts.applied(worker, now)], now)
        return _accept(state, [state.rollouts.answer(worker, step == "agreed", now)], now)
    except CallerError as error:
        return Reject(error.code, error.text, dict(error.facts))


def decide_tune_window(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: advice.TuneWindow = command.body
    window = Measured(body.throughput, body.itl_us, body.preemptions)
    try:
        return _accept(state, state.rollouts.measured(command.principal, window, now), now)
    except CallerError as error:
        return Reject(error.code, error.text, dict(error.facts))


def next_lapse(state: State, now: int) -> Command | None:
    return Command("", "", Lapse()) if state.rollouts.lapse(now) else None


def decide_lapse(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    lapsed = state.rollouts.lapse(now)
    return _accept(state, lapsed, now) if lapsed else Refuse({})


def _accept(state: State, happened: list[Told] | list[Told | Windowed], now: int) -> Accept:
    """The events, an answer that says where the change is after them, and a word to everybody for each step."""
    told = [_broadcast(state, event) for event in happened if isinstance(event, Told)]
    last = happened[-1]
    current = state.rollouts.open.get(last.worker)
    what = last.first if isinstance(last, Told) and last.first else current.what if current else None
    step: str | None = last.step if isinstance(last, Told) else current.step if current else None
    until = last.until if isinstance(last, Told) else current.until if current else 0
    return Accept([_event(event, now) for event in happened], _reply(what, step, until, now), told)


def _where(state: State, worker: str, now: int) -> dict[str, Any]:
    current = state.rollouts.open.get(worker)
    return _reply(None, None, 0, now) if current is None else _reply(current.what, current.step, current.until, now)


def _reply(what: Recommendation | None, step: str | None, until: int, now: int) -> dict[str, Any]:
    told = None if what is None else what._asdict()
    return {"ok": True, "step": step, "recommendation": told, "ends_in_ms": max(0, until - now) if until else None}


def _broadcast(state: State, event: Told) -> Broadcast:
    what = event.first or state.rollouts.open[event.worker].what
    return Broadcast(KIND, event.worker, {"step": event.step, "recommendation": what._asdict()})


# ---- events


def _event(event: Told | Windowed, now: int) -> Event:
    if isinstance(event, Windowed):
        return (events.MEASURED, now, event.worker, *event.window)
    return (events.ADVISED, now, event.worker, event.step, event.until, None if event.first is None else [*event.first])


def apply_advised(state: State, event: Event) -> None:
    _, now, worker, step, until, first = event
    state.at = now
    state.rollouts.apply(Told(worker, step, now, until, None if first is None else Recommendation(*first)))


def apply_measured(state: State, event: Event) -> None:
    _, now, worker, *window = event
    state.at = now
    state.rollouts.apply(Windowed(worker, Measured(*window)))
