"""A snapshot made of the store: the vectors of each modality gathered, indexed and written, with
words and facets.

Works on a connection of its own, so that searches go on meanwhile, and with memory for one index,
not for the base: the vectors wait in a file. Knows how indexes are chosen (see `tuning`), no
search."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ravlm.data.parallel import batched
from ravlm.errors import BrokenData, InvalidInput
from ravlm.knowledge.index import snapshots, tuning
from ravlm.knowledge.index.bm25 import KeywordIndex
from ravlm.knowledge.index.facets import FacetIndex
from ravlm.knowledge.index.faiss_index import MIN_ROWS, FaissIndex, possible_kinds
from ravlm.knowledge.index.snapshots import Contents, Shown
from ravlm.knowledge.index.source import IndexSource
from ravlm.knowledge.index.tuning import Requirements
from ravlm.knowledge.index.vector_index import ROWS_PER_READ
from ravlm.knowledge.records import MODALITY_BY_CODE, Identity
from ravlm.knowledge.reports import Trial, TuneReport
from ravlm.records import MODALITIES, Modality

TRIED = ("bytes", "ivf", "hnsw")
"""Kinds that `tune` measures: half precision is twice as large as bytes, and no faster."""


@dataclass(frozen=True)
class Gathered:
    """All vectors of a modality: numbers of parts, ascending, with entries and positions, and
    vectors (n, dim), float16 on disk."""

    parts: np.ndarray
    entries: np.ndarray
    positions: np.ndarray
    vectors: np.ndarray


def write(source: IndexSource, derived: Path, identity: Identity) -> None:
    """Write the snapshot of the base in `folder` in its present state to `derived`."""
    with _gathered(source, derived, identity) as (store, found):
        kind, recall = store.index_choice()
        made = {
            modality: tuning.made_for(
                found[modality].vectors, found[other].vectors, kind, recall or tuning.RECALL
            )
            for modality, other in zip(MODALITIES, MODALITIES[::-1], strict=True)
        }
        _write(derived, store, identity, found, made)


def tune(
    source: IndexSource,
    derived: Path,
    identity: Identity,
    wishes: Requirements,
    told: Callable[[Trial], None],
) -> tuple[TuneReport, str]:
    """Measure the kinds on the modality with the most vectors, and write a snapshot with the best;
    and its kind."""
    with _gathered(source, derived, identity) as (store, found):
        larger = max(MODALITIES, key=lambda modality: len(found[modality].parts))
        other = next(modality for modality in MODALITIES if modality != larger)
        rows = len(found[larger].parts)
        if rows < MIN_ROWS:
            raise InvalidInput(
                f"The base has {rows:,} vectors, too few to measure; tune it from {MIN_ROWS:,} on."
            )
        kinds = [kind for kind in TRIED if kind in possible_kinds(identity.dim)]
        both = list(tuning.trials(found[larger].vectors, found[other].vectors, kinds, wishes, told))
        best, trial = tuning.best_of(both, wishes, rows)
        rest = tuning.made_for(
            found[other].vectors, found[larger].vectors, best.kind, wishes.recall
        )
        _write(derived, store, identity, found, {larger: best, other: rest})
    return TuneReport(tuple(t for _, t in both), trial, wishes.met_by(trial, rows), rows), best.kind


@contextmanager
def _gathered(
    source: IndexSource, derived: Path, identity: Identity
) -> Iterator[tuple[IndexSource, dict[Modality, Gathered]]]:
    """The vectors of both modalities in scratch files, and the store in the state that they are
    of."""
    derived.mkdir(parents=True, exist_ok=True)
    store = source.reopen()
    try:
        with TemporaryDirectory(prefix=".aside-", dir=derived) as scratch, store.reading():
            yield store, _gather(store, Path(scratch), identity.dim)
    finally:
        store.close()


def _gather(store: IndexSource, scratch: Path, dim: int) -> dict[Modality, Gathered]:
    numbers: dict[int, list[np.ndarray]] = {code: [] for code in MODALITY_BY_CODE}
    files = {code: open(scratch / name, "wb") for code, name in MODALITY_BY_CODE.items()}  # noqa: SIM115
    try:
        for some in batched(store.parts_after(0), ROWS_PER_READ):
            if any(len(row[3]) != 2 * dim for row in some):
                raise BrokenData(
                    "A vector of the base has another length than the rest: run `ravlm verify` on it."
                )
            for code, file in files.items():
                rows = [row for row in some if row[2] == code]
                numbers[code].append(
                    np.array([(row[0], row[1], row[5]) for row in rows], np.int64).reshape(-1, 3)
                )
                file.writelines(row[3] for row in rows)
    finally:
        for file in files.values():
            file.close()
    found: dict[Modality, Gathered] = {}
    for code, name in MODALITY_BY_CODE.items():
        columns = np.concatenate([*numbers[code], np.zeros((0, 3), np.int64)]).T.copy()
        shape = (columns.shape[1], dim)
        vectors = (
            np.memmap(scratch / name, "<f2", "r", shape=shape) if shape[0] else np.zeros(shape)
        )
        found[name] = Gathered(columns[0], columns[1], columns[2], vectors)
    return found


def _write(
    derived: Path,
    store: IndexSource,
    identity: Identity,
    found: Mapping[Modality, Gathered],
    made: Mapping[Modality, FaissIndex],
) -> None:
    words, facets, state = KeywordIndex(), FacetIndex(), store.state()
    words.update(store.words_after(0), [], state.change)
    facets.update(*store.facets_after(0))
    vectors = {m: (made[m], found[m].parts, found[m].entries) for m in MODALITIES}
    parts, positions = (
        np.concatenate([getattr(f, name) for f in found.values()])
        for name in ("parts", "positions")
    )
    shown = Shown(store.stored_fields(), parts, positions)
    contents = Contents(
        identity.base, state.change, vectors, words, facets, shown, store.newest_checksums()
    )
    snapshots.write(derived, contents)
