"""The served knowledge base and the model over it, with encoding and searching timed.

Other processes may change the base; the next search sees it. If another process re-encodes the
base, it is reopened without a restart. This module does not know HTTP."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from ravlm.data.addresses import AddressPolicy, allow_addresses
from ravlm.encoders.base import Encoder, Role
from ravlm.encoders.token_vectors import TokenVectors
from ravlm.errors import DamagedBase, DiskError, Mismatch
from ravlm.generation.auto import GeneratorName
from ravlm.knowledge.base import DEFAULT_OPTIONS, AnyModality, KnowledgeBase
from ravlm.model import RetrievalAugmentedVLM
from ravlm.ocr.base import OcrMode, OcrOptions
from ravlm.records import Answer, AnswerStream, Entry, Hit, ImageSource
from ravlm.regions import Region
from ravlm.retrieval.retriever import Retriever
from ravlm.search.filter_parser import Where
from ravlm.search.options import SearchOptions
from ravlm.serving.logs import log
from ravlm.serving.metrics import Metrics

T = TypeVar("T")


CACHE_SIZE = 512
"""Texts whose vectors a `TimedEncoder` caches."""


class TimedEncoder(Encoder):
    """An encoder whose time is counted as the stage "encode", with a small cache of text vectors.

    `precompute` fills the cache with one batch before a model encodes the same texts one by one."""

    def __init__(self, encoder: Encoder, metrics: Metrics) -> None:
        self._encoder = encoder
        self._metrics = metrics
        self._cache: OrderedDict[tuple[str, Role], np.ndarray] = OrderedDict()
        self._lock = threading.Lock()
        self.name = encoder.name
        self.dim = encoder.dim
        self.fingerprint = encoder.fingerprint
        self.languages = encoder.languages
        self.glosses = encoder.glosses
        self.image_size = encoder.image_size
        self.matryoshka_dims = encoder.matryoshka_dims
        self.asymmetric = encoder.asymmetric
        self.token_pooling = encoder.token_pooling

    @property
    def short_text_encoder(self) -> Encoder:
        encoder = self._encoder.short_text_encoder
        return self if encoder is self._encoder else encoder

    def encode_images(
        self, images: Sequence[ImageSource], batch_size: int = 32, role: Role = "document"
    ) -> np.ndarray:
        with self._metrics.stage("encode"):
            return self._encoder.encode_images(images, batch_size, role)

    def encode_image_tokens(
        self, images: Sequence[ImageSource], batch_size: int = 32, role: Role = "document"
    ) -> TokenVectors:
        with self._metrics.stage("encode"):
            return self._encoder.encode_image_tokens(images, batch_size, role)

    def encode_text_tokens(
        self, texts: Sequence[str], batch_size: int = 64, role: Role = "document"
    ) -> TokenVectors:
        with self._metrics.stage("encode"):
            return self._encoder.encode_text_tokens(texts, batch_size, role)

    def precompute(self, texts: Sequence[str]) -> None:
        """Encode `texts` in one batch and cache the vectors.

        If the encoder tells queries from documents, each is encoded to search with it, and to
        compare it with other texts. Token vectors are not cached.
        """
        if self.token_pooling:
            return
        unique = dict.fromkeys(texts)
        has_roles = "text" in self.asymmetric
        roles: tuple[Role, ...] = ("document", "query") if has_roles else ("document",)
        for role in roles:
            with self._lock:
                missing = [text for text in unique if (text, role) not in self._cache]
            if not missing:
                continue
            vectors = self.encode_texts(missing, role=role)  # (n, dim)
            with self._lock:
                keys = [(text, role) for text in missing]
                self._cache.update(zip(keys, vectors, strict=True))
                while len(self._cache) > CACHE_SIZE:
                    self._cache.popitem(last=False)

    def encode_texts(
        self, texts: Sequence[str], batch_size: int = 64, role: Role = "document"
    ) -> np.ndarray:
        cached_role = role if "text" in self.asymmetric else "document"
        keys = [(text, cached_role) for text in texts]
        with self._lock:
            cached = [self._cache[key] for key in keys if key in self._cache]
        if len(cached) == len(texts) > 0:
            return np.stack(cached)
        with self._metrics.stage("encode"):
            return self._encoder.encode_texts(texts, batch_size, role)

    def passages(self, text: str) -> list[str]:
        return self._encoder.passages(text)

    def prepare(self, image: Image.Image) -> Image.Image:
        return self._encoder.prepare(image)

    def gloss(self, text: str) -> str:
        return self._encoder.gloss(text)

    def save(self, folder: str | Path) -> None:
        self._encoder.save(folder)


class TimedKnowledgeBase(KnowledgeBase):
    """A knowledge base whose searches are counted as the stage "search"."""

    metrics: Metrics

    def search_many(
        self,
        queries: Sequence[Mapping[str, Any]],
        k: int = 10,
        modality: AnyModality = "any",
        where: Where = None,
        options: SearchOptions | Sequence[SearchOptions] = DEFAULT_OPTIONS,
    ) -> list[list[Hit]]:
        """Search as `KnowledgeBase.search_many` does, and time it."""
        with self.metrics.stage("search"):
            return super().search_many(queries, k, modality, where, options)


@dataclass(frozen=True)
class Session:
    """An open knowledge base, its encoder, and the model over it."""

    kb: TimedKnowledgeBase
    encoder: TimedEncoder
    model: RetrievalAugmentedVLM

    def remove(self, ids: Sequence[str]) -> dict[str, Any]:
        """Remove entries; return how many, and the ids that had none."""
        stored = {entry.id for entry in self.kb.get(ids)}
        missing = [id_ for id_ in dict.fromkeys(ids) if id_ not in stored]
        return {"removed": self.kb.remove(ids), "missing": missing}


class ServedModel:
    """A knowledge base and the model over it, kept open and reopened after a re-encoding.

    `encoder` replaces the one that the base names. `k` is the number of entries that a generator
    reads, `max_tokens` limits the replies of a chat model, `ocr` is as in `RetrievalAugmentedVLM`.
    Raises what `KnowledgeBase.open` and `RetrievalAugmentedVLM` raise.

    >>> served_model = ServedModel("kb", generator="starter")  # doctest: +SKIP
    >>> app = ravlm.serving.app.create_app(served_model)  # doctest: +SKIP
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        generator: GeneratorName = None,
        k: int = 4,
        encoder: Encoder | None = None,
        metrics: Metrics | None = None,
        max_tokens: int | None = None,
        ocr: OcrMode | OcrOptions = "auto",
    ) -> None:
        self.path = path
        self.metrics = metrics or Metrics()
        self.addresses: AddressPolicy = "none"
        """Which web addresses of stored images are fetched; an engine sets it from its
        settings."""
        self.is_damaged = False
        """Whether a request found the files of the base damaged; a sound verification clears it."""
        self._generator = generator
        self._k = k
        self._max_tokens = max_tokens
        self._ocr = ocr
        self._lock = threading.Lock()
        self._retired: list[Session] = []
        self._session = self._open(encoder)

    @property
    def session(self) -> Session:
        """The open session."""
        return self._session

    def run(self, task: Callable[[Session], T]) -> T:
        """Run `task` on the open session; reopen the base and run again if it was re-encoded."""
        session = self._session
        with allow_addresses(self.addresses), self._logged_faults():
            try:
                return task(session)
            except Mismatch:
                if not self._reopen(session):
                    raise
                return task(self._session)

    def stream(self, task: Callable[[Session], AnswerStream]) -> AnswerStream:
        """Run a task that returns a stream, and yield its pieces."""
        with closing(self.run(task)) as pieces:
            while True:
                with allow_addresses(self.addresses):
                    try:
                        piece = next(pieces)
                    except StopIteration as end:
                        answer: Answer = end.value
                        return answer
                yield piece

    @contextmanager
    def _logged_faults(self) -> Iterator[None]:
        """Log file errors, whose details clients do not see, and remember damage."""
        try:
            yield
        except (DamagedBase, DiskError) as error:
            self.is_damaged = self.is_damaged or isinstance(error, DamagedBase)
            log("knowledge base fault", reason=str(error))
            raise

    def verified_session(self) -> Session:
        """Return a session whose encoder matches the base now, for several calls in a row."""
        return self.run(_verify_encoder)

    def close(self) -> None:
        """Close all sessions."""
        for session in (*self._retired, self._session):
            session.kb.close()

    def _reopen(self, stale: Session) -> bool:
        """Reopen the base if it has another encoder than `stale`; return whether it has."""
        with self._lock:
            if self._session is stale:
                with KnowledgeBase.open(self.path) as kb:
                    if kb.info().fingerprint == stale.encoder.fingerprint:
                        return False
                self._retired.append(stale)  # other threads may still read from it
                self._session = self._open(None)
            return True

    def _open(self, encoder: Encoder | None) -> Session:
        if encoder is None:
            with KnowledgeBase.open(self.path) as plain_kb:
                encoder = plain_kb.encoder
        timed_encoder = TimedEncoder(encoder, self.metrics)
        kb = TimedKnowledgeBase.open(self.path, timed_encoder)
        assert isinstance(kb, TimedKnowledgeBase)  # `open` returns the class it is called on
        kb.metrics = self.metrics
        try:
            with allow_addresses(self.addresses):
                model = RetrievalAugmentedVLM(
                    kb, self._generator, self._k, ocr=self._ocr, max_tokens=self._max_tokens
                )
                Retriever(kb).calibrate()  # now, and not with the first request
        except BaseException:
            kb.close()
            raise
        return Session(kb, timed_encoder, model)


def _verify_encoder(session: Session) -> Session:
    session.kb.check_current()
    return session


def make_entry(
    entry_id: str,
    image: bytes | None,
    texts: Sequence[str],
    metadata: dict[str, Any],
    regions: Sequence[Region] = (),
) -> Entry:
    """Return an entry for the base; an empty id is replaced by a hash of the content."""
    from ravlm.knowledge.ingest import content_id

    entry = Entry(entry_id, image, tuple(texts), metadata, regions)
    return entry if entry_id else replace(entry, id=content_id(entry, entry.texts))
