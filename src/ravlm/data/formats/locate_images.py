"""Where the pictures of a file of captions lie, when the file names them without their folder.
Opens no picture."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

_TRIED = 20  # names looked for in each folder: some of a set may be missing
_FOLDERS = 500  # looked at


def folder_of_pictures(file: Path, names: Iterable[str]) -> Path:
    """The first folder that has one of the first `names`: the file's own, those in it, those beside
    it and in these.

    So `photos/` beside the file is found, as is `../train2017/` of a file in `annotations/`. The
    file's own folder where none has any."""
    tried = [name for name in islice(names, _TRIED) if name and not os.path.isabs(name)]
    for folder in islice(_candidates(file.parent), _FOLDERS):
        if any(os.path.isfile(folder / name) for name in tried if "\0" not in name):
            return folder
    return file.parent


def _candidates(folder: Path) -> Iterator[Path]:
    yield folder
    yield from _below(folder)
    beside = _below(folder.absolute().parent)
    yield from beside
    for sibling in beside:
        yield from _below(sibling)


def _below(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as found:
            return sorted(
                Path(entry.path)
                for entry in found
                if entry.is_dir() and not entry.name.startswith(".")
            )
    except OSError:  # not ours to read
        return []
