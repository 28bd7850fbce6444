"""A folder that the package datasets of Hugging Face saved: one dataset, or one of several splits.

The column of pictures may have any name; labels come as their names, and the split becomes the
metadata `split`. Rows are read from disk as they are needed. Knows nothing else of what the columns
mean."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ravlm.data.formats.parquet import plain_row
from ravlm.data.rows import Quarantined, Row
from ravlm.errors import BrokenData, MissingExtra

_ROWS = 64  # held at a time: they may carry pictures


def recognises(path: Path, head: bytes) -> bool:
    """Whether `path` is a folder with the files that `save_to_disk` writes."""
    single = (path / "state.json").is_file() and (path / "dataset_info.json").is_file()
    return single or (path / "dataset_dict.json").is_file()


def rows(path: Path) -> Iterator[Row | Quarantined]:
    """A row a record. Raises BrokenData for a folder that can't be read."""
    try:
        import datasets
        import pyarrow
    except ImportError:
        raise MissingExtra("datasets", "datasets", "Reading saved datasets") from None
    broken = (pyarrow.ArrowException, OSError, ValueError, KeyError, TypeError)
    try:
        found = datasets.load_from_disk(str(path))
    except broken as error:
        raise BrokenData(
            f'"{path}" looks like a saved dataset and can\'t be read: {error}; save it again.'
        ) from None
    splits = found if isinstance(found, datasets.DatasetDict) else {"": found}
    for split, dataset in splits.items():
        name = f"{path}, {split}" if split else str(path)
        picture, left_out = _columns(dataset)
        for column in left_out:
            reason = "It holds bytes or a second picture, which metadata can't; it is left out, the rows are kept."
            yield Quarantined(f'{name}, column "{column}"', reason)
        dataset = _prepared(dataset.remove_columns(left_out), picture)
        labels = {
            key: kind.names
            for key, kind in dataset.features.items()
            if isinstance(kind, datasets.ClassLabel)
        }
        number = 0
        try:
            for batch in dataset.iter(_ROWS):
                for cells in zip(*batch.values(), strict=True):
                    number += 1
                    values = dict(zip(batch, cells, strict=True)) | (
                        {"split": split} if split else {}
                    )
                    for key, names in labels.items():
                        number_of = values[key]
                        values[key] = (
                            None if number_of is None or number_of < 0 else names[number_of]
                        )
                    yield Row(f"{name}, row {number}", plain_row(values), path)
        except broken as error:
            reason = (
                f"The rows from {number + 1} on can't be read: {error}; save the dataset again."
            )
            yield Quarantined(name, reason)


def _columns(dataset: Any) -> tuple[str | None, list[str]]:
    """The column of pictures, and those that can't be metadata."""
    from datasets import Image

    pictures = [name for name, feature in dataset.features.items() if isinstance(feature, Image)]
    picture = "image" if "image" in dataset.features else pictures[0] if pictures else None
    types = {
        name: str(kind)
        for name, kind in zip(dataset.column_names, dataset.data.schema.types, strict=True)
    }
    return picture, [name for name, kind in types.items() if name != picture and "binary" in kind]


def _prepared(dataset: Any, picture: str | None) -> Any:
    """The dataset with its pictures as they were encoded, in the column "image"."""
    from datasets import Image

    if picture is not None and isinstance(dataset.features[picture], Image):
        dataset = dataset.cast_column(picture, Image(decode=False))
    if picture is not None and picture != "image":
        dataset = dataset.rename_column(picture, "image")
    return dataset.with_format(None)
