"""Answers from prose: the best span over all passages, its source, yes and no, abstention."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ravlm.generation.base import Request
from ravlm.generation.extractive.passage_reader import (
    SpanCandidate,
    answer_from_passages,
    most_agreeing,
    read_candidates,
)
from ravlm.generation.extractive.passages import Passage, passages_of
from ravlm.generation.extractive.questions import parse_question
from ravlm.generation.extractive.span_reader import Span
from ravlm.generation.extractive.units import Units
from ravlm.records import Answer, Entry, Evidence, Hit, Part


class FakeReader:
    """Reads the words between asterisks; exclamation marks raise the score."""

    def read(self, question: str, passages: Sequence[str], num_spans: int = 20) -> list[list[Span]]:
        return [self._spans(passage) for passage in passages]

    def _spans(self, passage: str) -> list[Span]:
        if "*" not in passage:
            return [Span(passage[:3], 0, 3, -14.0)]
        start = passage.index("*") + 1
        end = passage.index("*", start)
        return [Span(passage[start:end], start, end, 4.0 * (1 + passage.count("!")))]


def evidence_of(*texts: str) -> Evidence:
    hits = tuple(
        Hit(Entry(f"e{i}", texts=(text,)), 1.0, Part("text", 0, text))
        for i, text in enumerate(texts)
    )
    weights = tuple(1 / (1 + i) / 3 for i in range(len(hits)))
    return Evidence(hits, weights, 0.2, 0.5, linked=False)


def answer(question: str, *texts: str) -> Answer | None:
    request = Request("ask", question, evidence=evidence_of(*texts))
    return answer_from_passages(
        FakeReader(),  # type: ignore[arg-type]
        request,
        parse_question(question, Units()),
    )


def test_the_best_span_of_all_passages_wins() -> None:
    result = answer("Who built it?", "It was *Ada*.", "It was *Ben Hale*!!", "Nobody knows.")
    assert result is not None
    assert result.text == "Ben Hale"
    assert result.citations == ("e1",)
    (source,) = result.sources
    assert source.part.text[source.start : source.end] == "Ben Hale"
    assert 0.5 < result.confidence <= 1


def test_the_sentence_with_the_words_of_the_question_wins() -> None:
    """Of two equally likely spans, the one in the first passage was taken."""
    result = answer("Where does Ann live?", "Ben lives in *Rome*.", "Ann lives in *Oslo*.")
    assert result is not None
    assert result.text == "Oslo"


def test_punctuation_at_the_borders_is_no_part_of_an_answer() -> None:
    result = answer("Where do device files stand?", "Device files (in */dev)*.")
    assert result is not None
    assert result.text == "/dev"
    (source,) = result.sources
    assert source.part.text[source.start : source.end] == "/dev"


def test_it_declines_when_no_span_is_likely() -> None:
    assert answer("Who built it?", "Nobody knows.", "A sea breeze.") is None


@pytest.mark.parametrize(
    ("question", "text", "expected"),
    [
        ("Is the motorcycle blue?", "A *red* motorcycle!!", "No, it is red."),
        ("Is the motorcycle red?", "A *red* motorcycle!!", "Yes."),
        ("Does it come from Spain?", "Made in *Italy*!!", "No: Italy."),
        ("Is it waterproof?", "Waterproof: *no*!!", "No."),
        ("Is it on in official builds?", "It is on in *official builds (see above)*!!", "Yes."),
        ("What color is it?", "A *red* motorcycle!!", "red"),
    ],
)
def test_yes_and_no(question: str, text: str, expected: str) -> None:
    result = answer(question, text)
    assert result is not None
    assert result.text == expected


@pytest.mark.parametrize(
    ("question", "text", "span", "expected"),
    [
        (
            "Is it open on Mondays?",
            "9:00 to 17:00, closed on Mondays",
            "Mondays",
            "closed on Mondays",
        ),
        ("Is it closed on Mondays?", "9:00 to 17:00, closed on Mondays", "Mondays", "Yes."),
        (
            "Is it open on Fridays?",
            "9:00 to 17:00, closed on Mondays",
            "9:00 to 17:00",
            "9:00 to 17:00",
        ),
        ("Does it contain nuts?", "Contains: soy, no nuts", "nuts", "no nuts"),
        (
            "Is it open on Fridays?",
            "Hours: 9:00 to 17:00, closed on Mondays",
            "Mondays",
            "9:00 to 17:00, closed on Mondays",
        ),
        ("Is the Marlin a ferry?", "Kind: ferry\nRoute: Aldhavn to Skerry", "Skerry", "Yes."),
        ("Is the roof red?", "Walls: red\nRoof: green", "green", "No, it is green."),
        ("Does it contain soy?", "Contains: soy, no nuts", "soy", "Yes."),
        ("周一开门吗？", "开放时间：9:00至17:00，周一闭馆", "周一", "周一闭馆"),
    ],
)
def test_a_clause_that_denies_the_claim(question: str, text: str, span: str, expected: str) -> None:
    """A museum "closed on Mondays" was said to be open on Mondays."""

    class SpanAt:
        def read(self, question: str, passages: Sequence[str], num_spans: int) -> list[list[Span]]:
            start = text.index(span)
            return [[Span(span, start, start + len(span), 12.0)]]

    request = Request("ask", question, evidence=evidence_of(text))
    result = answer_from_passages(SpanAt(), request, parse_question(question, Units()))  # type: ignore[arg-type]
    assert result is not None
    denied = f"不，{expected}。" if question[0] == "周" else f"No: {expected}."
    denies = expected.startswith(("closed", "no ", "周"))
    assert result.text == (denied if denies else expected)


def test_a_long_text_is_read_where_it_matched() -> None:
    text = "word " * 5000
    hit = Hit(Entry("long", texts=(text, "short")), 1.0, Part("text", 0, "the passage"))
    request = Request("ask", "What?", evidence=Evidence((hit,), (1.0,)))
    assert [p.part.text for p in passages_of(request)] == ["the passage", "short"]


def test_passages_in_the_language_of_the_question_go_first() -> None:
    hits = [
        Hit(Entry(n, texts=(t,)), 1.0, Part("text", 0, t)) for n, t in (("a", "灯塔"), ("b", "x"))
    ]
    evidence = Evidence(tuple(hits), (0.5, 0.5))
    english = passages_of(Request("ask", "What?", evidence=evidence))
    chinese = passages_of(Request("ask", "什么？", evidence=evidence, chinese=True))
    assert [p.part.text for p in english] == ["x"]
    assert [p.part.text for p in chinese] == ["灯塔"]


def test_a_card_of_another_entity_is_not_read() -> None:
    """A bird that is not in the base was once answered with the country of another bird."""
    card = "Name: Ruby Finch\nCountry: *Peru*!!"
    assert answer("What is the country of the Marsh Tit?", card) is None
    result = answer("What is the country of the finch?", card)
    assert result is not None
    assert result.text == "Peru"


class FirstWordReader:
    """Reads the first two characters, then everything after the first colon."""

    def read(self, question: str, passages: Sequence[str], num_spans: int = 20) -> list[list[Span]]:
        return [[Span(p[:2], 0, 2, 9.0), Span(p[3:], 3, len(p), 5.0)] for p in passages]


@pytest.mark.parametrize("text", ["产地：广东", "No: 12"])
def test_a_key_is_no_answer(text: str) -> None:
    """Where a fridge comes from was once answered with the key of the line: "Origin"."""
    hit = Hit(Entry("e", texts=(text,)), 1.0, Part("text", 0, text))
    passage = Passage(hit.part, hit, 1.0)
    reader = FirstWordReader()
    candidates = read_candidates(reader, "产自哪里？", [passage])  # type: ignore[arg-type]
    assert [candidate.span.text.strip() for candidate in candidates] == [text[3:].strip()]


def test_items_of_a_list_are_counted() -> None:
    result = answer("How many countries border it?", "Borders: *Congo, Zambia, Namibia*!!")
    assert result is not None
    assert result.text == "3"


def test_unsure_borders_give_the_middle_of_the_likely_spans() -> None:
    """A whole clause was right, and three words of it were answered, since they were likeliest."""
    hit = Hit(Entry("e", texts=("abcdefghij",)), 1.0, Part("text", 0, "abcdefghij"))
    passage = Passage(hit.part, hit, 1.0)
    spans = [("ab", 0, 2, 2.0), ("abcdefg", 0, 7, 1.9), ("abcdefgh", 0, 8, 1.8), ("j", 9, 10, 1.9)]
    candidates = [SpanCandidate(Span(t, a, b, s), passage, s) for t, a, b, s in spans]
    assert most_agreeing(candidates, 0.3).span.text == "abcdefg"
    assert most_agreeing(candidates, 50.0).span.text == "ab"
