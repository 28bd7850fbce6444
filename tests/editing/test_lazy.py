"""Editing is imported only when an image is edited."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

LIGHT = {"ravlm.editing", "ravlm.editing.base", "ravlm.editing.auto"}
IMPORT_AND_LIST = """
import importlib, sys
importlib.import_module(sys.argv[1])
print(*[name for name in sys.modules if name.startswith("ravlm.editing")])
print(*[name for name in ("torch", "diffusers") if name in sys.modules])
"""
ASK = """
import sys
from pathlib import Path
from ravlm import Entry, KnowledgeBase, RetrievalAugmentedVLM
from tests.helpers.fakes import FakeEncoder

entries = [Entry("a", None, ("A red boat lies at the pier.",))]
with KnowledgeBase.build(Path(sys.argv[1]) / "kb", entries, encoder=FakeEncoder()) as kb:
    RetrievalAugmentedVLM(kb, generator="extractive").ask("Where is the red boat?")
print(*[name for name in sys.modules if name.startswith("ravlm.editing")])
"""


def run(program: str, argument: str) -> str:
    command = [sys.executable, "-c", program, argument]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment
    ).stdout


def imported(module: str) -> tuple[set[str], list[str]]:
    """Return the editing modules, and the heavy packages, that importing `module` imports."""
    editing, heavy = run(IMPORT_AND_LIST, module).split("\n")[:2]
    return set(editing.split()), heavy.split()


@pytest.mark.parametrize("module", ["ravlm.model", "ravlm.cli.query"])
def test_the_model_does_not_import_the_editors(module: str) -> None:
    assert imported(module)[0] <= LIGHT


def test_asking_does_not_import_the_editors(tmp_path: Path) -> None:
    assert set(run(ASK, str(tmp_path)).split()) <= LIGHT


def test_the_loader_imports_no_editor() -> None:
    editing, heavy = imported("ravlm.editing.auto")
    assert editing == LIGHT
    assert heavy == []
