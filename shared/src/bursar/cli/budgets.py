"""``bursar budgets``: check a file of budgets, begin with an example, or import one from LiteLLM."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from bursar.cli.agent import fail
from bursar.cli.litellm import BadConfig, import_litellm
from bursar.cli.services import discover
from bursar.cli.tiers_of import example, providers, tiers_of

FileArgument = Annotated[Path, typer.Argument(dir_okay=False, help="The file to read.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="Write there instead; never over a file that is there.")]

budgets = typer.Typer(
    name="budgets",
    help="Budgets: check a file, begin with an example, import one.\n\n\b\nExamples:\n"
    "  bursar budgets example anthropic tier-4 > budgets.toml\n"
    "  bursar budgets import litellm config.yaml --out budgets.toml\n"
    "  bursar budgets check budgets.toml",
    no_args_is_help=True,
    rich_markup_mode=None,
)
imports = typer.Typer(name="import", no_args_is_help=True, rich_markup_mode=None)


@budgets.command("check")
def check(file: FileArgument) -> None:
    """Read a file of budgets as the limiter would; status 1 and the place if anything is wrong.

    \b
    Example:
      bursar budgets check budgets.toml
    """
    read, bad = _limiters_reader()
    try:
        found = read(file)
    except bad as error:
        fail(str(error))
    for budget in found:
        typer.echo(f"{budget.name}\t{', '.join(budget.limits) or 'no limits of its own'}")


@budgets.command("example")
def show_example(
    provider: Annotated[str, typer.Argument(help="A provider; without one they are listed.")] = "",
    tier: Annotated[str, typer.Argument(help="One of its usage tiers; without one they are listed.")] = "",
    out: OutOption = None,
) -> None:
    """Budgets for a provider's usage tier, as it was published on a day: check them against your console.

    \b
    Examples:
      bursar budgets example
      bursar budgets example anthropic
      bursar budgets example anthropic tier-4 --out budgets.toml
    """
    try:
        if provider and tier:
            _write(example(provider, tier), out)
            return
        for name in [provider] if provider else providers():
            typer.echo(f"{name}\t{', '.join(tiers_of(name)['tiers'])}\tread on {tiers_of(name)['read']}")
    except LookupError as error:
        fail(str(error.args[0]))


@imports.command("litellm")
def litellm(file: FileArgument, out: OutOption = None) -> None:
    """Budgets from a LiteLLM configuration: rpm, tpm and max_parallel_requests of its model_list.

    \b
    Deployments that share a provider's key and pool of models become one budget. Keys are never written down.

    \b
    Example:
      bursar budgets import litellm config.yaml --out budgets.toml
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{file}: cannot be read: {error}")
    try:
        _write(import_litellm(text, file.name), out)
    except BadConfig as error:
        fail(str(error))


def _write(text: str, out: Path | None) -> None:
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        fail(f"{out} is there already")
    except OSError as error:
        fail(f"{out}: {error.strerror}")
    typer.echo(f"written: {out}. Check it: bursar budgets check {out}")


def _limiters_reader() -> tuple[Callable[[Path], Any], type[Exception]]:
    """How the installed limiter reads its file, and what it raises."""
    package = next((service.package for service in discover() if service.name == "limiter"), None)
    if package is None:
        fail("the limiter is not installed here: only it knows what a budget may say")
    bad: type[Exception] = import_module(f"{package}.budgets").BadBudgets
    return import_module(f"{package}.settings").read_budgets, bad


def register(app: typer.Typer) -> None:
    app.add_typer(budgets)


budgets.add_typer(imports, short_help="Budgets from another system's configuration.")
