"""Write a short story from the evidence: four to eight sentences, each supported and cited.

A story about an entity has the best sentences of its prose and its facts; one about photos with
captions has only what their captions agree on. What an entry says about its rights and sources is
left out. English and Chinese."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ravlm.data.facts import entity_key
from ravlm.data.lexical_overlap import content_words
from ravlm.data.text import is_chinese
from ravlm.generation.base import Request, abstain, cited_parts
from ravlm.generation.extractive.caption_agreement import CaptionSet, agreed_caption, are_captions
from ravlm.generation.extractive.embedding_cache import EmbeddingCache
from ravlm.generation.extractive.entity_story import EntityText, read_entity, shorten, tell_entity
from ravlm.generation.support import SupportChecker
from ravlm.records import Answer, Hit

_MAX_SENTENCES = 8
_MAX_CITATIONS = 3
_MAX_SENTENCES_PER_ENTITY = 3
"""In a story about several entities."""
_SAME_ENTITY = 0.5
"""From this weight on the story is about the first entity alone."""
_MIN_OWN_CAPTION_WEIGHT = 0.6
"""From this weight on a photo's own captions are used if they agree with no other's."""
_SAME_MEANING = 0.86
_ASKS_FOR_MORE = re.compile(r"\b(?:more|else|another)\b|更多|还有|再", re.IGNORECASE)
_UNSURE = {
    False: "The knowledge base does not know this image for certain; this is the closest match.",
    True: "知识库不能确定这张图片是什么；下面是最接近的内容。",
}


@dataclass(frozen=True)
class StorySentence:
    """A sentence of a story, and the hit it comes from."""

    text: str
    hit: Hit


def write_story(request: Request, vectors: EmbeddingCache) -> Answer:
    """Return the story for a request, without sentences from earlier in its conversation."""
    evidence = request.evidence
    hits = [shorten(hit) for hit in evidence.hits]
    likely = _likely(hits, evidence.weights)
    if request.image is not None and are_captions(likely):
        hits = [hit for hit in hits if are_captions([hit])]
        sentences = _caption_story(request, hits)
    else:
        hits = likely
        sentences = _entity_stories(request, hits)
    sentences = _without_repetition(sentences, vectors)
    new = _new_sentences(request, sentences)[:_MAX_SENTENCES]
    if not new:
        return abstain(request, "the evidence has no text that can be told")

    citations = list(dict.fromkeys(s.hit.entry.id for s in new))[:_MAX_CITATIONS]
    new = [s for s in new if s.hit.entry.id in citations]
    quotes = {s.hit.entry.id: s.text for s in reversed(new)}
    chinese = is_chinese(new[0].text)
    space = "" if chinese else " "
    body = [f"{s.text}{space}[{citations.index(s.hit.entry.id) + 1}]" for s in new]
    is_unsure = request.image is not None and not evidence.sufficient
    opening = [_UNSURE[chinese]] if is_unsure else []
    confidence = evidence.support * sum(evidence.weights[: len(hits)])
    return Answer(
        text=space.join([*opening, *body]),
        evidence=evidence.hits,
        citations=tuple(citations),
        sources=cited_parts(citations, evidence.hits, quotes),
        confidence=round(min(1.0, confidence), 4),
        trace=dict(evidence.trace),
    )


def _new_sentences(request: Request, sentences: Sequence[StorySentence]) -> Sequence[StorySentence]:
    """Return the sentences that the conversation does not have yet; all if it has every one, unless
    its last message asks for more."""
    earlier = " ".join(message.text for message in request.messages if message.role == "assistant")
    new = [sentence for sentence in sentences if sentence.text not in earlier]
    last = request.messages[-1].text if request.messages else ""
    return new if new or _ASKS_FOR_MORE.search(last) else sentences


def _likely(hits: Sequence[Hit], weights: Sequence[float]) -> list[Hit]:
    """Return the hits of the first entity if it is likely, else the first few of similar weight."""
    if weights and weights[0] >= _SAME_ENTITY:
        return [hit for hit in hits if entity_key(hit.entry) == entity_key(hits[0].entry)]
    return [hit for hit, weight in zip(hits, weights, strict=True) if weight >= weights[0] / 2][
        : _MAX_CITATIONS + 1
    ]


def _caption_story(request: Request, hits: Sequence[Hit]) -> list[StorySentence]:
    """Return one sentence: what the captions of similar photos agree on."""
    ids = [hit.entry.id for hit in request.evidence.hits]
    weights = [max(request.evidence.weights[ids.index(h.entry.id)], 1e-6) for h in hits]
    pairs = [(text, n) for n, hit in enumerate(hits) for text in hit.entry.texts]
    pairs = [pair for pair in pairs if is_chinese(pair[0]) == request.chinese] or pairs
    chinese = is_chinese(pairs[0][0])
    caption = agreed_caption(
        CaptionSet([text for text, _ in pairs], [n for _, n in pairs], weights)
    )
    first_captions = [text for text, n in pairs if n == 0]
    if not caption and first_captions and weights[0] >= _MIN_OWN_CAPTION_WEIGHT:
        owners = [0] * len(first_captions)
        caption = agreed_caption(CaptionSet(first_captions, owners, weights))
    if not caption:
        return []
    first = caption.split(" ")[0]
    if first in ("A", "An", "The") or first[1:].islower():
        caption = caption[0].lower() + caption[1:]
    text = f"图中可能是：{caption}。" if chinese else f"The picture probably shows this: {caption}."
    words = content_words(caption)
    owner = max(hits, key=lambda hit: len(words & content_words(" ".join(hit.entry.texts))))
    return [StorySentence(text, owner)]


def _entity_stories(request: Request, hits: Sequence[Hit]) -> list[StorySentence]:
    """Return the sentences about each entity, from all hits that are about it."""
    entities: dict[str, list[Hit]] = {}
    for hit in hits:
        entities.setdefault(entity_key(hit.entry), []).append(hit)
    limit = _MAX_SENTENCES if len(entities) == 1 else _MAX_SENTENCES_PER_ENTITY
    sentences: list[StorySentence] = []
    for group in entities.values():
        entity: EntityText | None = None
        count = 0
        for hit in group:
            entity = read_entity(hit, request, entity)
            checker = SupportChecker(entity.texts, request.text)
            supported = [
                StorySentence(text, hit)
                for text in tell_entity(entity, request, limit)
                if checker.is_supported(text)
            ]
            earlier_texts = {sentence.text for sentence in sentences}
            new = [s for s in supported if s.text not in earlier_texts][: limit - count]
            sentences += new
            count += len(new)
            if count >= limit:
                break
    return sentences


def _without_repetition(
    sentences: Sequence[StorySentence], vectors: EmbeddingCache
) -> list[StorySentence]:
    """Return the sentences that add something: a new word, and not nearly the same vector."""
    if not sentences:
        return []
    rows = vectors([sentence.text for sentence in sentences])
    words = [content_words(sentence.text) for sentence in sentences]
    selected: list[int] = []
    for i in range(len(sentences)):
        repeats = (
            (words[i] <= words[j] and bool(words[i])) or float(rows[i] @ rows[j]) > _SAME_MEANING
            for j in selected
        )
        if sentences[i].text not in {sentences[j].text for j in selected} and not any(repeats):
            selected.append(i)
    return [sentences[i] for i in selected]
