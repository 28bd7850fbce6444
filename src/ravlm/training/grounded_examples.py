"""Evidence for fine-tuning on questions, captions and conversations: right entries, distractors.

It is retrieved once, as the model retrieves in use, and mixed again in every step (RAFT: Zhang et
al. 2024, arXiv:2403.10131).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ravlm.data.facts import entity_key
from ravlm.data.lexical_overlap import content_words, overlap
from ravlm.data.parallel import batched
from ravlm.errors import InvalidInput
from ravlm.generation.base import ABSENT, Request, VerbName
from ravlm.generation.citation_marks import remove_citations, renumber_marks
from ravlm.knowledge.base import KnowledgeBase
from ravlm.metrics import containment
from ravlm.model import RetrievalAugmentedVLM
from ravlm.records import CLOSED_BOOK, Entry, Hit, Pair, Part
from ravlm.retrieval.leakage import without_leaks, without_near_duplicates
from ravlm.training.batches import batch_rows
from ravlm.training.chat_examples import ChatExample, ChatExamples
from ravlm.training.cross_fitting import cross_fit_pairs
from ravlm.training.evidence import image_vectors
from ravlm.training.training_examples import TrainingExample

_BATCH = 64
_MIN_OVERLAP = 0.5
"""Fraction of a long answer's words that an entry must contain to be its source."""
_MIN_LONG_ANSWER = 5
"""Words of an answer whose source is found by its words."""
_AS_RETRIEVED = 0.25
"""Share of the questions that are trained on with exactly what the model retrieves."""


@dataclass(frozen=True)
class GroundedExample:
    """An example with the entries that it is trained on."""

    example: TrainingExample
    request: Request
    """With the evidence as it is in use, without leaks."""
    right: tuple[Hit, ...]
    """The entries that have the answer; none for a caption."""
    others: tuple[Hit, ...]
    """Entries without the answer, nearest first."""

    @property
    def is_caption(self) -> bool:
        return self.request.task == "caption"

    def with_hits(self, hits: Sequence[Hit]) -> Request:
        """Return the request with these entries as evidence; they keep the weights that they have
        in use, if all have one."""
        evidence = self.request.evidence
        weight_of = {
            hit.entry.id: weight
            for hit, weight in zip(evidence.hits, evidence.weights, strict=False)
        }
        weights = tuple(weight_of.get(hit.entry.id, -1.0) for hit in hits)
        is_known = bool(hits) and min(weights) >= 0
        evidence = replace(evidence, hits=tuple(hits), weights=weights if is_known else ())
        return replace(self.request, evidence=evidence)


@dataclass(frozen=True)
class EvidenceMix:
    """How the evidence of a step is drawn."""

    num_evidence: int = 4
    abstention_rate: float = 0.2
    evidence_dropout: float = 0.1

    def sample(self, grounded: GroundedExample, rng: random.Random) -> ChatExample:
        """Return the example with evidence in random order, and the reply to it."""
        answer = rng.choice(grounded.example.answers)
        draw = rng.random()
        if draw < self.evidence_dropout:
            request = replace(grounded.request, evidence=CLOSED_BOOK)
            return ChatExample(request, (remove_citations(answer).strip(),))
        if grounded.is_caption:
            hits = self._sample(grounded.others, self.num_evidence, rng)
            return ChatExample(grounded.with_hits(hits), (answer,))
        if draw < self.evidence_dropout + self.abstention_rate and grounded.others:
            hits = self._sample(grounded.others, self.num_evidence, rng)
            reply = ABSENT[grounded.request.chinese]
            return ChatExample(grounded.with_hits(hits), (reply,))
        hits = self._with_right(grounded, rng)
        return ChatExample(grounded.with_hits(hits), (cited_answer(answer, grounded, hits),))

    def _with_right(self, grounded: GroundedExample, rng: random.Random) -> list[Hit]:
        right = list(grounded.right[: self.num_evidence])
        in_use = list(grounded.request.evidence.hits[: self.num_evidence])
        has_right = {hit.entry.id for hit in right} <= {hit.entry.id for hit in in_use}
        if has_right and rng.random() < _AS_RETRIEVED:
            rng.shuffle(in_use)
            return in_use
        hits = right + self._sample(grounded.others, self.num_evidence - len(right), rng)
        rng.shuffle(hits)
        return hits

    @staticmethod
    def _sample(hits: Sequence[Hit], k: int, rng: random.Random) -> list[Hit]:
        return rng.sample(list(hits), min(k, len(hits)))


class GroundedExamples(ChatExamples):
    """Batches of examples; every epoch is a new permutation with newly mixed evidence."""

    def __init__(
        self, examples: Sequence[GroundedExample], batch_size: int, mix: EvidenceMix, seed: int
    ) -> None:
        self.examples = examples
        self.batch_size = batch_size
        self.mix = mix
        self.seed = seed

    def batch(self, index: int, rng: random.Random) -> list[ChatExample]:
        rows = batch_rows(len(self.examples), self.batch_size, index, self.seed).tolist()
        return [self.mix.sample(self.examples[row], rng) for row in rows]

    def answered(self) -> list[ChatExample]:
        """Return every example once, with its right entries."""
        rng = random.Random(self.seed)  # noqa: S311 - not for secrets
        mix = replace(self.mix, abstention_rate=0.0, evidence_dropout=0.0)
        return [mix.sample(example, rng) for example in self.examples]


def cited_answer(answer: str, grounded: GroundedExample, hits: Sequence[Hit]) -> str:
    """Return an answer with marks that cite the right entries among `hits`.

    A mark [n] in it names the n-th of the example's `evidence`; without marks, all right entries
    are cited at its end.
    """
    position_of = {hit.entry.id: number for number, hit in enumerate(hits, 1)}
    ids = grounded.example.evidence
    text, has_marks = renumber_marks(answer, [position_of.get(id_) for id_ in ids])
    if has_marks:
        return text
    marks = [
        f"[{position_of[hit.entry.id]}]" for hit in grounded.right if hit.entry.id in position_of
    ]
    separator = "" if grounded.request.chinese else " "
    return f"{text}{separator if marks else ''}{''.join(marks)}"


def ground_examples(
    model: RetrievalAugmentedVLM, examples: Sequence[TrainingExample], num_candidates: int
) -> tuple[list[GroundedExample], int]:
    """Retrieve the evidence of `examples` by `model`; also return how many questions were left out
    because no entry has their answer.

    The leakage guard is always on: no example gets an entry of its own id, image or group, a
    near-duplicate of its image or, if it is a caption, a text that repeats it, unless it names the
    entry itself. Raises InvalidInput for an entry that an example names and the base lacks.
    """
    grounded: list[GroundedExample] = []
    for task in dict.fromkeys(example.task for example in examples):
        of_task = [example for example in examples if example.task == task]
        for batch in batched(of_task, _BATCH):
            requests = _retrieve(model, task, batch, num_candidates)
            candidates = _candidates(model.kb, requests, num_candidates)
            if task == "caption":
                pairs = [example.guarded for example in batch]
                vectors = image_vectors(model.kb, pairs)  # type: ignore[arg-type]
                candidates = without_near_duplicates(model.kb, vectors, candidates)
            for example, request, hits in zip(batch, requests, candidates, strict=True):
                grounded.append(_ground(model.kb, example, request, hits))
    kept = [example for example in grounded if example.is_caption or example.right]
    return kept, len(grounded) - len(kept)


def _retrieve(
    model: RetrievalAugmentedVLM, task: VerbName, examples: Sequence[TrainingExample], k: int
) -> list[Request]:
    images = [example.image for example in examples]
    if task == "chat":
        conversations = [list(example.messages) for example in examples]
        return model.requests(task, conversations, k=k).requests
    questions = None if task == "caption" else [example.question for example in examples]
    return model.requests(task, questions, images, k=k).requests


def _candidates(kb: KnowledgeBase, requests: Sequence[Request], k: int) -> list[list[Hit]]:
    """Return the hits of each request and, for a question, the entries most similar to it: what a
    name leads to comes alone, without distractors."""
    similar: list[list[Hit]] = [[] for _ in requests]
    if requests[0].task != "caption":
        similar = kb.search_many([{"text": request.text} for request in requests], k)
    return [
        _distinct((*request.evidence.hits, *more))
        for request, more in zip(requests, similar, strict=True)
    ]


def cross_fitted(
    kb: KnowledgeBase,
    examples: Sequence[GroundedExample],
    num_candidates: int,
    folds: int,
    folder: Path,
) -> list[GroundedExample]:
    """Return the examples with other evidence for captions: captions of other examples, retrieved
    by heads that were not trained on the image (see `ravlm.training.cross_fitting`).

    Raises InvalidInput if there are no captions, or too few for the folds.
    """
    pairs = {
        row: pair
        for row, example in enumerate(examples)
        if isinstance(pair := example.example.guarded, Pair)
    }
    if not pairs:
        raise InvalidInput(
            f"folds is {folds}, but none of the examples is a caption; use folds=0. Questions get "
            "the entries that are retrieved for them."
        )
    vectors = image_vectors(kb, list(pairs.values()))
    evidence = cross_fit_pairs(list(pairs.values()), vectors, num_candidates, folds, folder)
    fitted = list(examples)
    for number, row in enumerate(pairs):
        rows = zip(evidence.entries[number], evidence.scores[number], strict=True)
        hits = tuple(
            Hit(Entry(f"caption-{entry}", text=text), float(score), Part("text", 0, text))
            for entry, score in rows
            if entry >= 0 and (text := evidence.texts[entry])
        )
        fitted[row] = replace(examples[row], others=hits)
    return fitted


def _distinct(hits: Sequence[Hit]) -> list[Hit]:
    """Return the first hit of each entry."""
    first: dict[str, Hit] = {}
    for hit in hits:
        first.setdefault(hit.entry.id, hit)
    return list(first.values())


def _ground(
    kb: KnowledgeBase, example: TrainingExample, request: Request, candidates: Sequence[Hit]
) -> GroundedExample:
    hits = without_leaks(example.guarded, candidates)
    if example.evidence:
        right = _named_hits(kb, example, candidates)
    else:
        right = () if request.task == "caption" else _right_hits(example, hits)
    right_ids = {hit.entry.id for hit in right}
    readable = right_ids | {hit.entry.id for hit in hits}
    evidence = request.evidence
    rows = [row for row, hit in enumerate(evidence.hits) if hit.entry.id in readable]
    evidence = replace(
        evidence,
        hits=tuple(evidence.hits[row] for row in rows),
        weights=tuple(evidence.weights[row] for row in rows) if evidence.weights else (),
        trace={},  # its times would make each run's data another one
    )
    others = tuple(hit for hit in hits if hit.entry.id not in right_ids)
    return GroundedExample(example, replace(request, evidence=evidence), right, others)


def _named_hits(
    kb: KnowledgeBase, example: TrainingExample, candidates: Sequence[Hit]
) -> tuple[Hit, ...]:
    entries = {entry.id: entry for entry in kb.get(example.evidence)}
    for entry_id in example.evidence:
        if entry_id not in entries:
            raise InvalidInput(
                f'The example "{example.question or example.id}" names the entry "{entry_id}", '
                f'which is not in "{kb.path}". Correct "evidence", or add the entry.'
            )
    retrieved = {hit.entry.id: hit for hit in candidates}
    return tuple(
        retrieved.get(id_) or Hit(entries[id_], 0.0, Part("text", 0, entries[id_].text))
        for id_ in dict.fromkeys(example.evidence)
    )


def _right_hits(example: TrainingExample, hits: Sequence[Hit]) -> tuple[Hit, ...]:
    """Return the first entry that has the answer: the one of the name that the example gives as
    `entity`, else one that contains an answer, else one that contains most words of a long one."""
    entity = example.metadata.get("entity")
    if isinstance(entity, str) and entity:
        return tuple(hit for hit in hits if entity_key(hit.entry) == entity.casefold())[:1]
    if not hits:
        return ()
    answers = [remove_citations(answer) for answer in example.answers]
    texts = ["\n".join(hit.entry.texts) for hit in hits]
    contains = containment(texts, [answers] * len(texts)).items
    words = content_words(answers[0])
    if not any(contains) and len(words) >= _MIN_LONG_ANSWER:
        shares = [overlap(words, content_words(text)) for text in texts]
        contains = tuple(float(share == max(shares) >= _MIN_OVERLAP) for share in shares)
    return tuple(hit for hit, value in zip(hits, contains, strict=True) if value)[:1]
