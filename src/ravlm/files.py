"""Atomic writes, and the folder of the weights that the package ships."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STARTER = Path(__file__).with_name("starter")
"""Folder with the weights, word lists and model cards of the starter models."""


@contextmanager
def atomic_write(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path; on success, sync it and rename it to `target`.

    The block may create a file or a folder at the temporary path. After an exception or a crash
    `target` is unchanged. The temporary folder is removed; only a killed process leaves it behind,
    with a name that starts with ".aside-".

        with atomic_write("notes.txt") as path:
            path.write_text("complete or not there at all")
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".aside-", dir=target.parent))
    try:
        source = folder / target.name
        yield source
        for path in [source, *source.rglob("*")] if source.is_dir() else [source]:
            _fsync(path)
        if target.is_dir():  # a folder can't be replaced in one step
            os.replace(target, folder / "replaced")
        os.replace(source, target)
        _fsync(target.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fsync(path: Path) -> None:
    """Flush a file or folder to the disk (fsync)."""
    flags = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) if path.is_dir() else os.O_RDONLY
    try:
        descriptor = os.open(path, flags)
    except OSError:  # Windows can't open folders
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
