"""Find the folder of the images that a caption file names without their folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

_MAX_NAMES = 20  # looked up in each folder: some images of a set may be missing
_MAX_FOLDERS = 500


def find_image_folder(file: Path, names: Iterable[str]) -> Path:
    """Return the first folder that contains one of the first `names`.

    Searched in this order: the folder of `file`, its subfolders, its parent, its siblings, and the
    siblings' subfolders. So `photos/` next to the file is found, as is `../train2017/` for a file
    in `annotations/`, also if the names begin with `train2017/`. The folder of `file` is returned
    if none has any of the names.
    """
    candidates = [
        name
        for name in islice(names, _MAX_NAMES)
        if name and not os.path.isabs(name) and "\0" not in name
    ]
    for folder in islice(_nearby_folders(file.parent), _MAX_FOLDERS):
        if any(os.path.isfile(folder / name) for name in candidates):
            return folder
    return file.parent


def _nearby_folders(folder: Path) -> Iterator[Path]:
    yield folder
    yield from _subfolders(folder)
    yield folder.absolute().parent
    siblings = _subfolders(folder.absolute().parent)
    yield from siblings
    for sibling in siblings:
        yield from _subfolders(sibling)


def _subfolders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(
                Path(entry.path)
                for entry in entries
                if entry.is_dir() and not entry.name.startswith(".")
            )
    except OSError:  # no permission
        return []
