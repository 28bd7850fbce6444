"""The fused generator: captions written by a model of ours that looks at the picture and reads the
evidence.

A folder of `save`: the model as Transformers saves it, its tokenizer, and generator.json, which
says how it is fed. What it can't write (answers that must be read, talk) goes to the generator it
is given for that. Knows no knowledge base."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ravlm import runtime
from ravlm.config import from_mapping, to_mapping
from ravlm.data.facts import entity_name, parse_facts
from ravlm.data.lexical_overlap import content_words
from ravlm.encoders.hub_files import quiet
from ravlm.errors import BrokenData, InvalidInput, NotFound
from ravlm.files import STARTER, atomic_write
from ravlm.generation.base import Generator, Request, abstain
from ravlm.generation.captioner.modeling import CaptionerModel, load_model
from ravlm.generation.captioner.processing import ProcessorSources, SourceReader, StarterSources
from ravlm.generation.captioner.tokenizer import sentence
from ravlm.generation.consensus_caption import likeness
from ravlm.records import Answer, Entry, Hit, Modality
from ravlm.retrieval.query_adapter import QueryAdapter

SETTINGS, READING = "generator.json", "text"
"""How it is fed; the folder of its text tower's tokenizer."""
STARTER_GENERATOR = STARTER / "generator"
"""The generator that comes with the package."""
_MOST_CITATIONS = 3


@dataclass(frozen=True)
class CaptionerSettings:
    """How a fused model is fed and asked."""

    sources: Literal["starter", "processor"] = "starter"
    image_size: int = 260
    beams: int = 3
    length_penalty: float = 1.0
    most_words: int = 24
    budget: int = 240
    """Tokens of evidence a request."""
    reads: Modality = "image"
    """See `Generator.reads`."""
    most_unknown: float = 0.15
    """Evidence with a larger share of words that the model can't write is left to the other
    generator."""
    agreement: float = 0.0
    """What agreement with the evidence counts beside the mean log-probability of a word, when the
    best of the beams is chosen."""
    least_sure: float = 0.0
    """A mean probability of a word; a caption below it is no better than a guess, and what the
    first of the evidence says is given in its place."""
    trained_on: tuple[str, ...] = field(default=())
    """What it was trained on, for people."""


class CaptionerGenerator(Generator):
    """Captions by a `CaptionerModel`; other tasks by `others`."""

    name = "fused"

    @property
    def network(self) -> CaptionerModel:
        return self.model

    @property
    def reads(self) -> Modality:  # type: ignore[override]
        return self.settings.reads

    def __init__(
        self,
        model: CaptionerModel,
        tokenizer: Any,
        sources: SourceReader,
        settings: CaptionerSettings = CaptionerSettings(),
        others: Generator | None = None,
    ) -> None:
        self.model, self.tokenizer, self.sources = model.eval(), tokenizer, sources
        self.settings, self.others = settings, others
        self.adapter: QueryAdapter | None = None
        """Where it looks for evidence, if that was trained."""

    def query(self, vectors: np.ndarray, fingerprint: str) -> np.ndarray:
        return vectors if self.adapter is None else self.adapter(vectors, fingerprint)

    @classmethod
    def load(cls, folder: str | Path, others: Generator | None = None) -> CaptionerGenerator:
        """The generator of a folder that `save` wrote. Strict: a missing or a left-over weight is
        an error."""
        from transformers import AutoImageProcessor, AutoTokenizer

        folder = Path(folder)
        if not (folder / SETTINGS).is_file():
            raise NotFound(
                f'"{folder}" is no fused generator: it has no {SETTINGS}. Train one: ravlm train generator'
            )
        settings = from_mapping(CaptionerSettings, _read(folder / SETTINGS), str(folder / SETTINGS))
        model = load_model(folder)
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        sources: SourceReader = StarterSources(settings.image_size)
        if settings.sources != "starter":
            processor = AutoImageProcessor.from_pretrained(
                str(folder), local_files_only=True, backend="pil"
            )
            own = (folder / READING).is_dir()
            reading = (
                AutoTokenizer.from_pretrained(str(folder / READING), local_files_only=True)
                if own
                else None
            )
            sources = ProcessorSources(processor, tokenizer, reading)
        generator = cls(model, tokenizer, sources, settings, others)
        generator.adapter = QueryAdapter.load(folder)
        return generator

    def save(self, folder: str | Path) -> None:
        """Write it as a folder, whole or not at all."""
        with atomic_write(folder) as aside:
            aside.mkdir()
            with quiet():
                self.model.save_pretrained(aside)
            self.tokenizer.save_pretrained(aside)
            if isinstance(self.sources, ProcessorSources):
                self.sources.image_processor.save_pretrained(aside)
                if self.sources.reading is not None:
                    self.sources.reading.save_pretrained(aside / READING)
            if self.adapter is not None:
                self.adapter.save(aside)
            (aside / SETTINGS).write_text(
                json.dumps(to_mapping(self.settings), indent=1) + "\n", encoding="utf-8"
            )

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """Captions together, in one batch; the rest by the other generator."""
        own = [request.task == "caption" and self._can_say(request) for request in requests]
        rest = [request for request, is_own in zip(requests, own, strict=True) if not is_own]
        if rest and self.others is None:
            raise InvalidInput(
                f'This fused generator writes captions only, and was asked to "{rest[0].task}"; take '
                'generator="extractive", or an instruction model.'
            )
        written = iter(
            self._captions(
                [request for request, is_own in zip(requests, own, strict=True) if is_own]
            )
        )
        answered = iter(self.others.generate(rest) if self.others and rest else [])
        return [next(written) if is_own else next(answered) for is_own in own]

    def _can_say(self, request: Request) -> bool:
        """Whether the model has the words for what the evidence speaks of; a base of another manner
        or language than it was trained on is left to the other generator, which speaks as the base
        does."""
        unknown = self.tokenizer.unk_token_id
        if self.others is None or unknown is None or not request.evidence.hits:
            return True
        texts = [text for hit in request.evidence.hits for text in told(hit)]
        ids = [
            i for some in self.tokenizer(texts, add_special_tokens=False)["input_ids"] for i in some
        ]
        return ids.count(unknown) <= self.settings.most_unknown * len(ids)

    def _captions(self, requests: Sequence[Request]) -> list[Answer]:
        shown = [request for request in requests if request.image is not None]
        if not shown:
            return [abstain(request, "there is no picture") for request in requests]
        said = [[told(hit)[0] for hit in request.evidence.hits] for request in shown]
        given = self.sources.pictures(
            [request.image for request in shown if request.image is not None]
        )
        given |= self.sources.evidence(said, self.settings.budget)
        if self.model.fusion.needs_evidence_scores and "evidence_mask" in given:
            given["evidence_scores"] = _scores([request.evidence.hits for request in shown])
        beams = self.write(given, shown[0].seed)
        chosen = [self._chosen(request, some) for request, some in zip(shown, beams, strict=True)]
        found = iter(
            (request, text, math.exp(score))
            for request, (text, score) in zip(shown, chosen, strict=True)
        )
        return [
            self._answer(*next(found))
            if request.image is not None
            else abstain(request, "there is no picture")
            for request in requests
        ]

    @torch.no_grad()
    def write(self, given: dict[str, torch.Tensor], seed: int = 0) -> list[list[tuple[str, float]]]:
        """The beams for each of a batch of the model's inputs, likeliest first: texts, and the mean
        log-probability of a word."""
        settings, unknown = self.settings, self.tokenizer.unk_token_id
        torch.manual_seed(seed)
        given = {name: value.to(self.model.device) for name, value in given.items()}
        with runtime.autocast(self.model.device):
            found = self.model.generate(
                **given, num_beams=settings.beams, num_return_sequences=settings.beams,
                max_new_tokens=settings.most_words, do_sample=False,
                length_penalty=settings.length_penalty, return_dict_in_generate=True, output_scores=True,
                suppress_tokens=None if unknown in (None, self.tokenizer.eos_token_id) else [unknown],
            )  # fmt: skip
        texts = [
            sentence(self.tokenizer.convert_ids_to_tokens(ids, skip_special_tokens=True))
            if settings.sources == "starter"
            else self.tokenizer.decode(ids, skip_special_tokens=True).strip()
            for ids in found.sequences
        ]
        scores = getattr(found, "sequences_scores", None)
        likely = [0.0] * len(texts) if scores is None else scores.float().tolist()
        return [
            list(some)
            for some in zip(*[iter(zip(texts, likely, strict=True))] * settings.beams, strict=True)
        ]

    def _chosen(self, request: Request, beams: Sequence[tuple[str, float]]) -> tuple[str, float]:
        """The best of the beams: likely, and in agreement with what the evidence says."""
        evidence = request.evidence
        said = [
            (w, text)
            for h, w in zip(evidence.hits, evidence.weights, strict=True)
            for text in saying(h.entry)
        ]
        if not said or not self.settings.agreement:
            return beams[0]
        weights = np.array([weight for weight, _ in said]) + 1e-6
        agreed = likeness([text for text, _ in beams], [text for _, text in said]) @ (
            weights / weights.sum()
        )
        total = np.array([score for _, score in beams]) + self.settings.agreement * agreed
        return beams[int(total.argmax())]

    def _answer(self, request: Request, text: str, likelihood: float) -> Answer:
        if not text:
            return abstain(request, "the generator wrote nothing")
        hits = request.evidence.hits
        trace = {
            **request.evidence.trace,
            "generator": self.name,
            "mean probability of a word": round(likelihood, 4),
        }
        cited, found = tuple(_resting_on(text, hits)), told(hits[0])[0] if hits else ""
        if found and likelihood < self.settings.least_sure:
            text, cited, trace["unsure; it would write"] = found, (hits[0].entry.id,), text
        return Answer(text, hits, cited, round(min(1.0, likelihood), 4), False, trace)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BrokenData(f'"{path}" is no JSON: {error}.') from None


def saying(entry: Entry) -> list[str]:
    """What an entry says about its picture: its free sentences, else its name, else all its
    words."""
    free = [fact.value for text in entry.texts for fact in parse_facts(text) if not fact.key]
    return free or [text for text in (entity_name(entry), entry.text) if text][:1] or [""]


def told(hit: Hit) -> list[str]:
    """What a hit says about its picture: the text that was found, where one was, else all that the
    entry says."""
    found = (
        [fact.value for fact in parse_facts(hit.part.text) if not fact.key]
        if hit.part.modality == "text"
        else []
    )
    return found or saying(hit.entry)


def _scores(hits: Sequence[Sequence[Hit]]) -> torch.Tensor:
    """Scores (n, k) of the hits, -inf where a request has fewer."""
    scores = np.full((len(hits), max(len(some) for some in hits)), -np.inf, np.float32)
    for row, some in enumerate(hits):
        scores[row, : len(some)] = [hit.score for hit in some]
    return torch.from_numpy(scores)


def _resting_on(text: str, hits: Sequence[Hit]) -> list[str]:
    """The entries that share most words with the text by what was read of them, likeliest first."""
    words = content_words(text)
    shared = [(len(words & content_words(" ".join(told(hit)))), hit.entry.id) for hit in hits]
    return [name for count, name in sorted(shared, key=lambda pair: -pair[0]) if count][
        :_MOST_CITATIONS
    ]
