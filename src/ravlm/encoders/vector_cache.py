"""Files that are derived from an encoder and stored in the user's cache folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np

from ravlm import runtime
from ravlm.files import atomic_write

_HASH_DIGITS = 16


def undamaged_files(name: str, suffix: str) -> Iterator[Path]:
    """Yield the files that `store_file` wrote for `name` and whose content is as it wrote it."""
    for path in runtime.cache_folder().glob(f"{name}.*{suffix}"):
        with suppress(OSError), open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if path.name == f"{name}.{digest[:_HASH_DIGITS]}{suffix}":
                yield path


def store_file(name: str, suffix: str, content: bytes) -> Path | None:
    """Write `content` to the user's cache instead of what it has for `name`; return its path.

    The path ends with the hash of the content and `suffix`. Returns None if the cache is not
    writable.
    """
    folder = runtime.cache_folder()
    path = folder / f"{name}.{hashlib.sha256(content).hexdigest()[:_HASH_DIGITS]}{suffix}"
    try:
        for unusable in set(folder.glob(f"{name}.*{suffix}")) - {path}:
            unusable.unlink(missing_ok=True)
        with atomic_write(path) as target:
            target.write_bytes(content)
    except OSError:
        return None
    return path


def cached_arrays(
    name: str, compute: Callable[[], Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Return the arrays `name` of the user's cache, memory-mapped, or compute and store them.

    A damaged file is computed again; without a writable cache the arrays are computed each time.
    """
    for path in undamaged_files(name, ".npy"):
        with suppress(OSError, ValueError):
            return _fields(np.load(path, mmap_mode="r"))
    arrays = compute()
    layout = [(key, array.dtype, array.shape) for key, array in arrays.items()]
    record = np.zeros((), np.dtype(layout, align=True))
    for key, array in arrays.items():
        record[key] = array
    content = BytesIO()
    np.save(content, record)
    store_file(name, ".npy", content.getvalue())
    return _fields(record)


def _fields(record: np.ndarray) -> dict[str, np.ndarray]:
    """Return the fields of a structured array () by name."""
    return {key: np.asarray(record[key]) for key in record.dtype.names or ()}
