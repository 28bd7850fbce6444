"""The knowledge base that is served and the model over it, watched: what is encoded and searched is
timed.

Another process may change the base (it is seen by the next search) or give it another encoder's
vectors: it is then opened again, without a restart. Knows no HTTP."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from ravlm.encoders.base import DualEncoder
from ravlm.errors import Mismatch
from ravlm.generation.auto import GeneratorName
from ravlm.knowledge.base import DEFAULT_OPTIONS, AnyModality, KnowledgeBase
from ravlm.model import RetrievalAugmentedVLM
from ravlm.records import Hit, ImageSource
from ravlm.search.filter_parser import Where
from ravlm.search.options import SearchOptions
from ravlm.serving.metrics import Metrics

T = TypeVar("T")


REMEMBERED = 512


class WatchedEncoder(DualEncoder):
    """An encoder whose time is counted as the stage "encode", and that encodes words ahead of those
    who will ask."""

    def __init__(self, encoder: DualEncoder, metrics: Metrics) -> None:
        self._encoder, self._metrics = encoder, metrics
        self._memory: OrderedDict[str, np.ndarray] = OrderedDict()
        self._alone = threading.Lock()
        self.name, self.dim, self.fingerprint = encoder.name, encoder.dim, encoder.fingerprint
        self.languages, self.glosses, self.image_size = (
            encoder.languages,
            encoder.glosses,
            encoder.image_size,
        )

    def encode_images(self, images: Sequence[ImageSource], batch_size: int = 32) -> np.ndarray:
        with self._metrics.stage("encode"):
            return self._encoder.encode_images(images, batch_size)

    def remember(self, texts: Sequence[str]) -> None:
        """Encode texts together that will be asked for one by one."""
        words = dict.fromkeys(each for text in texts for each in (text, self.gloss(text)))
        with self._alone:
            missing = [text for text in words if text not in self._memory]
        if missing:
            vectors = self.encode_texts(missing)
            with self._alone:
                self._memory.update(zip(missing, vectors, strict=True))
                while len(self._memory) > REMEMBERED:
                    self._memory.popitem(last=False)

    def encode_texts(self, texts: Sequence[str], batch_size: int = 64) -> np.ndarray:
        with self._alone:
            known = [self._memory[text] for text in texts if text in self._memory]
        if len(known) == len(texts) > 0:
            return np.stack(known)
        with self._metrics.stage("encode"):
            return self._encoder.encode_texts(texts, batch_size)

    def passages(self, text: str) -> list[str]:
        return self._encoder.passages(text)

    def prepare(self, image: Image.Image) -> Image.Image:
        return self._encoder.prepare(image)

    def gloss(self, text: str) -> str:
        return self._encoder.gloss(text)

    def save(self, folder: str | Path) -> None:
        self._encoder.save(folder)


class WatchedBase(KnowledgeBase):
    """A knowledge base whose searches are counted as the stage "search"."""

    metrics: Metrics

    def search_many(
        self,
        queries: Sequence[Mapping[str, Any]],
        k: int = 10,
        modality: AnyModality = "any",
        where: Where = None,
        options: SearchOptions = DEFAULT_OPTIONS,
    ) -> list[list[Hit]]:
        """As `KnowledgeBase.search_many`."""
        with self.metrics.stage("search"):
            return super().search_many(queries, k, modality, where, options)


@dataclass(frozen=True)
class Session:
    """A base as it was opened, its encoder, and the model over it."""

    kb: WatchedBase
    encoder: WatchedEncoder
    model: RetrievalAugmentedVLM


class ServedModel:
    """Opens the base at `path` and the model over it. Raises what these raise.

    `encoder`: instead of the one that the base names. `k`: entries a generator reads.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        generator: GeneratorName = "extractive",
        k: int = 4,
        encoder: DualEncoder | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.path, self.metrics = path, metrics or Metrics()
        self._generator, self._k = generator, k
        self._alone = threading.Lock()
        self._retired: list[Session] = []
        self._opened = self._open(encoder)

    @property
    def now(self) -> Session:
        """The base as it is open now."""
        return self._opened

    def run(self, work: Callable[[Session], T]) -> T:
        """`work` on the open base; where that was re-encoded meanwhile, on the base opened
        again."""
        opened = self._opened
        try:
            return work(opened)
        except Mismatch:
            if not self._reopened(opened):
                raise
            return work(self._opened)

    def fresh(self) -> Session:
        """The open base, opened again where it was re-encoded: for several calls that go
        together."""
        return self.run(_proved)

    def close(self) -> None:
        """Give the files back."""
        for opened in (*self._retired, self._opened):
            opened.kb.close()

    def _reopened(self, old: Session) -> bool:
        """Whether the base has another encoder than `old`, and is open with it now."""
        with self._alone:
            if self._opened is old:
                with KnowledgeBase.open(self.path) as kb:
                    if kb.info().fingerprint == old.encoder.fingerprint:
                        return False
                self._retired.append(old)  # others may be reading from it still
                self._opened = self._open(None)
            return True

    def _open(self, encoder: DualEncoder | None) -> Session:
        if encoder is None:
            with KnowledgeBase.open(self.path) as plain:
                encoder = plain.encoder
        watched = WatchedEncoder(encoder, self.metrics)
        kb = WatchedBase.open(self.path, watched)
        assert isinstance(kb, WatchedBase)  # `open` makes what it is called on
        kb.metrics = self.metrics
        try:
            return Session(kb, watched, RetrievalAugmentedVLM(kb, self._generator, self._k))
        except BaseException:
            kb.close()
            raise


def _proved(opened: Session) -> Session:
    opened.kb.check_same()
    return opened
