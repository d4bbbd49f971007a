"""What a task would use, for the rights of who submits it: its model, and a GPU.

The scheduler does not hand out GPUs; a task that needs one runs where a worker has it. So who may use only some GPUs
has to name the host of one (``needs.host``): a task that could run anywhere needs the right to all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bursar.contracts.scheduler import Needs, Post, Submit, Task
from bursar.contracts.scheduler_graph import Graph
from bursar.kernel.rights import Use, Uses


def of_task(task: Task) -> Iterator[Use]:
    yield from _of_needs(task.needs)
    if task.hints is not None and task.hints.model is not None:
        yield "models", task.hints.model


def _of_needs(needs: Needs) -> Iterator[Use]:
    if needs.model is not None:
        yield "models", needs.model
    if needs.kind == "gpu" or needs.gpu_memory_mib or needs.gpu_model:
        yield "gpus", needs.host or ""
    for budget in needs.tokens:
        yield "budgets", budget


def _of_graph(graph: Graph) -> Iterator[Use]:
    yield from of_task(graph.template)
    for item in graph.items:
        if item.needs is not None:
            yield from _of_needs(item.needs)


USES: Final[Uses] = {Submit: of_task, Post: of_task, Graph: _of_graph}
