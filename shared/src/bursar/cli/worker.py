"""``bursar worker``: run a worker that a module defines, or one that calls a server with OpenAI's chat completions."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bursar.cli.agent import fail

if TYPE_CHECKING:
    from bursar.client.fleet import Fleet
    from bursar.client.worker import Worker

workers = typer.Typer(
    name="worker",
    help="Workers: they take tasks from the scheduler and run a function for each.\n\n\b\nExamples:\n"
    "  bursar agent add summariser --role worker\n"
    "  bursar worker run my_module:worker --name summariser\n"
    "  bursar worker openai --name llama --url http://127.0.0.1:8000 --model llama-3.1-8b",
    no_args_is_help=True,
    rich_markup_mode=None,
)

NameOption = Annotated[
    str, typer.Option("--name", help="Which credentials of the home; each process needs its own. Or set BURSAR_CREDS.")
]
HomeOption = Annotated[str, typer.Option("--home", help="Where `bursar up` keeps its state (or set BURSAR_HOME).")]
CredsOption = Annotated[str, typer.Option("--creds", help="The credentials file, where there is no home.")]
NatsOption = Annotated[str, typer.Option("--nats", help="Address of the NATS server (or set BURSAR_URL).")]
ReclaimOption = Annotated[
    str,
    typer.Option(
        "--reclaim-file", help="End when this file appears: the host is taken away in as many seconds as it says."
    ),
]


@workers.command("run")
def run(
    what: Annotated[
        str, typer.Argument(metavar="MODULE:WORKER", help="A Worker, or a function of a fleet that makes one.")
    ],
    name: NameOption = "",
    home: HomeOption = "",
    creds: CredsOption = "",
    nats: NatsOption = "",
    reclaim_file: ReclaimOption = "",
) -> None:
    """Run a worker that a Python module defines, until SIGTERM or Ctrl-C.

    \b
    my_module.py:
      import bursar
      worker = bursar.Worker(slots=4)           # or slots=bursar.SlotRule(): as many as the host can do with
      @worker.task("summarise")
      async def summarise(task):                # async def, def (in a thread), or run="process"
          return {"words": len(task.payload["text"].split())}
      @worker.batch("embed", like="model")      # up to 10 tasks, or what has come in 0.1 s
      async def embed(tasks):
          return [len(task.payload) for task in tasks]

    \b
    What runs when it ends may finish for the worker's grace (30 s); the rest is handed back and goes on elsewhere.

    \b
    Examples:
      bursar worker run my_module:worker --name summariser
      bursar worker run my_package.workers:make --creds /etc/bursar/w1.creds --nats nats://10.0.0.5:4222
      bursar worker run my_module:worker --name spot-1 --reclaim-file /run/spot-notice
    """
    found = _load(what)

    async def make(fleet: Fleet) -> Worker:
        return _worker_of(what, found, fleet)

    _run(make, name, home, creds, nats, reclaim_file)


@workers.command("openai")
def openai(
    url: Annotated[str, typer.Option("--url", help="Address of the server, with or without /v1.")],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="A model that tasks may ask for; again for more. Else the server's."),
    ] = None,
    budget: Annotated[str, typer.Option("--budget", help="The limiter's budget for the calls.")] = "",
    circuit: Annotated[str, typer.Option("--circuit", help="The breaker's circuit for the server.")] = "",
    api_key_env: Annotated[
        str, typer.Option("--api-key-env", help="The variable that holds the key; never the key itself.")
    ] = "",
    task_class: Annotated[str, typer.Option("--class", help="The class of the tasks.")] = "chat",
    kind: Annotated[str, typer.Option(help="gpu for a server on this machine, remote for a provider.")] = "remote",
    slots: Annotated[int, typer.Option(help="Calls at a time.", min=1, max=256)] = 8,
    stream: Annotated[bool, typer.Option(help="Ask for streamed answers: each chunk is progress.")] = True,
    name: NameOption = "",
    home: HomeOption = "",
    creds: CredsOption = "",
    nats: NatsOption = "",
    reclaim_file: ReclaimOption = "",
) -> None:
    """Run a worker that has its tasks done by a server which speaks OpenAI's chat completions.

    \b
    vLLM, candle-vllm, Ollama, llama.cpp's server, and providers. The payload of a task is a prompt, or a map as for
    /chat/completions; its result has the text, the reason of the end and the token usage. Without a budget the limiter
    is not asked, without a circuit the breaker is not.

    \b
    Examples:
      bursar worker openai --name llama --url http://127.0.0.1:8000 --kind gpu --circuit local/vllm
      bursar worker openai --name ollama --url http://127.0.0.1:11434 --model llama3:8b --slots 2
      bursar worker openai --name gpt --url https://api.openai.com/v1 --model gpt-4.1-mini \\
          --budget openai/gpt --circuit openai --api-key-env OPENAI_API_KEY
    """
    key = os.environ.get(api_key_env, "") if api_key_env else ""
    if api_key_env and not key:
        fail(f"the variable {api_key_env} is not set")

    async def make(fleet: Fleet) -> Worker:
        from bursar.client.worker_chat import ServerError
        from bursar.client.worker_openai import models_at, openai_worker

        try:
            models = model or await models_at(url, key)
        except ServerError as error:
            fail(f"{error}: say which models it serves with --model")
        return openai_worker(
            fleet, url, models, task_class=task_class, budget=budget, circuit=circuit, api_key=key, stream=stream,
            kind=kind, slots=slots,
        )  # fmt: skip

    _run(make, name, home, creds, nats, reclaim_file)


def _run(
    make: Callable[[Fleet], Awaitable[Worker]], name: str, home: str, creds: str, nats: str, reclaim_file: str
) -> None:
    from bursar.client.fleet import connect
    from bursar.client.worker_end import file_notice
    from bursar.errors import BursarError

    async def work() -> None:
        async with connect(nats or None, creds=creds or None, home=home or None, name=name or None) as fleet:
            worker = await make(fleet)
            if reclaim_file:
                worker.reclaim_notice = file_notice(Path(reclaim_file))
            async with _said_when_registered(worker, fleet):
                await worker.run(fleet)

    try:
        asyncio.run(work())
    except BursarError as error:
        fail(f"{error.text}. {error.advice}")


@contextlib.asynccontextmanager
async def _said_when_registered(worker: Worker, fleet: Fleet) -> AsyncIterator[None]:
    async def say() -> None:
        while not worker.is_registered:  # noqa: ASYNC110 - there is no event before it runs, and it is soon
            await asyncio.sleep(0.02)
        typer.echo(f"{fleet.principal} takes {', '.join(sorted(worker.runs))} ({worker.slots} at a time)")
        from bursar.client.took import SPAWN_TOLD

        if not os.environ.get(SPAWN_TOLD):
            fleet.ready()

    saying = asyncio.create_task(say())
    try:
        yield
    finally:
        saying.cancel()


def _load(what: str) -> Any:
    """What stands at ``module:name``, found as Python finds modules, in the working directory first."""
    module, _, name = what.partition(":")
    if not module or not name:
        fail(f"{what!r}: say which worker of which module, as in my_module:worker")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        fail(f"there is no module {error.name!r} here")
    for part in name.split("."):
        if not hasattr(found, part):
            fail(f"the module {module!r} has no {name!r}")
        found = getattr(found, part)
    return found


def _worker_of(what: str, found: Any, fleet: Fleet) -> Worker:
    from bursar.client.worker import Worker

    made = found if isinstance(found, Worker) or not callable(found) else found(fleet)
    if not isinstance(made, Worker):
        fail(f"{what} is no bursar.Worker, and no function of a fleet that returns one")
    return made


def register(app: typer.Typer) -> None:
    app.add_typer(workers)
