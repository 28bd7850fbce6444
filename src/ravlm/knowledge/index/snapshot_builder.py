"""Build a snapshot from the store: gather the vectors of each modality, index and write them.

It works on a store connection of its own, so searches go on meanwhile. Vectors wait in a scratch
file, so memory is needed for one index and not for the base.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ravlm.data.parallel import batched
from ravlm.encoders.token_vectors import TokenVectors
from ravlm.errors import InvalidInput
from ravlm.files import temporary_folder
from ravlm.knowledge.index import snapshots, token_tuning, tuning
from ravlm.knowledge.index.auto import MIN_ROWS, tuned_kinds
from ravlm.knowledge.index.bm25 import KeywordIndex
from ravlm.knowledge.index.facets import FacetIndex
from ravlm.knowledge.index.faiss_index import FaissIndex
from ravlm.knowledge.index.maxsim_index import MaxSimIndex
from ravlm.knowledge.index.snapshots import ModalitySnapshot, SnapshotContents, StoredFieldSource
from ravlm.knowledge.index.source import IndexSource
from ravlm.knowledge.index.tuning import Requirements
from ravlm.knowledge.index.vector_index import (
    ROWS_PER_READ,
    missing_tokens,
    wrong_vector_length,
)
from ravlm.knowledge.records import MODALITY_BY_CODE, Identity
from ravlm.knowledge.reports import Trial, TuneReport
from ravlm.records import MODALITIES, Modality


@dataclass(frozen=True)
class ModalityVectors:
    """All vectors of a modality, with the part, entry and position of each row."""

    parts: np.ndarray
    """int64 (n,), ascending."""
    entries: np.ndarray
    positions: np.ndarray
    vectors: np.ndarray
    """float16 (n, dim), memory-mapped."""
    tokens: TokenVectors | None
    """Token vectors of each row, float16, memory-mapped; None if the encoder gives one vector."""
    scratch: Path
    """Folder for temporary files of this modality."""


GatheredVectors = Mapping[Modality, ModalityVectors]


def write(source: IndexSource, derived: Path, identity: Identity) -> None:
    """Write a snapshot of the current state of the base to the folder `derived`."""
    with _gathered(source, derived, identity) as (store, gathered):
        kind, recall = store.index_choice()
        indexes = _vector_indexes(gathered, kind, recall or tuning.RECALL)
        _write(derived, store, identity, gathered, indexes, _token_indexes(gathered, kind))


def tune(
    source: IndexSource,
    derived: Path,
    identity: Identity,
    requirements: Requirements,
    progress: Callable[[Trial], None],
) -> tuple[TuneReport, str]:
    """Measure the index kinds, write a snapshot with the best, and return the report and its kind.

    The modality with more vectors is measured. Raises InvalidInput if it has fewer than `MIN_ROWS`.
    """
    with _gathered(source, derived, identity) as (store, gathered):
        larger, smaller = sorted(MODALITIES, key=lambda m: -len(gathered[m].parts))
        num_rows = len(gathered[larger].parts)
        if num_rows < MIN_ROWS:
            raise InvalidInput(
                f"The base has {num_rows:,} vectors, too few to tune an index. "
                f"Add entries until it has at least {MIN_ROWS:,}."
            )
        if gathered[larger].tokens is not None:
            return _tune_tokens(derived, store, identity, gathered, requirements, progress)
        vectors = gathered[larger].vectors
        cross_modal = gathered[smaller].vectors
        kinds = tuned_kinds(identity.dim)
        results = list(tuning.run_trials(vectors, cross_modal, kinds, requirements, progress))
        best, trial = tuning.select_best(results, requirements, num_rows)
        second = tuning.build_tuned(cross_modal, vectors, best.kind, requirements.recall)
        _write(derived, store, identity, gathered, {larger: best, smaller: second}, {})
    trials = tuple(trial for _, trial in results)
    return TuneReport(trials, trial, requirements.met_by(trial, num_rows), num_rows), best.kind


@contextmanager
def _gathered(
    source: IndexSource, derived: Path, identity: Identity
) -> Iterator[tuple[IndexSource, GatheredVectors]]:
    """Yield the store in a fixed state, and its vectors in scratch files."""
    store = source.reopen()
    try:
        # the state is read until the scratch files are gone: `compact` waits for its readers
        with store.reading(), temporary_folder(derived) as scratch:
            yield store, _gather(store, scratch, identity)
    finally:
        store.close()


def _gather(store: IndexSource, scratch: Path, identity: Identity) -> GatheredVectors:
    dim = identity.dim
    numbers: dict[int, list[np.ndarray]] = {code: [] for code in MODALITY_BY_CODE}
    with ExitStack() as stack:
        files = {
            code: stack.enter_context(open(_scratch_folder(scratch, modality) / "vectors", "wb"))
            for code, modality in MODALITY_BY_CODE.items()
        }
        for batch in batched(store.parts_after(0), ROWS_PER_READ):
            if any(len(row[3]) != 2 * dim for row in batch):
                raise wrong_vector_length()
            for code, file in files.items():
                rows = [row for row in batch if row[2] == code]
                columns = [(part, entry, position) for part, entry, _, _, _, position in rows]
                numbers[code].append(np.array(columns, np.int64).reshape(-1, 3))
                file.writelines(row[3] for row in rows)
    tokens = _gather_tokens(store, scratch, dim) if identity.is_multi_vector else {}
    return {
        modality: _modality_vectors(numbers[code], scratch / modality, dim, tokens.get(code))
        for code, modality in MODALITY_BY_CODE.items()
    }


def _scratch_folder(scratch: Path, modality: Modality) -> Path:
    folder = scratch / modality
    folder.mkdir(exist_ok=True)
    return folder


def _gather_tokens(store: IndexSource, scratch: Path, dim: int) -> dict[int, TokenVectors]:
    """Write the token vectors of each modality to a file, and map it."""
    counts: dict[int, list[int]] = {code: [0] for code in MODALITY_BY_CODE}
    with ExitStack() as stack:
        files = {
            code: stack.enter_context(open(scratch / modality / "tokens", "wb"))
            for code, modality in MODALITY_BY_CODE.items()
        }
        for _, code, blob, _ in store.tokens_after(0):
            if not blob or len(blob) % (2 * dim):
                raise wrong_vector_length()
            counts[code].append(len(blob) // (2 * dim))
            files[code].write(blob)
    tokens = {}
    for code, modality in MODALITY_BY_CODE.items():
        starts = np.cumsum(np.array(counts[code], np.int64))
        tokens[code] = TokenVectors(
            _map(scratch / modality / "tokens", int(starts[-1]), dim), starts
        )
    return tokens


def _modality_vectors(
    numbers: list[np.ndarray], scratch: Path, dim: int, tokens: TokenVectors | None
) -> ModalityVectors:
    """Map the vectors in `scratch`; `numbers` are batches (n, 3) of part, entry and position."""
    columns = np.concatenate([*numbers, np.zeros((0, 3), np.int64)]).T.copy()
    if tokens is not None and len(tokens) != columns.shape[1]:
        raise missing_tokens()
    vectors = _map(scratch / "vectors", columns.shape[1], dim)
    return ModalityVectors(columns[0], columns[1], columns[2], vectors, tokens, scratch)


def _map(path: Path, num_rows: int, dim: int) -> np.ndarray:
    """Memory-map float16 vectors (num_rows, dim)."""
    shape = (num_rows, dim)
    return np.memmap(path, "<f2", "r", shape=shape) if num_rows else np.zeros(shape, "<f2")


def _vector_indexes(
    gathered: GatheredVectors, kind: str | None, recall: float
) -> dict[Modality, FaissIndex]:
    """Index the vectors of each modality, as `tuning.build_tuned` does."""
    return {
        modality: tuning.build_tuned(
            gathered[modality].vectors, gathered[cross_modality].vectors, kind, recall
        )
        for modality, cross_modality in zip(MODALITIES, MODALITIES[::-1], strict=True)
    }


def _token_indexes(gathered: GatheredVectors, kind: str | None) -> dict[Modality, MaxSimIndex]:
    """Index the token vectors, if there are any, with codes of `kind` or else of the default."""
    codec = token_tuning.choose_kind(kind)
    return {
        modality: MaxSimIndex.build(vectors.tokens, codec, vectors.scratch / "codes")
        for modality, vectors in gathered.items()
        if vectors.tokens is not None
    }


def _tune_tokens(
    derived: Path,
    store: IndexSource,
    identity: Identity,
    gathered: GatheredVectors,
    requirements: Requirements,
    progress: Callable[[Trial], None],
) -> tuple[TuneReport, str]:
    """Measure the kinds of codes, and write a snapshot with the best."""
    larger, smaller = sorted(MODALITIES, key=lambda m: -len(gathered[m].parts))
    vectors = gathered[larger]
    assert vectors.tokens is not None
    results = token_tuning.run_trials(vectors.tokens, vectors.scratch, requirements, progress)
    num_rows = len(vectors.parts)
    best, trial = token_tuning.select_best(results, requirements, num_rows)
    others = _token_indexes({smaller: gathered[smaller]}, best.kind)
    indexes = _vector_indexes(gathered, None, requirements.recall)
    _write(derived, store, identity, gathered, indexes, {larger: best, **others})
    trials = tuple(trial for _, trial in results)
    return TuneReport(trials, trial, requirements.met_by(trial, num_rows), num_rows), best.kind


def _write(
    derived: Path,
    store: IndexSource,
    identity: Identity,
    gathered: GatheredVectors,
    indexes: Mapping[Modality, FaissIndex],
    token_indexes: Mapping[Modality, MaxSimIndex],
) -> None:
    change = store.state().change
    keywords = KeywordIndex()
    keywords.update(store.words_after(0), [], change)
    facets = FacetIndex()
    facets.update(*store.facets_after(0))
    parts = np.concatenate([vectors.parts for vectors in gathered.values()])
    positions = np.concatenate([vectors.positions for vectors in gathered.values()])
    contents = SnapshotContents(
        base=identity.base,
        change=change,
        vectors={
            m: ModalitySnapshot(
                indexes[m], gathered[m].parts, gathered[m].entries, token_indexes.get(m)
            )
            for m in MODALITIES
        },
        keywords=keywords,
        facets=facets,
        stored_fields=StoredFieldSource(store.stored_fields(), parts, positions),
        checksums=store.newest_checksums(),
    )
    snapshots.write(derived, contents)
