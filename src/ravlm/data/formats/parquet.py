"""Parquet: one column per key. `image` holds paths, bytes, or Hugging Face's {bytes, path}.

The file is read one row group at a time. Dates become ISO strings, decimals floats; an empty value
is no value. Bytes can't be metadata: any other column that contains them is left out and reported.
Two columns of one name are refused.
"""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ravlm.data.rows import Quarantined, Row, check_column_names
from ravlm.errors import BrokenData, MissingExtra

_BATCH_SIZE = 64  # rows in memory at a time: they may contain images
_PANDAS_INDEX = "__index_level_0__"


def recognizes(path: Path, head: bytes) -> bool:
    """Return whether the content begins with Parquet's magic number."""
    return head.startswith(b"PAR1")


def read_rows(path: Path) -> Iterator[Row | Quarantined]:
    """Yield one row per record. A row group that can't be read becomes one quarantined item.

    Raises BrokenData for a damaged file, InvalidInput if two columns have the same name, and
    MissingExtra without pyarrow.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra("pyarrow", "parquet", "Reading Parquet files") from None
    # A column name that is not UTF-8 is a ValueError.
    read_errors = (pyarrow.ArrowException, OSError, ValueError)
    try:
        file = parquet.ParquetFile(path)
    except read_errors as error:
        raise BrokenData(
            f'"{path}" begins like Parquet but can\'t be read: {error}; write it again.'
        ) from None
    with file:
        check_column_names(file.schema_arrow.names, path)
        columns = [field.name for field in file.schema_arrow if field.name != _PANDAS_INDEX]
        for field in file.schema_arrow:
            # "binary" alone, or within a struct or list
            if field.name != "image" and "binary" in str(field.type):
                columns.remove(field.name)
                reason = "It holds bytes, which can't be metadata; the column was left out."
                yield Quarantined(f'{path}, column "{field.name}"', reason)
        start = 0
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            number = start
            try:
                for row in _rows_of_group(file, path, group, columns, start):
                    number += 1
                    yield row
            except read_errors as error:
                location = f"{path}, rows {number + 1} to {end}"
                yield Quarantined(location, f"The rows can't be read: {error}.")
            start = end


def _rows_of_group(
    file: Any, path: Path, group: int, columns: list[str], start: int
) -> Iterator[Row | Quarantined]:
    """Yield the rows of a row group; `start` is the number of rows before it."""
    number = start
    for batch in file.iter_batches(_BATCH_SIZE, row_groups=[group], columns=columns):
        for values in _decode(batch):
            number += 1
            location = f"{path}, row {number}"
            if values is None:
                yield Quarantined(location, "Its text is not UTF-8; write the file again.")
            else:
                yield Row(location, json_row(values), path.parent)


def _decode(batch: Any) -> list[dict[str, Any] | None]:
    """Return the rows of a batch. None marks a row with invalid text.

    One such row fails the conversion of its whole batch, which is then converted row by row.
    """
    try:
        return batch.to_pylist()
    except UnicodeDecodeError:
        if batch.num_rows == 1:
            return [None]
        return [row for number in range(batch.num_rows) for row in _decode(batch.slice(number, 1))]


def json_row(values: dict[str, Any]) -> dict[str, Any]:
    """Return a record in JSON types, its image as bytes or path, without empty values."""
    row = {key: value if key == "image" else json_value(value) for key, value in values.items()}
    image = row.get("image")
    if isinstance(image, dict):
        row["image"] = image.get("bytes") or image.get("path")
    return {key: value for key, value in row.items() if value is not None}


def json_value(value: Any) -> Any:
    """Return `value` in JSON types; a number that is not finite becomes None."""
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal):
        value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
