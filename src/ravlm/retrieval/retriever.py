"""Turn requests into evidence: by their image, by their text, or both.

What a text names comes first, then what an image shows. The evidence carries the probability that
the base contains the subject of the request at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Evidence, ImageSource, Modality
from ravlm.retrieval.entity_linking import unmatched_entity_name
from ravlm.retrieval.image_retriever import ImageRetriever
from ravlm.retrieval.text_retriever import TextRetriever
from ravlm.search.filter_parser import Where

AdaptQuery: TypeAlias = "Callable[[np.ndarray, str], np.ndarray]"
"""Maps image vectors (n, dim) of an encoder, given with its fingerprint, to query vectors."""


@dataclass(frozen=True)
class RetrievalQuery:
    """A request, as far as retrieval is concerned. Raises InvalidInput without text and image."""

    text: str = ""
    image: ImageSource | None = None
    history: tuple[str, ...] | None = None
    """The user's earlier turns, oldest first, in a conversation; None outside of one."""
    accept_similar: bool = False
    """Whether entries may be evidence that are merely similar, if none is about the request."""

    def __post_init__(self) -> None:
        if not self.text and self.image is None:
            raise InvalidInput("There is no text and no image to retrieve for; give one of them.")


class Retriever:
    """Retrieves evidence from one knowledge base.

    >>> Retriever(kb).retrieve([RetrievalQuery("How tall is the Eiffel Tower?")], k=4)[0].subject
    'Eiffel Tower'
    """

    def __init__(self, kb: KnowledgeBase, max_false_answers: float | None = None) -> None:
        """`max_false_answers`: see `RetrievalAugmentedVLM`."""
        self.kb = kb
        self._texts = TextRetriever(kb)
        self._images = ImageRetriever(kb, max_false_answers)

    def retrieve(
        self,
        queries: Sequence[RetrievalQuery],
        k: int,
        where: Where = None,
        adapt_query: AdaptQuery | None = None,
        modality: Modality = "image",
    ) -> list[Evidence]:
        """Return the evidence for each query, with at most k hits.

        `adapt_query` and `modality` (of the parts that are compared with an image) belong to the
        generator and hold for images without a text, which are to be described.
        """
        batch = _Batch(queries, k, where)
        by_text = self._by_text(batch, [i for i, q in enumerate(queries) if _text_comes_first(q)])
        pending = [
            i
            for i, query in enumerate(queries)
            if query.image is not None and not (i in by_text and by_text[i].subject)
        ]
        by_image = self._by_image(batch, pending, adapt_query, modality)
        unsettled = {i for i in pending if self._needs_text(queries[i], by_image[i])}
        by_text |= self._by_text(batch, [i for i in unsettled if i not in by_text])
        evidence = [
            _choose(by_text.get(i), by_image.get(i), i in unsettled) for i in range(len(queries))
        ]
        evidence = self._follow_history(batch, evidence)
        return self._accept_similar(batch, evidence)

    def _by_text(self, batch: _Batch, indices: Sequence[int]) -> dict[int, Evidence]:
        if not indices:
            return {}
        texts = [batch.queries[i].text for i in indices]
        evidence = self._texts.retrieve(texts, batch.k, batch.where)
        return dict(zip(indices, evidence, strict=True))

    def _by_image(
        self,
        batch: _Batch,
        indices: Sequence[int],
        adapt_query: AdaptQuery | None,
        modality: Modality,
    ) -> dict[int, Evidence]:
        """Retrieve by image. Images without a text use the generator's query and modality."""
        alone = [i for i in indices if not batch.queries[i].text]
        with_text = [i for i in indices if batch.queries[i].text]
        results: dict[int, Evidence] = {}
        for group, adapt, compared in ((alone, adapt_query, modality), (with_text, None, "image")):
            if group:
                images = [image for i in group if (image := batch.queries[i].image) is not None]
                evidence = self._images.retrieve(images, batch.k, batch.where, adapt, compared)
                results |= zip(group, evidence, strict=True)
        return results

    def _needs_text(self, query: RetrievalQuery, by_image: Evidence) -> bool:
        """Whether the text must be looked up too: the image is unknown or not the subject."""
        if not query.text:
            return False
        if not by_image.sufficient:
            return True
        if query.accept_similar:
            return False
        return bool(unmatched_entity_name(query.text, self.kb.encoder.gloss, by_image.hits))

    def _follow_history(self, batch: _Batch, evidence: Sequence[Evidence]) -> list[Evidence]:
        """Replace the evidence of a turn that names nothing by that of the last turn that does."""
        results = list(evidence)
        open_turns = [
            i
            for i, query in enumerate(batch.queries)
            if query.history and query.image is None and not evidence[i].subject
        ]
        texts = list(dict.fromkeys(t for i in open_turns for t in batch.queries[i].history or ()))
        if not texts:
            return results
        earlier = self._texts.retrieve(texts, batch.k, batch.where)
        by_turn = dict(zip(texts, earlier, strict=True))
        for i in open_turns:
            turns = [by_turn[text] for text in reversed(batch.queries[i].history or ())]
            last_named = next((turn for turn in turns if turn.subject), None)
            if last_named is not None:
                results[i] = replace(last_named, subject="")
        return results

    def _accept_similar(self, batch: _Batch, evidence: Sequence[Evidence]) -> list[Evidence]:
        """Give queries without hits the most similar entries, if they accept those."""
        results = list(evidence)
        empty = [
            i
            for i, query in enumerate(batch.queries)
            if query.accept_similar and query.text and not evidence[i].hits
        ]
        if not empty:
            return results
        texts = [batch.queries[i].text for i in empty]
        similar = self._texts.most_similar(texts, batch.k, batch.where)
        for i, replacement in zip(empty, similar, strict=True):
            results[i] = replacement
        return results


@dataclass(frozen=True)
class _Batch:
    """The arguments of one call of `retrieve`."""

    queries: Sequence[RetrievalQuery]
    k: int
    where: Where


def _text_comes_first(query: RetrievalQuery) -> bool:
    """In a conversation, an entity that is named goes before the image of an earlier turn."""
    return bool(query.text) and (query.image is None or query.history is not None)


def _choose(text: Evidence | None, image: Evidence | None, unsettled: bool) -> Evidence:
    """Choose between what the text names and what the image shows."""
    if text is None or image is None:
        return text or image or Evidence()
    if text.subject:
        return text
    return text if unsettled and image.sufficient else image
