"""Editing is imported only when an image is edited."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIGHT = {"ravlm.editing", "ravlm.editing.base", "ravlm.editing.auto"}
IMPORT_AND_LIST = """
import importlib, sys
importlib.import_module(sys.argv[1])
print(*[name for name in sys.modules if name.startswith("ravlm.editing")])
print(*[name for name in ("torch", "diffusers") if name in sys.modules])
"""


def imported(module: str) -> tuple[set[str], list[str]]:
    """Return the editing modules, and the heavy packages, that importing `module` imports."""
    command = [sys.executable, "-c", IMPORT_AND_LIST, module]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    editing, heavy = output.split("\n")[:2]
    return set(editing.split()), heavy.split()


@pytest.mark.parametrize("module", ["ravlm.model", "ravlm.cli.query"])
def test_answering_does_not_import_the_editors(module: str) -> None:
    assert imported(module)[0] <= LIGHT


def test_the_loader_imports_no_editor() -> None:
    editing, heavy = imported("ravlm.editing.auto")
    assert editing == LIGHT
    assert heavy == []
