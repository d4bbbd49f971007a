"""How many requests a worker should let run at a time, from the times that its steps take on the CPU and the GPU.

One `Throttle` for each worker, in memory only: a worker that hears nothing goes on as it does, and after a take-over it
begins with all of them again.
"""

from __future__ import annotations

from typing import Final

from bursar.contracts import gpu_advice as advice
from bursar.kernel.decider import Command, Fence, Outcome, Refuse
from bursar_gpu_manager.state import State
from bursar_gpu_manager.throttling import Throttle, Window

MOST: Final = 4_096
"""Workers that are remembered; the one that asked longest ago is forgotten first."""


def decide_pace(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: advice.Pace = command.body
    known = state.throttles.pop(command.principal, None)
    throttle = Throttle(body.most) if known is None or known.most != body.most else known
    state.throttles[command.principal] = throttle
    if len(state.throttles) > MOST:
        del state.throttles[next(iter(state.throttles))]
    limit = throttle.see(Window(body.cpu_us, body.gpu_us, body.steps))
    return Refuse({"ok": True, "limit": limit, "throttled": throttle.is_throttled})
