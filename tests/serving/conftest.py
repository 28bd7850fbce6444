"""A shared server for read-only tests, and a base for tests that start their own server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.servers import Running, build, running


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("served") / "kb")


@pytest.fixture
def kb(built: Path, tmp_path: Path) -> Path:
    """A base that only this test uses."""
    return Path(shutil.copytree(built, tmp_path / "kb"))


@pytest.fixture(scope="module")
def server(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that the tests of this module share."""
    with running(Path(shutil.copytree(built, tmp_path_factory.mktemp("shared") / "kb"))) as server:
        yield server
