"""Where a base lies: the folder that a path names, and what is cleared away where none could be made. Knows no rows."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ravlm.data.images import is_address
from ravlm.errors import InvalidInput, NotFound
from ravlm.knowledge.store import Store


def local_folder(path: str | os.PathLike[str]) -> Path:
    """The folder as an absolute path. Raises InvalidInput for an address, NotFound for an empty path."""
    if is_address(path):
        raise InvalidInput(f'"{path}" is an address; this ravlm keeps knowledge bases in folders: name one.')
    if not str(path):
        raise NotFound("The path of the knowledge base is empty; name a folder.")
    return Path(path).absolute()


def take_back(folder: Path, made: bool) -> None:
    """Remove a base that could not be built, unless something was stored."""
    if Store.is_there(folder):
        store = Store(folder)
        try:
            if store.count():
                return
        finally:
            store.close()
    if made:
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.is_dir():
        for file in folder.glob("store.*"):
            file.unlink()
