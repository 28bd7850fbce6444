"""Atomic writes, and the folder of the weights that the package ships."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from ravlm.errors import DiskError

STALE_SECONDS = 86400.0
"""Age at which a temporary folder without a lock must belong to a process that was killed."""
_PREFIX = ".aside-"
"""Prefix of the names of temporary folders."""
_LOCK = ".aside.lock"
STARTER = Path(__file__).with_name("starter")
"""Folder with the weights, word lists and model cards of the starter models."""


@contextmanager
def atomic_write(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path; on success, sync it and rename it to `target`.

    The block may create a file or a folder at the temporary path. After an exception or a crash
    `target` is unchanged.

        with atomic_write("notes.txt") as path:
            path.write_text("complete or not there at all")
    """
    target = Path(target)
    with temporary_folder(target.parent) as folder, disk_errors(target.parent):
        source = folder / target.name
        yield source
        for path in [source, *source.rglob("*")] if source.is_dir() else [source]:
            _fsync(path)
        if target.is_dir():  # a folder can't be replaced in one step
            os.replace(target, folder / "replaced")
        os.replace(source, target)
        _fsync(target.parent)


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Create a folder in `parent`, which is created too, and delete it after the block.

    Only a killed process leaves it behind. A lock in the folder tells whether its process lives:
    the next temporary folder in `parent` removes those of the dead.
    """
    with disk_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(parent)
    while True:
        with disk_errors(parent):
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        try:
            with try_lock(folder / _LOCK) as is_locked:
                if is_locked is False or not folder.is_dir():
                    continue  # another process took it for a leftover
                yield folder
                return
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(parent: Path, is_exclusive: bool = False) -> None:
    """Delete the temporary folders in `parent` whose process was killed.

    With `is_exclusive` no other process writes to `parent`, so that all of them are: also those
    whose process was killed before it locked them.
    """
    try:
        with os.scandir(parent) as items:
            folders = [
                Path(item.path)
                for item in items
                if item.name.startswith(_PREFIX) and item.is_dir(follow_symlinks=False)
            ]
    except OSError:  # there is no such folder, or it cannot be listed
        return
    for folder in folders:
        if is_exclusive:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            _remove_if_abandoned(folder)


def _remove_if_abandoned(folder: Path) -> None:
    """Delete a temporary folder if its lock is free, or if it has none and is old."""
    lock = folder / _LOCK
    try:
        is_old = time.time() - folder.stat().st_mtime > STALE_SECONDS
        has_lock = lock.exists()
    except OSError:  # its process has just removed it
        return
    if not has_lock:
        if is_old:
            shutil.rmtree(folder, ignore_errors=True)
        return
    with try_lock(lock) as is_locked:
        if is_locked or (is_locked is None and is_old):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def try_lock(path: Path, seconds: float = 0.0) -> Iterator[bool | None]:
    """Hold the lock file `path` for the block; other processes see it as locked until then.

    Yield False if it is held elsewhere for `seconds`, and None if files cannot be locked here. The
    lock of a process that ends or is killed is free again; the file stays.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, thread_local=False)
    is_locked: bool | None = True
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        is_locked = False
    except (OSError, NotImplementedError):  # a file system without locks
        is_locked = None
    try:
        yield is_locked
    finally:
        lock.release()


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Raise DiskError for what a full or failing disk does to a block that writes to `folder`."""
    try:
        yield
    except DiskError:
        raise
    except (OSError, SafetensorError) as reason:
        error = _as_os_error(reason)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise full_disk_error(folder) from error
        if error.errno == errno.EFBIG:
            raise DiskError(
                f'A file in "{folder}" would be larger than its file system or the limit of the '
                "user (ulimit -f) allows. Choose another folder."
            ) from error
        if error.errno == errno.EIO:
            raise DiskError(
                f'A disk failed ({error.strerror}) while files were written to "{folder}". Check '
                "it and the system's log, then repeat the command."
            ) from error
        raise


def _as_os_error(error: Exception) -> OSError:
    """Return the failure of the system behind an error of safetensors, which names its number."""
    if isinstance(error, OSError):
        return error
    number = re.search(r"os error (\d+)", str(error))
    if number is None:
        raise error
    return OSError(int(number[1]), os.strerror(int(number[1])))


def full_disk_error(folder: Path) -> DiskError:
    """Return the error for a folder on a full disk."""
    return DiskError(
        f'The disk of "{folder}" is full ({free_bytes(folder):,} bytes free), or a quota is used '
        "up. What was stored before is kept. Free some space and repeat the command."
    )


def free_bytes(folder: Path) -> int:
    """Return the free bytes of a folder's disk; 0 if that cannot be asked."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def folder_bytes(folder: Path) -> int:
    """Return the size of all files in a folder; those that vanish meanwhile do not count."""
    total = 0
    folders = [str(folder)]
    while folders:
        with suppress(FileNotFoundError), os.scandir(folders.pop()) as items:
            for item in items:
                if item.is_dir(follow_symlinks=False):
                    folders.append(item.path)
                    continue
                with suppress(FileNotFoundError):
                    total += item.stat(follow_symlinks=False).st_size
    return total


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
