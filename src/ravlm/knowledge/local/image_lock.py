"""The lock of a base's own image files: who adds some, or removes those that no entry refers to.

SQLite's lock is not enough. A process that is killed while it commits may leave a change in the log
that others do not see, and that comes back when the base is opened next, unless another commit
has replaced it. So files are removed after a commit, when what the base holds is final, and no one
may add an entry that refers to one of them meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ravlm.errors import Busy
from ravlm.files import try_lock
from ravlm.knowledge.images import FOLDER
from ravlm.knowledge.local import readers

LOCK = Path(FOLDER, ".lock")
"""Lock file in the folder of the base, next to the images."""


@contextmanager
def image_files_locked(folder: Path) -> Iterator[None]:
    """Hold the lock for the block. Raises Busy if another process holds it for `WAIT_SECONDS`."""
    with try_lock(folder / LOCK, readers.WAIT_SECONDS) as is_locked:
        if is_locked is False:
            raise Busy(
                f'Another process has been adding or removing images of the base "{folder}" for '
                f"{readers.WAIT_SECONDS:.0f} s; try again."
            )
        yield
