"""The house's rules that a machine can hold: one direction of imports, small files and functions,
no forbidden ways."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "ravlm"
ORDER = [
    "errors",
    "records",
    "config",
    "runtime",
    "files",
    "checkpoint",
    "data",
    "metrics",
    "ocr",
    "encoders",
    "search",
    "knowledge",
    "retrieval",
    "fusion",
    "generation",
    "editing",
    "model",
    "training",
    "tasks",
    "evaluation",
    "serving",
    "integrations",
    "demo",
    "cli",
]
"""Left to right: a module imports only from those left of its own."""
RANK = {name: rank for rank, name in enumerate(ORDER)}
LAZY = "__init__"
"""The package's own `__init__`, which names everything on first use: for users, for the demo and
the commands."""
FILES = sorted(SOURCE.rglob("*.py"))
MOST_LINES, MOST_FUNCTION_LINES, MOST_PARAMETERS = 400, 60, 8


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def layer_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_layers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The layers of ravlm that a file imports anywhere: at the top, inside functions, under
    TYPE_CHECKING."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, (
                f"line {node.lineno}: relative imports hide the direction; write them out"
            )
            names = (
                [f"{node.module}.{a.name}" for a in node.names]
                if node.module == "ravlm"
                else [node.module or ""]
            )
        else:
            continue
        for name in names:
            if name == "ravlm" or name.startswith("ravlm."):
                inside = name.removeprefix("ravlm").lstrip(".").split(".")[0]
                yield node.lineno, inside if inside in RANK else LAZY


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_every_module_has_its_place() -> None:
    found = {layer_of(path) for path in FILES} - {LAZY}
    assert len(FILES) > 20
    assert found <= set(RANK), f"not in the design's order: {sorted(found - set(RANK))}"


@pytest.mark.parametrize("path", [f for f in FILES if layer_of(f) != LAZY], ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    own = layer_of(path)
    for line, layer in imported_layers(parse(path)):
        if layer == LAZY:
            assert own in ("demo", "cli"), (
                f"{name_of(path)}:{line} imports the public face; import the module itself"
            )
        else:
            assert layer == own or RANK[layer] < RANK[own], (
                f"{name_of(path)}:{line}: {own} must not import {layer}"
            )


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_stay_small(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= MOST_LINES, f"{name_of(path)} has {lines} lines"
    for function in functions(parse(path)):
        where = f"{name_of(path)}:{function.lineno} {function.name}"
        length = (function.end_lineno or 0) - function.lineno + 1
        assert length <= MOST_FUNCTION_LINES, f"{where} has {length} lines"
        given = function.args
        names = [
            a.arg
            for a in [*given.posonlyargs, *given.args, *given.kwonlyargs]
            if a.arg not in ("self", "cls")
        ]
        assert len(names) <= MOST_PARAMETERS, f"{where} has {len(names)} parameters"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_says_what_it_does(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not text.strip() or ast.get_docstring(ast.parse(text)), f"{name_of(path)}: no docstring"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_forbidden_ways(path: Path) -> None:
    for node in ast.walk(parse(path)):
        where = f"{name_of(path)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.ExceptHandler):
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            broad = [
                c for c in caught if c is None or (isinstance(c, ast.Name) and c.id == "Exception")
            ]
            assert not broad, f"{where} catches everything; name what is expected"
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
            names = {module.split(".")[0] for module in modules}
            assert not names & {"pickle", "marshal", "shelve", "dill", "joblib"}, (
                f"{where} imports {names}"
            )
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec"), f"{where} calls {node.func.id}"
        if isinstance(node, ast.Global):
            pytest.fail(f"{where}: no mutable globals")


def test_the_map_shows_every_module() -> None:
    page = (SOURCE.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = {name_of(path) for path in FILES if path.name != "__init__.py"}
    shown = set(re.findall(r"^\| `([^`]+\.py)` \|", page, re.MULTILINE))
    assert named <= shown, f"add a line to docs/architecture.md for: {sorted(named - shown)}"
    assert {name for name in shown if not (SOURCE / name).is_file()} == set(), (
        "on the map, and not in the house"
    )


def test_the_guard_sees_hidden_imports() -> None:
    """An import inside a function once slipped through a check that read only the top of the
    file."""
    tree = ast.parse(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from ravlm.cli import main\n"
        "def f():\n    import ravlm.knowledge.base\n    from ravlm import encoders, KnowledgeBase\n"
    )
    assert [layer for _, layer in imported_layers(tree)] == ["cli", "knowledge", "encoders", LAZY]
