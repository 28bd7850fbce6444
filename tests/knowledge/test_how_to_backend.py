"""The backend of docs/how-to/backend.md, as printed there, passes the conformance test."""

from __future__ import annotations

import importlib.util
import inspect
import itertools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from ravlm.knowledge import registry
from ravlm.knowledge.backend import Backend
from ravlm.knowledge.entry_store import EntryStore
from ravlm.knowledge.searcher import Searcher
from tests.conftest import REPOSITORY
from tests.knowledge.conformance import Conformance

PAGE = REPOSITORY / "docs" / "how-to" / "backend.md"
NAME = "ravlm_example_memory"
MAX_ABSTRACT_METHODS = 18


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The first Python block of the page as a module."""
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0]
    path = tmp_path_factory.mktemp("how-to") / "memory.py"
    path.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(NAME, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[NAME]


class TestMemoryBackend(Conformance):
    @pytest.fixture
    def locations(
        self, memory: ModuleType, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[], Path | str]:
        backends = {"memory": memory.MemoryBackend, **registry.BACKENDS}
        monkeypatch.setattr(registry, "BACKENDS", backends)
        monkeypatch.setattr(memory, "STORES", {})
        numbers = itertools.count()
        return lambda: f"memory://base{next(numbers)}"


def test_the_example_is_short(memory: ModuleType) -> None:
    source = inspect.getsource(memory)
    assert len(source.splitlines()) <= 125
    assert max(map(len, source.splitlines())) <= 100


def test_a_backend_needs_few_methods() -> None:
    methods = [
        name
        for interface in (Backend, EntryStore, Searcher)
        for name in interface.__abstractmethods__
    ]
    assert len(methods) <= MAX_ABSTRACT_METHODS, sorted(methods)
