"""The judge knows nothing of what it judges."""

from __future__ import annotations

import ast
from pathlib import Path

import bursar.demo.provider

FOLDER = Path(bursar.demo.provider.__file__).parent


def test_the_judge_imports_nothing_of_bursar() -> None:
    """Its modules import each other by relative names, and nothing else of this project."""
    files = sorted(FOLDER.glob("*.py"))
    found = [
        f"{path.name}: {name}"
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in names_in(node)
    ]
    assert len(files) > 10
    assert [line for line in found if line.partition(": ")[2].startswith(("bursar", ".."))] == []


def names_in(node: ast.AST) -> list[str]:
    """The modules that an import statement names, with the dots of a relative one."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return ["." * node.level + (node.module or "")] if isinstance(node, ast.ImportFrom) else []
