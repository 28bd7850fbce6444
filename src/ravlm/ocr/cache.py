"""Results of text recognition on disk, by the content of the image: a rebuild costs nothing."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from ravlm.errors import InvalidInput
from ravlm.regions import Region
from ravlm.runtime import cache_folder

_TABLE = "CREATE TABLE IF NOT EXISTS result (image TEXT PRIMARY KEY, regions TEXT) WITHOUT ROWID"
_SECONDS = 10.0
"""How long a process waits for another one that writes."""
_BATCH = 500
_UNUSABLE = (sqlite3.Error, OSError, ValueError, InvalidInput)
"""A cache that is damaged, locked or on a full disk is no reason to fail: text is read again."""


class RecognitionCache:
    """The results of one recognizer; any number of processes may use it."""

    def __init__(self, fingerprint: str, folder: Path | None = None) -> None:
        """`folder` defaults to `ocr` in the cache folder of ravlm."""
        folder = cache_folder() / "ocr" if folder is None else folder
        self.path = folder / f"{hashlib.sha256(fingerprint.encode()).hexdigest()[:16]}.sqlite"

    def get(self, images: Sequence[str]) -> dict[str, list[Region]]:
        """Return the cached regions of `images`, which are hashes of their content."""
        results: dict[str, list[Region]] = {}
        if not self.path.is_file():
            return results
        with suppress(*_UNUSABLE), self._open() as db:
            for start in range(0, len(images), _BATCH):
                batch = images[start : start + _BATCH]
                marks = ",".join("?" * len(batch))
                sql = f"SELECT image, regions FROM result WHERE image IN ({marks})"  # noqa: S608
                for image, regions in db.execute(sql, batch):
                    results[image] = [Region.from_dict(row) for row in json.loads(regions)]
        return results

    def put(self, results: Mapping[str, Sequence[Region]]) -> None:
        """Store the regions of images, by the hashes of their content."""
        rows = [
            (image, json.dumps([region.to_dict() for region in regions], ensure_ascii=False))
            for image, regions in results.items()
        ]
        with suppress(*_UNUSABLE):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._open() as db:
                db.execute(_TABLE)
                db.executemany("INSERT OR REPLACE INTO result VALUES (?, ?)", rows)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=_SECONDS)) as db, db:
            yield db
