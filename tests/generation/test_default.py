"""The default generator: who writes what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ravlm.generation.base import Generator, Request
from ravlm.generation.default import DefaultGenerator
from ravlm.records import CLOSED_BOOK, Answer, Entry, Evidence, Hit, Part
from tests.helpers.fakes import FakeEncoder
from tests.helpers.streams import read_stream


class Signer(Generator):
    """Answers with its own name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        return [Answer(f"{self.name}: {request.task}") for request in requests]


@pytest.fixture
def generator() -> DefaultGenerator:
    class Base:
        encoder: Any = FakeEncoder()

    generator = DefaultGenerator(Base())  # type: ignore[arg-type]
    generator._extractive = Signer("extractive")  # type: ignore[assignment]
    generator.__dict__["_captioner"] = Signer("starter")
    generator._has_captioner = True
    return generator


def evidence(familiarity: float) -> Evidence:
    hit = Hit(Entry("e", texts=("a dog",)), 0.4, Part("text", 0, "a dog"))
    return Evidence((hit,), (1.0,), familiarity=familiarity)


def test_each_request_gets_its_writer_and_order_is_kept(generator: DefaultGenerator) -> None:
    requests = [
        Request("caption", image=b"", evidence=evidence(0.5)),
        Request("ask", "What?", evidence=evidence(0.5)),
        Request("caption", image=b"", evidence=CLOSED_BOOK),
        Request("tell", image=b"", evidence=evidence(0.5)),
        Request("caption", image=b"", evidence=evidence(1.0)),  # too few images to tell
    ]
    answers = generator.generate(requests)
    writers = ["starter", "extractive", "starter", "extractive", "extractive"]
    assert [answer.trace["generator"] for answer in answers] == writers
    assert [a.text for a in answers] == [
        f"{w}: {r.task}" for w, r in zip(writers, requests, strict=True)
    ]


def test_streams_name_their_writer(generator: DefaultGenerator) -> None:
    request = Request("caption", image=b"", evidence=evidence(0.5))
    pieces, answer = read_stream(generator.stream(request))
    assert "".join(pieces) == answer.text == "starter: caption"
    assert answer.trace["generator"] == "starter"


def test_without_the_captioner_all_is_extractive(generator: DefaultGenerator) -> None:
    generator._has_captioner = False
    assert generator.evidence_modality == "image"
    (answer,) = generator.generate([Request("caption", image=b"", evidence=evidence(0.5))])
    assert answer.trace["generator"] == "extractive"
