"""The captioner: a model of ours that looks at the image, reads the evidence and writes a caption.

`save` writes a folder with the model as Transformers saves it, its tokenizer, and generator.json,
which holds the settings. The fallback generator does the tasks that a captioner cannot do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from torch import Tensor

from ravlm import runtime
from ravlm.data.facts import entity_name, free_sentences
from ravlm.data.lexical_overlap import content_words
from ravlm.data.parallel import batched
from ravlm.encoders.hub_files import quiet
from ravlm.encoders.transformers_io import read_tokenizer
from ravlm.errors import InvalidInput, NotFound
from ravlm.files import atomic_write
from ravlm.generation.base import Generator, Request, abstain, cited_parts
from ravlm.generation.caption_judge import judged_caption
from ravlm.generation.captioner.model_interface import ModelInterface
from ravlm.generation.captioner.modeling import CaptionerModel, load_model
from ravlm.generation.captioner.processing import (
    CaptionerProcessor,
    StarterProcessor,
    TransformersProcessor,
)
from ravlm.generation.captioner.settings import (
    SETTINGS_FILE,
    CaptionerSettings,
    read_settings,
    write_settings,
)
from ravlm.generation.captioner.tokenizer import detokenize
from ravlm.generation.consensus_caption import likeness
from ravlm.records import Answer, Entry, Hit, Modality
from ravlm.retrieval.query_adapter import QueryAdapter

_BATCH_SIZE = 16
"""Images that are captioned together: memory does not grow with the length of a list."""
_MAX_CITATIONS = 3
_SURE_CLASS = 0.5
"""From this probability on, four of five words were right on photos from elsewhere."""


class Beam(NamedTuple):
    """One of the texts that beam search found."""

    text: str
    score: float
    """Mean log-probability of a token."""


class CaptionerGenerator(ModelInterface, Generator):
    """Captions by a `CaptionerModel`; other tasks by the `fallback` generator.

    It is trained like a Transformers model (`ModelInterface`).

    >>> generator = CaptionerGenerator.load("runs/captioner")
    >>> generator.generate([Request("caption", image="cat.jpg")])[0].text
    """

    name = "captioner"

    def __init__(
        self,
        model: CaptionerModel,
        tokenizer: Any,
        processor: CaptionerProcessor,
        settings: CaptionerSettings = CaptionerSettings(),  # noqa: B008 frozen
        fallback: Generator | None = None,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.processor = processor
        self.settings = settings
        self.fallback = fallback
        self.adapter: QueryAdapter | None = None
        """Moves queries to where the evidence helps most, if `ravlm train retriever` learned it."""

    @property
    def evidence_modality(self) -> Modality:  # type: ignore[override]
        return self.settings.evidence_modality

    def adapt_query(self, vectors: np.ndarray, fingerprint: str) -> np.ndarray:
        return vectors if self.adapter is None else self.adapter(vectors, fingerprint)

    @classmethod
    def load(cls, folder: str | Path, fallback: Generator | None = None) -> CaptionerGenerator:
        """Load a captioner from a folder that `save` wrote.

        Raises NotFound if the folder has no captioner, BrokenData if a weight is missing or
        unexpected."""
        folder = Path(folder)
        if not (folder / SETTINGS_FILE).is_file():
            raise NotFound(
                f'"{folder}" is not a captioner: it has no {SETTINGS_FILE}. '
                "Train one with: ravlm train generator"
            )
        settings = read_settings(folder)
        model = load_model(folder)
        tokenizer = read_tokenizer(folder, str(folder))
        processor: CaptionerProcessor
        if settings.processor == "starter":
            processor = StarterProcessor(settings.image_size)
        else:
            processor = TransformersProcessor.load(folder, tokenizer)
        generator = cls(model, tokenizer, processor, settings, fallback)
        generator.adapter = QueryAdapter.load(folder)
        return generator

    def save(self, folder: str | Path) -> None:
        """Write the captioner to a folder, completely or not at all."""
        with atomic_write(folder) as temporary:
            temporary.mkdir()
            with quiet():
                self.model.save_pretrained(temporary)
            self.tokenizer.save_pretrained(temporary)
            if isinstance(self.processor, TransformersProcessor):
                self.processor.save(temporary)
            if self.adapter is not None:
                self.adapter.save(temporary)
            write_settings(self.settings, temporary)

    @overload
    def generate(self, requests: Sequence[Request]) -> list[Answer]: ...
    @overload
    def generate(self, requests: None = None, **inputs: Any) -> Tensor: ...
    def generate(self, requests: Sequence[Request] | None = None, **inputs: Any) -> Any:
        """Answer requests: captions in batches, other tasks by the fallback generator.

        With the model's inputs instead (`pixel_values=`, ...) it is `CaptionerModel.generate` and
        returns token ids."""
        if requests is None:
            return self.model.generate(**inputs)
        is_caption = [
            request.task == "caption" and self._can_caption(request) for request in requests
        ]
        pairs = list(zip(requests, is_caption, strict=True))
        delegated = [request for request, captioned in pairs if not captioned]
        if delegated and self.fallback is None:
            raise InvalidInput(
                f'A captioner only writes captions and cannot do "{delegated[0].task}". Use '
                'generator="extractive", or an instruction-tuned model.'
            )
        captions = iter(self._caption([request for request, captioned in pairs if captioned]))
        answers = iter(self.fallback.generate(delegated) if self.fallback and delegated else [])
        return [next(captions) if captioned else next(answers) for captioned in is_caption]

    def _can_caption(self, request: Request) -> bool:
        """Whether the vocabulary covers the evidence, or there is no fallback.

        A base with another vocabulary or language than the training data is left to the fallback
        generator, which copies the wording of the base."""
        unknown = self.tokenizer.unk_token_id
        if self.fallback is None or unknown is None or not request.evidence.hits:
            return True
        texts = [text for hit in request.evidence.hits for text in hit_captions(hit)]
        token_ids = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        num_tokens = sum(len(ids) for ids in token_ids)
        num_unknown = sum(ids.count(unknown) for ids in token_ids)
        return num_unknown <= self.settings.max_unknown * num_tokens

    def _caption(self, requests: Sequence[Request]) -> list[Answer]:
        answers = [abstain(request, "there is no image") for request in requests]
        with_image = [row for row, request in enumerate(requests) if request.image is not None]
        for rows in batched(with_image, _BATCH_SIZE):
            batch = [requests[row] for row in rows]
            beams = self.beam_search(self.model_inputs(batch))
            for row, request, request_beams in zip(rows, batch, beams, strict=True):
                best = self.best_beam(request, request_beams)
                answers[row] = self._answer(request, best.text, math.exp(best.score))
        return answers

    def model_inputs(self, requests: Sequence[Request]) -> dict[str, Tensor]:
        """Return the model's inputs for requests with an image."""
        hits = [request.evidence.hits for request in requests]
        images = [request.image for request in requests if request.image is not None]
        captions = [[hit_captions(hit)[0] for hit in row] for row in hits]
        inputs = self.processor.image_inputs(images)
        inputs |= self.processor.evidence_inputs(captions, self.settings.max_evidence_tokens)
        if self.model.fusion.needs_evidence_scores and "evidence_mask" in inputs:
            inputs["evidence_scores"] = _pad_scores(hits)
        return inputs

    @torch.no_grad()
    def beam_search(self, inputs: dict[str, Tensor]) -> list[list[Beam]]:
        """Return the beams for each row of the model's inputs, most likely first."""
        settings = self.settings
        unknown, end = self.tokenizer.unk_token_id, self.tokenizer.eos_token_id
        inputs = {name: tensor.to(self.model.device) for name, tensor in inputs.items()}
        with runtime.autocast(self.model.device):
            output = self.model.generate(
                **inputs,
                num_beams=settings.num_beams,
                num_return_sequences=settings.num_beams,
                max_new_tokens=settings.max_new_tokens,
                do_sample=False,
                length_penalty=settings.length_penalty,
                return_dict_in_generate=True,
                output_scores=True,
                suppress_tokens=None if unknown in (None, end) else [unknown],
            )
        texts = [self._decode(ids) for ids in output.sequences]
        sequence_scores = getattr(output, "sequences_scores", None)  # None for a single beam
        scores = [0.0] * len(texts) if sequence_scores is None else sequence_scores.float().tolist()
        beams = [Beam(text, score) for text, score in zip(texts, scores, strict=True)]
        size = settings.num_beams
        return [beams[start : start + size] for start in range(0, len(beams), size)]

    def _decode(self, ids: Tensor) -> str:
        if self.settings.processor == "starter":
            return detokenize(self.tokenizer.convert_ids_to_tokens(ids, skip_special_tokens=True))
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()

    def best_beam(self, request: Request, beams: Sequence[Beam]) -> Beam:
        """Return the beam with the highest likelihood plus agreement with the evidence."""
        evidence = request.evidence
        captions = [
            (weight, caption)
            for hit, weight in zip(evidence.hits, evidence.weights, strict=True)
            for caption in entry_captions(hit.entry)
        ]
        if not captions or not self.settings.agreement_weight:
            return beams[0]
        weights = np.array([weight for weight, _ in captions]) + 1e-6
        similarity = likeness([beam.text for beam in beams], [text for _, text in captions])
        agreement = similarity @ (weights / weights.sum())  # (beams,)
        likelihood = np.array([beam.score for beam in beams])
        return beams[int((likelihood + self.settings.agreement_weight * agreement).argmax())]

    def _name_class(self, request: Request, trace: dict[str, Any]) -> Answer:
        """Say what an image looks like that is unlike those of the base, or abstain.

        Nine in ten captions of such images are wrong. The image network knows more classes than
        the captions that the model was trained on mention.
        """
        if isinstance(self.processor, StarterProcessor) and request.image is not None:
            word, probability = self.processor.everyday_word(request.image)
            if probability >= _SURE_CLASS:
                text = f"It looks like {_indefinite(word)}."
                return Answer(text, confidence=round(probability, 4), trace=trace)
        return abstain(request, "the image is unlike those that the base describes")

    def _answer(self, request: Request, text: str, probability: float) -> Answer:
        """Return the answer; `probability` is the mean of a token."""
        if not text:
            return abstain(request, "the generator wrote nothing")
        hits = request.evidence.hits
        trace = {
            **request.evidence.trace,
            "generator": self.name,
            "mean token probability": round(probability, 4),
        }
        if request.declined:
            return self._name_class(request, trace)
        citations = tuple(_supporting_entries(text, hits))
        retrieved = hit_captions(hits[0])[0] if hits else ""
        if retrieved and probability < self.settings.confidence_threshold:
            trace["unsure caption"] = text
            text = retrieved
            citations = (hits[0].entry.id,)
        sources = cited_parts(citations, hits)
        answer = Answer(text, hits, citations, sources, min(1.0, probability), trace=trace)
        return judged_caption(request, answer)


def _indefinite(noun: str) -> str:
    """Return a noun with its indefinite article."""
    return f"an {noun}" if noun[:1].lower() in "aeiou" else f"a {noun}"


def entry_captions(entry: Entry) -> list[str]:
    """Return the captions of an entry: its sentences, else its name, else its first text.

    There is at least one; it is empty for an entry without text."""
    sentences = [sentence for text in entry.texts for sentence in free_sentences(text)]
    return sentences or [text for text in (entity_name(entry), entry.text) if text][:1] or [""]


def hit_captions(hit: Hit) -> list[str]:
    """Return the captions of a hit: the matching text if a text matched, else the entry's."""
    if hit.part.modality != "text":
        return entry_captions(hit.entry)
    return free_sentences(hit.part.text) or entry_captions(hit.entry)


def _pad_scores(hits: Sequence[Sequence[Hit]]) -> Tensor:
    """Return the scores (n, k) of the hits, -inf where a request has fewer."""
    scores = np.full((len(hits), max(len(row) for row in hits)), -np.inf, np.float32)
    for i, row in enumerate(hits):
        scores[i, : len(row)] = [hit.score for hit in row]
    return torch.from_numpy(scores)


def _supporting_entries(text: str, hits: Sequence[Hit]) -> list[str]:
    """Return the ids of the entries whose captions share the most words with `text`."""
    words = content_words(text)
    counts = [
        (len(words & content_words(" ".join(hit_captions(hit)))), hit.entry.id) for hit in hits
    ]
    ranked = sorted(counts, key=lambda pair: -pair[0])
    return [entry_id for count, entry_id in ranked if count][:_MAX_CITATIONS]
