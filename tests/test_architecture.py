"""Rules of the code that a test can hold: layers, cycles, sizes, names, forbidden constructs."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from benchmarks.structure import ROOT, Binding, bindings, is_vague, module_list

SOURCE = ROOT / "src" / "ravlm"
ORDER = [
    *("errors", "regions", "records", "config", "runtime", "files", "checkpoint", "data"),
    *("metrics", "ocr"),
    *("encoders", "search", "knowledge", "retrieval", "fusion", "generation", "editing", "model"),
    *("training", "tasks", "evaluation", "serving", "integrations", "demo", "cli"),
]
"""Left to right: a module imports only from layers to its left."""
RANK = {name: rank for rank, name in enumerate(ORDER)}
FACADE = "__init__"
"""The package's own `__init__`, which resolves public names lazily; demo and cli may use it."""
FILES = sorted(SOURCE.rglob("*.py"))
MAX_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS, MAX_COLUMNS = 400, 60, 8, 100
MAX_VAGUE_SHARE = 0.003
REPEATED_CLASS_NAMES: dict[str, str] = {}
"""Class names that may stand twice -> why."""


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def layer_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def all_bindings() -> list[Binding]:
    """Return every name that a module of the package binds."""
    return [binding for path in FILES for binding in bindings(path)]


def imported_modules(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of everything imported from ravlm, anywhere in a file.

    `from ravlm.a import b` yields `ravlm.a.b`: whether b is a module is for the caller to decide.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write relative imports out"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == "ravlm")


def imported_layers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and layer of everything imported from ravlm, anywhere in a file."""
    for line, name in imported_modules(tree):
        layer = [*name.split("."), ""][1]
        yield line, layer if layer in RANK else FACADE


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def module_graph() -> dict[str, set[str]]:
    """Return module -> imported modules, imports inside functions included."""
    modules = {
        ".".join(("ravlm", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(
            ".__init__"
        ): path
        for path in FILES
    }
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        targets = set()
        for _, name in imported_modules(parse(path)):
            target = name if name in modules else name.rpartition(".")[0]
            if target in modules and target not in ("ravlm", module):
                targets.add(target)
        graph[module] = targets
    graph["ravlm"] = set()  # resolves its names lazily; checked as FACADE
    return graph


def find_cycle(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules of one import cycle, or an empty list."""
    state: dict[str, int] = {}
    path: list[str] = []

    def visit(module: str) -> list[str]:
        state[module] = 1
        path.append(module)
        for target in sorted(graph.get(module, ())):
            if state.get(target) == 1:
                return [*path[path.index(target) :], target]
            if target not in state and (cycle := visit(target)):
                return cycle
        path.pop()
        state[module] = 2
        return []

    for module in sorted(graph):
        if module not in state and (cycle := visit(module)):
            return cycle
    return []


def test_every_module_belongs_to_a_layer() -> None:
    layers = {layer_of(path) for path in FILES} - {FACADE}
    assert len(FILES) > 20
    assert layers <= set(RANK), f"not in ORDER: {sorted(layers - set(RANK))}"


def test_imports_go_one_way() -> None:
    problems = []
    for path in (f for f in FILES if layer_of(f) != FACADE):
        importer = layer_of(path)
        for line, layer in imported_layers(parse(path)):
            where = f"{name_of(path)}:{line}"
            if layer == FACADE:
                if importer not in ("demo", "cli"):
                    problems.append(f"{where} imports from ravlm; import the module")
            elif layer != importer and RANK[layer] >= RANK[importer]:
                problems.append(f"{where}: {importer} must not import {layer}")
    assert problems == []


def test_there_is_no_import_cycle() -> None:
    assert " -> ".join(find_cycle(module_graph())) == ""


def test_files_and_functions_stay_small() -> None:
    problems = []
    for path in FILES:
        num_lines = len(path.read_text(encoding="utf-8").splitlines())
        if num_lines > MAX_LINES:
            problems.append(f"{name_of(path)} has {num_lines} lines")
        for function in functions(parse(path)):
            where = f"{name_of(path)}:{function.lineno} {function.name}"
            length = (function.end_lineno or 0) - function.lineno + 1
            if length > MAX_FUNCTION_LINES:
                problems.append(f"{where} has {length} lines")
            signature = function.args
            arguments = [*signature.posonlyargs, *signature.args, *signature.kwonlyargs]
            count = sum(argument.arg not in ("self", "cls") for argument in arguments)
            if count > MAX_PARAMETERS:
                problems.append(f"{where} has {count} parameters")
    assert problems == []


def test_a_file_has_a_docstring() -> None:
    trees = {name_of(path): parse(path) for path in FILES}
    assert [name for name, tree in trees.items() if tree.body and not ast.get_docstring(tree)] == []


def test_no_forbidden_constructs() -> None:
    assert [problem for path in FILES for problem in forbidden_constructs(path)] == []


def forbidden_constructs(path: Path) -> Iterator[str]:
    """Yield what is wrong in a file, with its place."""
    for node in ast.walk(parse(path)):
        where = f"{name_of(path)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.ExceptHandler):
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            if any(c is None or getattr(c, "id", "") == "Exception" for c in caught):
                yield f"{where} catches everything; name what is expected"
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
            unsafe = {m.split(".")[0] for m in modules}
            unsafe &= {"pickle", "marshal", "shelve", "dill", "joblib"}
            if unsafe:
                yield f"{where} imports {unsafe}"
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("eval", "exec"):
            yield f"{where} calls {ast.unparse(node.func)}"
        if isinstance(node, ast.Global):
            yield f"{where}: no mutable globals"


def test_names_say_what_they_hold() -> None:
    """Bare participles and quantifiers (`found`, `given`, `some`) were once 7 % of all names."""
    everything = all_bindings()
    vague = [binding for binding in everything if is_vague(binding.name)]
    allowed = int(MAX_VAGUE_SHARE * len(everything))
    places = "\n".join(f"{name_of(b.path)}:{b.line} {b.kind} {b.name}" for b in vague)
    assert len(vague) <= allowed, places


def test_a_class_name_has_one_meaning() -> None:
    places = defaultdict(list)
    for binding in all_bindings():
        if binding.kind in ("class", "alias"):
            where = f"{name_of(binding.path)}:{binding.line}"
            places[binding.name.strip("_")].append(where)
    repeated = {n: p for n, p in places.items() if len(p) > 1 and n not in REPEATED_CLASS_NAMES}
    assert repeated == {}


def test_only_base_modules_say_what_they_do_not_know() -> None:
    modules = {name_of(p) for p in FILES if "Knows no" in p.read_text(encoding="utf-8")}
    assert {m for m in modules if not m.endswith("base.py")} == set()
    assert len(modules) <= 10


def test_the_list_of_modules_is_current() -> None:
    page = (ROOT / "docs" / "modules.md").read_text(encoding="utf-8")
    assert page == module_list(SOURCE), (
        "run: python -m benchmarks.structure --modules > docs/modules.md"
    )


def test_forbidden_constructs_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.test_architecture.SOURCE", tmp_path)
    path = tmp_path / "bad.py"
    path.write_text(
        "from marshal import loads\nimport dill.source\n"
        "def f():\n    global x\n    try:\n        eval('1')\n    except:\n        pass\n"
        "    try:\n        exec('1')\n    except (ValueError, Exception):\n        pass\n"
    )
    problems = list(forbidden_constructs(path))
    assert sorted(int(problem.split(":")[1].split()[0]) for problem in problems) == [
        *(1, 2, 4, 6, 7, 10, 11)
    ]


def test_the_guard_sees_hidden_imports() -> None:
    """An import inside a function once slipped through a check that read only the file's top."""
    tree = ast.parse(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from ravlm.cli import main\n"
        "def f():\n    import ravlm.knowledge.base\n    from ravlm import encoders, KnowledgeBase\n"
    )
    layers = [layer for _, layer in imported_layers(tree)]
    assert layers == ["cli", "knowledge", "encoders", FACADE]


def test_the_guard_sees_a_cycle() -> None:
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert find_cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
