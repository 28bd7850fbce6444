"""Parquet: a column a key. `image` holds paths, bytes, or Hugging Face's {bytes, path}.

Read row group by row group. Dates become ISO strings, decimals floats; an empty value is no value.
Bytes outside of `image` can't be metadata: such a column is left out, and said so. Knows nothing
else of what the columns mean."""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ravlm.data.rows import Quarantined, Row
from ravlm.errors import BrokenData, MissingExtra

_BATCH = 64  # rows held at a time: they may carry pictures
_INDEX = "__index_level_0__"  # what pandas adds


def recognises(path: Path, head: bytes) -> bool:
    """Whether the content begins with Parquet's mark."""
    return head.startswith(b"PAR1")


def rows(path: Path) -> Iterator[Row | Quarantined]:
    """A row a record; a row group that can't be read is one refusal. Raises BrokenData for a
    damaged file."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra("pyarrow", "parquet", "Reading Parquet files") from None
    broken = (
        pyarrow.ArrowException,
        OSError,
        ValueError,
    )  # names that are no UTF-8 are a ValueError
    try:
        file = parquet.ParquetFile(path)
    except broken as error:
        raise BrokenData(
            f'"{path}" begins like Parquet and can\'t be read: {error}; write it again.'
        ) from None
    with file:
        columns = [field.name for field in file.schema_arrow if field.name != _INDEX]
        for field in file.schema_arrow:
            if field.name != "image" and "binary" in str(
                field.type
            ):  # alone, or within a struct or list
                columns.remove(field.name)
                reason = "It holds bytes, which metadata can't; the column is left out, the rows are kept."
                yield Quarantined(f'{path}, column "{field.name}"', reason)
        number = 0
        for group in range(file.num_row_groups):
            end = number + file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(_BATCH, row_groups=[group], columns=columns):
                    for values in _values(batch):
                        number += 1
                        place = f"{path}, row {number}"
                        if values is None:
                            yield Quarantined(place, "Its text is not UTF-8; write the file again.")
                        else:
                            yield Row(place, plain_row(values), path.parent)
            except broken as error:
                yield Quarantined(
                    f"{path}, rows {number + 1} to {end}", f"They can't be read: {error}."
                )
                number = end


def _values(batch: Any) -> list[dict[str, Any] | None]:
    """The rows of a batch; None for one whose text can't be decoded, which fails the conversion of
    all."""
    try:
        return batch.to_pylist()
    except UnicodeDecodeError:
        if batch.num_rows == 1:
            return [None]
        return [row for number in range(batch.num_rows) for row in _values(batch.slice(number, 1))]


def plain_row(values: dict[str, Any]) -> dict[str, Any]:
    """A record in JSON types, its picture as bytes or path; what is empty is left out."""
    found = {key: value if key == "image" else plain(value) for key, value in values.items()}
    image = found.get("image")
    if isinstance(image, dict):
        found["image"] = image.get("bytes") or image.get("path")
    return {key: value for key, value in found.items() if value is not None}


def plain(value: Any) -> Any:
    """`value` in JSON types."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal):
        value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
