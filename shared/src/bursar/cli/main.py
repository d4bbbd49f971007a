"""The command ``bursar``: finds the sub command's module and imports only that.

A sub command lives in a module of this package with a function ``register(app)`` that adds it to a typer app; the
table below names the module. ``decode`` and ``encode`` run once per message in a pipe (``nats sub --translate``), so
they are started before typer, pydantic or nats are imported.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as in typing, which takes a fifth of the time that `decode` may take to start
if TYPE_CHECKING:
    from collections.abc import Iterable

    import typer

FILTERS = ("decode", "encode")
MODULES = {
    "up": "bursar.cli.up",
    "demo": "bursar.cli.demo",
    "agent": "bursar.cli.agent",
    "worker": "bursar.cli.worker",
    "budgets": "bursar.cli.budgets",
    "journal": "bursar.cli.journal",
    "trust": "bursar.cli.trust",
    "tls": "bursar.cli.tls",
    "rights": "bursar.cli.rights",
    "callout": "bursar.cli.callout",
    "deploy": "bursar.cli.deploy",
    "contracts": "bursar.cli.contracts",
    "decode": "bursar.cli.decode",
    "encode": "bursar.cli.decode",
    "top": "bursar.cli.top",
    "why": "bursar.cli.why",
    "cost": "bursar.cli.cost",
    "advise": "bursar.cli.cost",
    "host": "bursar.cli.host",
    "logs": "bursar.cli.logs",
    "doctor": "bursar.cli.doctor",
    "backup": "bursar.cli.backup",
    "restore": "bursar.cli.backup",
    "audit": "bursar.cli.audit",
    "bench": "bursar.cli.bench",
}
"""Sub command -> module, in the order of the help page. One that is not installed does not exist."""

HELP = """Bursar hands out what runs out: rate limits, money, GPUs, workers, to fleets of AI agents.

\b
Start here:
  bursar demo                     see a fleet under Bursar, beside one without
  bursar up                       run everything on this machine
  bursar agent add alice          credentials for an agent (no restart needed)

\b
Look inside (with the nats command line tool, https://github.com/nats-io/natscli):
  nats --context bursar req bursar.req.limiter.status.ops '{"v":1}'
  nats --context bursar sub 'bursar.evt.>' --translate 'bursar decode'
  nats --context bursar micro ls

Each command has its own page: bursar up --help
"""


def main() -> None:
    """Entry point of the console script."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] in FILTERS:
        from bursar.cli.decode import run_filter

        raise SystemExit(run_filter(arguments))
    try:
        command = build(_needed(arguments))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "bursar":
            raise
        sys.stderr.write(
            f"bursar: {error.name} is not installed; the command line needs: pip install 'bursar[server]'\n"
        )
        raise SystemExit(1) from None
    command(prog_name="bursar")


def build(modules: Iterable[str]) -> typer.Typer:
    """The command line with the sub commands of these modules."""
    from importlib import import_module

    import typer

    app = typer.Typer(
        name="bursar",
        help=HELP,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_nothing)
    for module in modules:
        import_module(module).register(app)
    return app


def available() -> list[str]:
    """The modules of all installed sub commands, each once, in the order of the help page."""
    from importlib.util import find_spec

    return [name for name in dict.fromkeys(MODULES.values()) if find_spec(name) is not None]


def _needed(arguments: list[str]) -> list[str]:
    """Only the module that is asked for; all of them for the help page or an unknown word."""
    module = MODULES.get(arguments[0], "") if arguments else ""
    return [module] if module in available() else available()


def _nothing() -> None:
    """Keeps ``bursar <command>`` two words even when only one command is loaded."""


if __name__ == "__main__":
    main()
