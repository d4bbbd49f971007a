"""``bursar contracts``: the wire, published: an AsyncAPI 3.0 document, and a JSON Schema for each message."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bursar.cli.agent import fail
from bursar.contracts.publish import documents

DirectoryArgument = Annotated[Path, typer.Argument(file_okay=False, help="Where the documents are, or go.")]


def contracts(
    directory: DirectoryArgument,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; status 1 if anything differs.")] = False,
) -> None:
    """Write asyncapi.yaml and schemas/<service>.<Message>.json, as this version of Bursar speaks.

    \b
    For agents in other languages: generate types from the schemas, or read the document.

    \b
    Examples:
      bursar contracts docs
      bursar contracts docs --check
    """
    differing = stale(directory)
    if not check:
        write(directory)
        typer.echo(f"{len(documents())} documents in {directory}, {len(differing)} of them changed")
    elif differing:
        fail(f"not what the contracts say: {', '.join(differing)}. Write them again: bursar contracts {directory}")


def register(app: typer.Typer) -> None:
    app.command("contracts", short_help="AsyncAPI document and JSON Schemas of all messages.")(contracts)


def stale(directory: Path) -> list[str]:
    """The documents below ``directory`` that are missing, differ from the contracts, or belong to no contract."""
    wanted = documents()
    differing = [path for path, text in wanted.items() if _text_at(directory / path) != text]
    return differing + [path for path in _written(directory) if path not in wanted]


def write(directory: Path) -> None:
    """Write all documents, and remove schemas that an earlier version has written and this one does not know."""
    wanted = documents()
    (directory / "schemas").mkdir(parents=True, exist_ok=True)
    for path in _written(directory):
        if path not in wanted:
            (directory / path).unlink()
    for path, text in wanted.items():
        (directory / path).write_text(text, encoding="utf-8")


def _text_at(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _written(directory: Path) -> list[str]:
    """The schemas there are that were written from contracts."""
    found = sorted((directory / "schemas").glob("*.json"))
    return [f"schemas/{path.name}" for path in found if '"$id": "urn:bursar:' in path.read_text(encoding="utf-8")]
