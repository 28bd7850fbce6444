"""Files: writing them atomically, and where the package's own weights are."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STARTER = Path(__file__).with_name("starter")
"""Weights, word lists and model cards of the starter models."""


@contextmanager
def atomic_write(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to `target`; on success it is synced and renamed onto `target`.

    `target` becomes whatever is written there, a file or a folder. After an exception or a crash it
    is unchanged. The temporary folder is removed; only a kill leaves it behind, under a name that
    starts with ".aside-"."""
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".aside-", dir=target.parent))
    try:
        written = temporary / target.name
        yield written
        for path in [written, *written.rglob("*")] if written.is_dir() else [written]:
            sync(path)
        if target.is_dir():
            os.replace(target, temporary / "replaced")
        os.replace(written, target)
        sync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sync(path: Path) -> None:
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
