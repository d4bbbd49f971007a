"""From what was written down to what the services did: recoveries, the circuit, tasks, cards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from bursar.demo.notes import under_way
from bursar.demo.result import WORKER, Gpu, Happening, Recovery, Tasks
from bursar.demo.run import Recording

_WORDS = {"outage": "provider down", "overload": "overloaded"}


def happenings(recording: Recording) -> list[Happening]:
    """What was done to the fleet, in order."""
    found = [
        Happening("overload" if kind == "overload" else "outage", start, stop - start, _WORDS[kind])
        for kind, start, stop in recording.bad_times
    ]
    found += [Happening("kill", kill.at, 0.0, f"kill {kill.service}") for kill in recording.kills]
    if recording.worker_killed_at:
        found.append(Happening("kill", recording.worker_killed_at, 0.0, "kill worker"))
    if recording.card_lost_at:
        found.append(Happening("card", recording.card_lost_at, 0.0, "GPU lost"))
    return sorted(found, key=lambda happening: happening.at)


def recoveries(recording: Recording) -> list[Recovery]:
    """How soon each kill was made up for."""
    begin = recording.begin
    found = [
        Recovery(kill.service, kill.at, first_answer(recording.probe["probed"][kill.service], begin + kill.at))
        for kill in recording.kills
    ]
    if recording.worker_killed_at:
        took = taken_over(recording.notes, recording.victim, begin + recording.worker_killed_at)
        found.append(Recovery(WORKER, recording.worker_killed_at, took))
    return sorted(found, key=lambda recovery: recovery.at)


def first_answer(probed: Sequence[Sequence[float]], killed_at: float) -> float:
    """Seconds from the kill to the first answer to a probe that was sent after it; infinite when there was none."""
    answers = [sent + answered for sent, answered in probed if sent > killed_at and answered >= 0]
    return min(answers, default=float("inf")) - killed_at


def taken_over(notes: dict[str, list[dict[str, Any]]], victim: str, killed_at: float) -> float:
    """Seconds from the kill of a worker until all that it was working on has been begun by others; 0 when it was
    working on nothing."""
    again = dict.fromkeys(under_way(notes[victim]), float("inf"))
    for worker, lines in notes.items():
        for line in lines if worker != victim else ():
            if line["what"] == "start" and line["task"] in again and line["at"] > killed_at:
                again[line["task"]] = min(again[line["task"]], line["at"])
    return max(again.values(), default=killed_at) - killed_at


def circuit(recording: Recording) -> list[tuple[float, float, str]]:
    """(from, to, state) of the provider's circuit, as the first of the workers saw it, when it was not closed."""
    states = [(line["at"] - recording.begin, line["state"]) for line in _circuit_notes(recording)["remote-0"]]
    ends = [*(at for at, _ in states[1:]), recording.elapsed]
    return [(at, end, state) for (at, state), end in zip(states, ends, strict=False) if state != "closed"]


def trips_ms(recording: Recording) -> list[float]:
    """Of each bad time and each process that calls: from the first failed call of anybody to its knowing that the
    circuit is open."""
    failed = sorted(
        line["at"] for name, lines in recording.notes.items() if name.startswith("remote")
        for line in lines if line["what"] == "failed"
    )  # fmt: skip
    found: list[float] = []
    for _, start, stop in recording.bad_times:
        first = _first(failed, recording.begin + start, recording.begin + stop)
        for lines in _circuit_notes(recording).values():
            opened = _first(
                (line["at"] for line in lines if line["state"] == "open"),
                recording.begin + start, recording.begin + stop + 2.0,
            )  # fmt: skip
            if first is not None:
                found.append(float("inf") if opened is None else max(0.0, opened - first) * 1000)
    return found


def _circuit_notes(recording: Recording) -> dict[str, list[dict[str, Any]]]:
    return {
        name: [line for line in lines if line["what"] == "circuit"]
        for name, lines in recording.notes.items()
        if name.startswith("remote")
    }


def _first(times: Iterable[float], after: float, before: float) -> float | None:
    return min((at for at in times if after <= at < before), default=None)


def tasks(recording: Recording) -> Tasks:
    """What became of the tasks, as agents and workers noted it, against the scheduler's own counts."""
    found = recording.arms["managed"]
    submitted = sum(len(process["submits"]) for process in found)
    heard = {outcome[0]: outcome[3] for process in found for outcome in process["outcomes"]}
    done = sum(how == "done" for how in heard.values())
    unheard = max(0, submitted - len(heard))  # of a run that was cut off: they may have ended after the agents
    twice = {task for process in found for task in process["ended_twice"]}
    starts = Counter(line["task"] for lines in recording.notes.values() for line in lines if line["what"] == "start")
    retried = sum(count - 1 for count in starts.values())
    beyond = max(0, recording.probe["scheduler"].get("done", done) - done - unheard)
    return Tasks(submitted, done, len(twice) + beyond, retried)


def gpu(recording: Recording) -> Gpu:
    """The drivers' counts."""
    sums = {
        arm: Counter[str]({key: sum(host[key] for host in hosts.values())
                           for key in ("violations", "out_of_memory", "allocations")})
        for arm, hosts in recording.cards.items()
    }  # fmt: skip
    ours, theirs = sums["managed"], sums["unmanaged"]
    return Gpu(
        ours["violations"] + ours["out_of_memory"], ours["allocations"], theirs["out_of_memory"], theirs["allocations"]
    )
