"""Read tar files whose content is not trusted: headers, sizes and expansion are bounded.

Python's `tarfile` reads a name of any length into memory, skips a file of 2^62 bytes block by block
beyond the end of the archive, and lists all members that it has seen. A gzip file of 10 MB may hold
10 GB.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn

MAX_HEADER_BYTES = 1 << 20
"""Bytes of a long name or of extended headers (PAX); paths of Linux have 4,096 at most."""
MAX_EXPANSION = 100
"""How many times larger than the file its content may be; text shrinks to a tenth."""
MIN_EXPANDED_BYTES = 1 << 29
"""Bytes that a file of any size may expand to."""
_BUFFER_BYTES = 1 << 18
_HEADERS = frozenset({
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
})  # fmt: skip
READ_ERRORS = (
    tarfile.TarError, OSError, EOFError, zlib.error, ValueError, OverflowError, RecursionError,
)  # fmt: skip
"""What reading a damaged file raises; a chain of extended headers is a recursion."""


class TarStream:
    """The members of an open tar file, one after the other. Their sizes are at most `max_bytes`."""

    def __init__(self, tar: tarfile.TarFile, max_bytes: int) -> None:
        self._tar = tar
        self._max_bytes = max_bytes

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        for member in self._tar:
            if not 0 <= member.size <= self._max_bytes:
                raise tarfile.ReadError(f'"{member.name}" has the size {member.size:,}')
            yield member

    def read(self, member: tarfile.TarInfo) -> bytes:
        """Return the content of the regular file that was yielded last."""
        content = self._tar.extractfile(member)
        assert content is not None
        return content.read()


@contextmanager
def open_tar(path: Path) -> Iterator[TarStream]:
    """Open a tar file, gzipped or not, to be read once from start to end.

    Reading raises `READ_ERRORS`.
    """
    with open(path, "rb") as file:
        is_gzipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        max_bytes = path.stat().st_size
        if is_gzipped:
            max_bytes = max(MIN_EXPANDED_BYTES, MAX_EXPANSION * max_bytes)
        stream: Any = _BoundedGzip(file, max_bytes) if is_gzipped else file
        with tarfile.open(
            fileobj=stream, mode="r|", bufsize=_BUFFER_BYTES, tarinfo=_BoundedTarInfo
        ) as tar:
            yield TarStream(tar, max_bytes)


class _BoundedTarInfo(tarfile.TarInfo):
    """A member whose headers have an end. Sparse files, which may be all holes, are refused."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        # tarfile keeps every member that it has read
        tar.members.clear()  # type: ignore[attr-defined]
        if self.type in _HEADERS and not 0 <= self.size <= MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header has the size {self.size:,}")
        return super()._proc_member(tar)  # type: ignore[misc]

    def _refuse(self, *arguments: object) -> NoReturn:
        raise tarfile.ReadError("a sparse file is not read")

    _proc_sparse = _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse


class _BoundedGzip:
    """A gzip file that is read up to a size."""

    def __init__(self, file: IO[bytes], max_bytes: int) -> None:
        self._file = gzip.GzipFile(fileobj=file)
        self._remaining = max_bytes

    def read(self, size: int) -> bytes:
        """Return the next bytes. Raises tarfile.ReadError if the file expands too much."""
        data = self._file.read(size)
        self._remaining -= len(data)
        if self._remaining < 0:
            raise tarfile.ReadError(f"its content is more than {MAX_EXPANSION} times its size")
        return data
