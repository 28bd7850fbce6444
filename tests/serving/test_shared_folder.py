"""Files of the folder that MCP clients may name."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import pytest

from ravlm.errors import BrokenData, NotFound
from ravlm.serving import shared_folder
from ravlm.serving.shared_folder import SharedFolder

INSIDE, OUTSIDE = b"a picture", b"a secret"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file, a subfolder and links, and a secret next to it."""
    folder = tmp_path / "shared"
    (folder / "a" / "b").mkdir(parents=True)
    for path in (folder / "cat.png", folder / "a" / "b" / "猫.png"):
        path.write_bytes(INSIDE)
    (tmp_path / "secrets" / "b").mkdir(parents=True)
    for path in (tmp_path / "secret", tmp_path / "secrets" / "b" / "猫.png"):
        path.write_bytes(OUTSIDE)
    (folder / "inner.png").symlink_to("a/b/猫.png")
    (folder / "outer.png").symlink_to(tmp_path / "secret")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "away").symlink_to(tmp_path / "secrets")
    os.mkfifo(folder / "pipe.png")
    return folder


def test_files_inside_are_read(folder: Path) -> None:
    shared = SharedFolder(folder)
    for name in ("cat.png", "a/b/猫.png", "a/../cat.png", "inner.png", str(folder / "cat.png")):
        assert shared.read(name, 100) == INSIDE
    (folder.parent / "link").symlink_to(folder)
    assert SharedFolder(folder.parent / "link").read("cat.png", 100) == INSIDE


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../secret",
            "a/../../secret",
            "outer.png",
            "away/b/猫.png",
            "/etc/passwd",
            "nowhere.png",
        ),
        *("", ".", "a", "loop.png", "pipe.png", "a\0b", "x" * 5000, "cat.png/x", "\udcff"),
    ],
)
def test_nothing_else_is_read(folder: Path, name: str) -> None:
    with pytest.raises(NotFound, match="There is no image") as error:
        SharedFolder(folder).read(name, 100)
    assert str(folder) not in str(error.value).replace(name, "")


def test_large_files_are_refused_before_they_are_read(folder: Path) -> None:
    """MCP read a file of 3 GB into memory (2,861 MiB, 11 s), then refused it."""
    with open(folder / "large.png", "wb") as file:
        file.truncate(3_000_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BrokenData, match="3,000,000,000 bytes; at most 16,000,000"):
        SharedFolder(folder).read("large.png", 16_000_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


@pytest.mark.parametrize("part", ["a", "b", "猫.png"])
def test_a_link_that_appears_after_the_check_is_not_followed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Between the check of the path and the opening, a part of it became a link to outside."""
    path = next(path for path in folder.rglob("*") if path.name == part)
    target = {"a": "secrets", "b": "secrets/b", "猫.png": "secret"}[part]
    open_file = os.open
    swapped = []

    def swap_then_open(name: Any, *args: Any, **options: Any) -> int:
        if name == part and not swapped:
            path.rename(folder.parent / "moved")
            path.symlink_to(folder.parent / target)
            swapped.append(name)
        return open_file(name, *args, **options)

    monkeypatch.setattr(shared_folder.os, "open", swap_then_open)
    with pytest.raises(NotFound):
        SharedFolder(folder).read("a/b/猫.png", 100)
    assert swapped
    assert (folder / "a" / "b" / "猫.png").read_bytes() == OUTSIDE, "the link does lead there"
