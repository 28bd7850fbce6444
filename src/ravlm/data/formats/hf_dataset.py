"""A folder written by `save_to_disk` of Hugging Face's `datasets`: one dataset, or several splits.

The image column may have any name. Class labels become their names, and the split becomes the
metadata `split`. Rows are read from disk as they are needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ravlm.data.formats.parquet import json_row
from ravlm.data.rows import Quarantined, Row
from ravlm.errors import BrokenData, MissingExtra

_BATCH_SIZE = 64  # rows in memory at a time: they may contain images


def recognizes(path: Path, head: bytes) -> bool:
    """Return whether `path` is a folder with the files that `save_to_disk` writes."""
    is_dataset = (path / "state.json").is_file() and (path / "dataset_info.json").is_file()
    return is_dataset or (path / "dataset_dict.json").is_file()


def read_rows(path: Path) -> Iterator[Row | Quarantined]:
    """Yield one row per record of every split.

    Raises BrokenData for a folder that can't be read, and MissingExtra without `datasets`.
    """
    try:
        import datasets
        import pyarrow
    except ImportError:
        raise MissingExtra("datasets", "datasets", "Reading saved datasets") from None
    read_errors = (pyarrow.ArrowException, OSError, ValueError, KeyError, TypeError)
    try:
        loaded = datasets.load_from_disk(str(path))
    except read_errors as error:
        raise BrokenData(
            f'"{path}" looks like a saved dataset but can\'t be read: {error}; save it again.'
        ) from None
    splits = loaded if isinstance(loaded, datasets.DatasetDict) else {"": loaded}
    for split, dataset in splits.items():
        name = f"{path}, {split}" if split else str(path)
        image_column, unusable_columns = _classify_columns(dataset)
        for column in unusable_columns:
            reason = "It holds bytes or a second image, which can't be metadata; it was left out."
            yield Quarantined(f'{name}, column "{column}"', reason)
        dataset = _with_encoded_images(dataset.remove_columns(unusable_columns), image_column)
        number = 0
        try:
            for values in _records(dataset):
                number += 1
                if split:
                    values["split"] = split
                yield Row(f"{name}, row {number}", json_row(values), path)
        except read_errors as error:
            reason = (
                f"The rows from {number + 1} on can't be read: {error}; save the dataset again."
            )
            yield Quarantined(name, reason)


def _records(dataset: Any) -> Iterator[dict[str, Any]]:
    """Yield the records of a dataset, class labels as their names."""
    from datasets import ClassLabel

    label_names = {
        column: feature.names
        for column, feature in dataset.features.items()
        if isinstance(feature, ClassLabel)
    }
    for batch in dataset.iter(_BATCH_SIZE):
        for cells in zip(*batch.values(), strict=True):
            values = dict(zip(batch, cells, strict=True))
            for column, names in label_names.items():
                label = values[column]
                values[column] = None if label is None or label < 0 else names[label]
            yield values


def _classify_columns(dataset: Any) -> tuple[str | None, list[str]]:
    """Return the image column, and the columns that can't be metadata."""
    from datasets import Image

    image_columns = [
        name for name, feature in dataset.features.items() if isinstance(feature, Image)
    ]
    if "image" in dataset.features:
        image_columns = ["image"]
    image_column = image_columns[0] if image_columns else None
    types = zip(dataset.column_names, dataset.data.schema.types, strict=True)
    unusable = [name for name, t in types if name != image_column and "binary" in str(t)]
    return image_column, unusable


def _with_encoded_images(dataset: Any, image_column: str | None) -> Any:
    """Return the dataset with its images as encoded bytes, in the column "image"."""
    from datasets import Image

    if image_column is not None and isinstance(dataset.features[image_column], Image):
        dataset = dataset.cast_column(image_column, Image(decode=False))
    if image_column is not None and image_column != "image":
        dataset = dataset.rename_column(image_column, "image")
    return dataset.with_format(None)
