"""Turn requests into evidence, all of a batch in one call.

What a text names comes first, then what an image shows. The evidence carries the probability that
the base contains the subject of the request at all."""

from __future__ import annotations

from collections.abc import Sequence

from ravlm.knowledge.base import KnowledgeBase
from ravlm.ocr.base import OcrMode, OcrOptions
from ravlm.ocr.print_reader import PrintReader
from ravlm.records import Evidence, Modality
from ravlm.retrieval.image_copies import ImageProgress
from ravlm.retrieval.image_retriever import AdaptQuery, ImageRetriever
from ravlm.retrieval.query import RetrievalQuery, choose_evidence
from ravlm.retrieval.text_retriever import TextRetriever
from ravlm.search.filter_parser import Where


class Retriever:
    """Retrieves evidence from one knowledge base.

    >>> Retriever(kb).retrieve([RetrievalQuery("How tall is the Eiffel Tower?")], k=4)[0].subject
    'Eiffel Tower'
    """

    def __init__(
        self,
        kb: KnowledgeBase,
        max_false_answers: float | None = None,
        progress: ImageProgress | None = None,
        ocr: OcrMode | OcrOptions = "auto",
    ) -> None:
        """`max_false_answers`, `progress`, `ocr`: see `RetrievalAugmentedVLM`."""
        self._kb = kb
        self._texts = TextRetriever(kb)
        print_reader = PrintReader(OcrOptions.of(ocr))
        self._images = ImageRetriever(kb, max_false_answers, progress, print_reader)

    def calibrate(self) -> None:
        """Fit what questions about images need, unless it is stored with the base and still fits.

        Otherwise the first such question does.
        """
        _ = self._images.calibration

    def retrieve(
        self,
        queries: Sequence[RetrievalQuery],
        k: int,
        where: Where = None,
        adapt_query: AdaptQuery | None = None,
        modality: Modality = "image",
    ) -> list[Evidence]:
        """Return the evidence for each query, with at most k hits.

        `adapt_query` and `modality` (of the parts that are compared with an image) are those of the
        generator. They hold for images without a text, which are to be described.
        """
        numbered = dict(enumerate(queries))
        texts = {i: q.text for i, q in numbered.items() if q.text_first}
        by_text = self._texts.retrieve(texts, k, where)

        # An image that comes with the name of an entity is not looked up.
        images = {
            i: q.image
            for i, q in numbered.items()
            if q.image is not None and not (i in by_text and by_text[i].subject)
        }
        alone = {i: image for i, image in images.items() if not queries[i].text}
        with_text = {i: image for i, image in images.items() if queries[i].text}
        by_image = self._images.retrieve(alone, k, where, adapt_query, modality)
        by_image |= self._images.retrieve(with_text, k, where, read_print=True)

        # The text decides where the image is unknown or not the subject.
        gloss = self._kb.encoder.gloss
        unsettled = {i for i in images if queries[i].needs_text(by_image[i], gloss)}
        texts = {i: queries[i].text for i in unsettled if i not in by_text}
        by_text |= self._texts.retrieve(texts, k, where)
        evidence = {
            i: choose_evidence(by_text.get(i), by_image.get(i), i in unsettled) for i in numbered
        }

        # A turn that names nothing keeps to what was named last.
        histories = {
            i: q.history for i, q in numbered.items() if q.history and not evidence[i].subject
        }
        last_named = {
            i: source
            for i, source in self._texts.retrieve_last_named(histories, k, where).items()
            if not queries[i].names_other_subject(source.hits)
        }
        follow_ups = {
            i: queries[i].follow_up
            for i in histories.keys() - last_named.keys()
            if queries[i].image is None and queries[i].follow_up
        }
        evidence |= last_named | self._texts.retrieve(follow_ups, k, where)
        empty = {
            i: q.text
            for i, q in numbered.items()
            if q.accept_similar and q.text and not (evidence[i].hits and evidence[i].linked)
        }
        evidence |= self._texts.retrieve_similar(empty, k, where)
        return [evidence[i] for i in numbered]
