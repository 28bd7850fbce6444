"""Parquet: one column per key. `image` holds paths, bytes, or Hugging Face's {bytes, path}.

The file is read one row group at a time. Dates become ISO strings, decimals floats; an empty value
is no value. Bytes can't be metadata: any other column that contains them is left out and reported.
Two columns of one name are refused. A few bytes can stand for a billion equal rows, or for one long
value in each of them: what the file declares is compared with its size, and fewer rows are read at
a time.
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

MAX_ROWS_PER_BYTE = 1000
"""Rows of a file, per byte; a million rows that are all equal take some kilobytes."""
MAX_COLUMN_BYTES = 1 << 32
"""Bytes of a column in a row group, which Arrow decompresses page by page."""
MAX_EXPANSION = 1000
"""How many times larger than its compressed bytes a column above `MAX_BATCH_BYTES` may be."""
MIN_EXPANDED_BYTES = 1 << 30
"""Bytes that the rows of a file of any size may have; more are at most `MAX_EXPANSION` times it."""
MAX_BATCH_BYTES = 1 << 28
"""Bytes of the rows in memory at a time, if all have the longest value that is possible."""
_MAX_DICTIONARY_BYTES = 1 << 21
"""Compressed bytes of a usual dictionary of values; writers stop at 1 MB."""
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
        if file.metadata.num_rows > MAX_ROWS_PER_BYTE * path.stat().st_size:
            raise BrokenData(
                f'"{path}" declares {file.metadata.num_rows:,} rows, too many for its size; '
                "write it again."
            )
        budget = _ByteBudget(max(MIN_EXPANDED_BYTES, MAX_EXPANSION * path.stat().st_size))
        start = 0
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            number = start
            try:
                for row in _rows_of_group(file, path, group, columns, start, budget):
                    number += 1
                    yield row
            except read_errors as error:
                location = f"{path}, rows {number + 1} to {end}"
                yield Quarantined(location, f"The rows can't be read: {error}.")
            start = end
            if budget.bytes < 0:
                return


class _ByteBudget:
    """Bytes that are left for the rows of a file."""

    def __init__(self, max_bytes: int) -> None:
        self.bytes = max_bytes

    def spend(self, num_bytes: int) -> None:
        """Raise ValueError if they exceed the budget."""
        self.bytes -= num_bytes
        if self.bytes < 0:
            raise ValueError(f"they are more than {MAX_EXPANSION:,} times as large as the file")


def _rows_of_group(
    file: Any, path: Path, group: int, columns: list[str], start: int, budget: _ByteBudget
) -> Iterator[Row | Quarantined]:
    """Yield the rows of a row group; `start` is the number of rows before it."""
    number = start
    batch_size = _bounded_batch_size(file.metadata.row_group(group))
    for batch in file.iter_batches(batch_size, row_groups=[group], columns=columns):
        budget.spend(batch.nbytes)
        for values in _decode(batch):
            number += 1
            location = f"{path}, row {number}"
            if values is None:
                yield Quarantined(location, "Its text is not UTF-8; write the file again.")
            else:
                yield Row(location, json_row(values), path.parent)


def _bounded_batch_size(group: Any) -> int:
    """Return how many rows of a row group fit in memory. Raises ValueError if one does not."""
    max_value_bytes = 0
    for number in range(group.num_columns):
        column = group.column(number)
        size, compressed = column.total_uncompressed_size, column.total_compressed_size
        expands = size > MAX_BATCH_BYTES and size > MAX_EXPANSION * compressed
        if size > MAX_COLUMN_BYTES or expands:
            raise ValueError(f'the column "{column.path_in_schema}" expands to {size:,} bytes')
        dictionary_bytes = 0
        if column.has_dictionary_page:
            dictionary_bytes = column.data_page_offset - column.dictionary_page_offset
        if dictionary_bytes > _MAX_DICTIONARY_BYTES or size > _BATCH_SIZE * compressed:
            max_value_bytes += size  # each row may have the one long value of the dictionary
    return max(1, min(_BATCH_SIZE, MAX_BATCH_BYTES // max(1, max_value_bytes)))


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
