"""Imports within the package knowledge go one way: shared records, indexes, ingest and search,
backends, KnowledgeBase."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

SOURCE = REPOSITORY / "src" / "ravlm" / "knowledge"
PREFIX = "ravlm.knowledge."
SHARED = ("records", "reports", "candidates", "images", "canaries", "dedup", "queries")
TOP = ("registry", "encoder_guard", "base", "dimensions")
FILES = sorted(path for path in SOURCE.rglob("*.py") if path.name != "__init__.py")


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


def level_of(module: str) -> int:
    """0: shared records, 1: indexes, 2: interfaces, ingest and search, 3: backends, 4: base."""
    head = module.split(".")[0]
    if head == "index":
        return 1
    if head in ("local", "milvus"):
        return 3
    if head in SHARED:
        return 0
    return 4 if head in TOP else 2


def imported_modules(path: Path) -> Iterator[str]:
    """Yield the modules of the package that a file imports anywhere, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            parent = f"{node.module}."
            if not parent.startswith(PREFIX):
                continue
            module = node.module.removeprefix(PREFIX.removesuffix(".")).lstrip(".")
            folder = SOURCE / module.replace(".", "/")
            if folder.is_dir():  # from ravlm.knowledge.local import maintenance
                names = [f"{module}.{alias.name}".lstrip(".") for alias in node.names]
                yield from names
            else:
                yield module


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_go_one_way(path: Path) -> None:
    module = module_of(path)
    for imported in imported_modules(path):
        assert level_of(imported) <= level_of(module), f"{module} must not import {imported}"
        if level_of(module) == 3 and level_of(imported) == 3:
            assert module.split(".")[0] == imported.split(".")[0], f"{module} imports {imported}"


def test_there_are_no_cycles() -> None:
    graph = {module_of(path): set(imported_modules(path)) for path in FILES}
    while graph:
        leaves = [module for module, imported in graph.items() if not imported & graph.keys()]
        assert leaves, f"import cycle among: {sorted(graph)}"
        for module in leaves:
            del graph[module]
