"""The files of one folder that clients may name: none outside it, even through links."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from ravlm.errors import BrokenData, NotFound

_FOLDER_FLAGS = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_FILE_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_HAS_FOLDER_HANDLES = os.open in os.supports_dir_fd and bool(_NO_LINK)
"""Whether a file can be opened relative to an open folder (everywhere but on Windows)."""


class SharedFolder:
    """Reads files of a folder by their names within it. Links may lead to files inside.

    >>> SharedFolder(Path("photos")).read("2024/cat.jpg", max_bytes=16_000_000)  # doctest: +SKIP
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return the content of a file.

        Raises NotFound if the folder has no such file, BrokenData, before it is read, if it is
        larger than `max_bytes`.
        """
        try:
            path = (self._folder / name).resolve()
            handle = self._open(path.relative_to(self._folder).parts)
        except (OSError, ValueError, RuntimeError):  # no file, not inside, a loop of links
            raise self._missing(name) from None
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise self._missing(name)
            with open(handle, "rb", closefd=False) as file:
                content = file.read(max_bytes + 1) if status.st_size <= max_bytes else b""
        finally:
            os.close(handle)
        size = max(status.st_size, len(content))
        if size > max_bytes:
            raise BrokenData(
                f'The image "{name}" has {size:,} bytes; at most {max_bytes:,} are allowed. '
                "Make it smaller."
            )
        return content

    def _open(self, parts: Sequence[str]) -> int:
        """Open a file by the parts of its path, none of which may have become a link.

        Between the check of the path and its opening, another process may have replaced a part of
        it with a link that leads outside.
        """
        if not _HAS_FOLDER_HANDLES:
            return os.open(self._folder.joinpath(*parts), _FILE_FLAGS)
        folder = os.open(self._folder, _FOLDER_FLAGS)
        try:
            for part in parts[:-1]:
                inner = os.open(part, _FOLDER_FLAGS | _NO_LINK, dir_fd=folder)
                os.close(folder)
                folder = inner
            return os.open(parts[-1] if parts else ".", _FILE_FLAGS | _NO_LINK, dir_fd=folder)
        finally:
            os.close(folder)

    def _missing(self, name: str) -> NotFound:
        return NotFound(f'There is no image "{name}" in the shared folder "{self._folder.name}".')
