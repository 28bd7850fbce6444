"""One server for the tests that only ask it, and a base for those that start their own."""

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
    """A base of this test's own."""
    return Path(shutil.copytree(built, tmp_path / "kb"))


@pytest.fixture(scope="module")
def server(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that this module's tests share."""
    with running(Path(shutil.copytree(built, tmp_path_factory.mktemp("shared") / "kb"))) as found:
        yield found
