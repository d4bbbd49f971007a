"""A source file as the rules see it: its place, its module name, its syntax tree, and what it imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]

_SOURCE_ROOTS = ("shared/src/", "services/*/src/")


class Import(NamedTuple):
    """One imported name: ``from a.b import c`` is (module "a.b", name "c"), ``import a.b`` is ("a.b", "")."""

    module: str
    name: str
    line: int

    @property
    def target(self) -> str:
        return f"{self.module}.{self.name}" if self.name else self.module

    def is_below(self, package: str) -> bool:
        """Does this import the package, or anything in it?"""
        return self.target == package or self.target.startswith(f"{package}.")


class Source:
    """One file. ``path`` is relative to the repository; the text may be made up by a test."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def module(self) -> str:
        """The dotted name under which Python imports this file."""
        parts = Path(self.path).with_suffix("").parts
        parts = parts[parts.index("src") + 1 :] if "src" in parts else parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @cached_property
    def imports(self) -> list[Import]:
        """All imports, those inside functions and under TYPE_CHECKING included."""
        return list(self._imports())

    def _imports(self) -> Iterator[Import]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (Import(alias.name, "", node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                module = self._absolute(node)
                yield from (Import(module, alias.name, node.lineno) for alias in node.names)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        here = self.module.split(".")
        up = node.level - (1 if self.path.endswith("__init__.py") else 0)
        base = here[: len(here) - up] if up else here
        return ".".join([*base, *([node.module] if node.module else [])])


def read(*roots: str) -> list[Source]:
    """All Python files below these folders of the repository (globs are fine), in order."""
    folders = [folder for root in roots for folder in sorted(ROOT.glob(root))]
    files = sorted(file for folder in folders for file in folder.rglob("*.py"))
    return [_source(file) for file in files]


@cache
def _source(file: Path) -> Source:
    return Source(str(file.relative_to(ROOT)), file.read_text(encoding="utf-8"))


def read_product() -> list[Source]:
    """What is installed: the shared distribution and the services."""
    return read(*_SOURCE_ROOTS)
