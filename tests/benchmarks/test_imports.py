"""Every name that a benchmark or a recipe imports from this repository exists."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from benchmarks.structure import ROOT

PACKAGES = {
    "ravlm": ROOT / "src" / "ravlm",
    **{name: ROOT / name for name in ("benchmarks", "recipes", "tests")},
}
SCRIPTS = [
    path for name in ("benchmarks", "recipes") for path in sorted((ROOT / name).rglob("*.py"))
]


def module_path(module: str) -> Path | None:
    """Return the file of a module of this repository; None if there is none."""
    package, *rest = module.split(".")
    path = PACKAGES[package].joinpath(*rest)
    candidates = (path.with_name(f"{path.name}.py"), path / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module, those under `if` and `try` too."""
    for statement in body:
        yield statement
        for field in ("body", "orelse", "handlers", "finalbody"):
            if isinstance(statement, ast.If | ast.Try | ast.ExceptHandler):
                yield from statements(getattr(statement, field, []))


@cache
def names_of(path: Path) -> set[str]:
    """Return the names that a module defines or imports, and those that it resolves lazily."""
    names: set[str] = set()
    for node in statements(ast.parse(path.read_text(encoding="utf-8")).body):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {
                n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)
            }
    return names


def missing_imports(source: str) -> list[str]:
    """Return what a script imports from this repository, anywhere in it, that does not exist."""
    missing = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
            missing += [m for m in imported if m.split(".")[0] in PACKAGES and not module_path(m)]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES:
            path = module_path(str(node.module))
            for name in (alias.name for alias in node.names):
                is_module = module_path(f"{node.module}.{name}") is not None
                if not is_module and (path is None or name not in names_of(path)):
                    missing.append(f"{node.module}.{name}")
    return missing


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_imported_name_exists(path: Path) -> None:
    """`benchmarks/language.py` imported `spoken` after it had become `normalize`, and nobody
    noticed: no test runs a script that trains for twenty minutes."""
    assert missing_imports(path.read_text(encoding="utf-8")) == []


def test_a_missing_name_is_found() -> None:
    source = """
import ravlm.nowhere
from ravlm import Entry, Exit
from ravlm.records import Hit, Miss
def lazily():
    from benchmarks.gone import anything
    from benchmarks import data, nothing
"""
    assert missing_imports(source) == [
        "ravlm.nowhere",
        "ravlm.Exit",
        "ravlm.records.Miss",
        "benchmarks.gone.anything",
        "benchmarks.nothing",
    ]
