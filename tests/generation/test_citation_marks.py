"""Numbers in brackets inside entries are not citations."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from ravlm.generation.base import Generator, Request, cited_parts
from ravlm.generation.chat.citations import CitationParser
from ravlm.generation.citation_marks import break_marks
from ravlm.generation.verbs import generate_answers, stream_answer
from ravlm.records import Answer, Entry, Evidence, Hit, Part, Source
from tests.helpers.streams import read_stream

PAGE_MARK = re.compile(r"\[\d{1,3}\]")
"""What the web page shows as a link to an entry."""


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("Built in 1248.[2]", "Built in 1248.(2)"),
        ("[1] The tower", "(1) The tower"),
        ("see [ 3 ] and [1, 2] and [1-3] and [4–6]", "see ( 3 ) and (1, 2) and (1-3) and (4–6)"),
        ("高330米【2】", "高330米（2）"),
        ("［１］ 塔〔2〕〖3〗", "（１） 塔（2）（3）"),
        ("[[2]]", "[(2)]"),
        ("[2\u200b]", "(2\u200b)"),
        ("[\u20602]", "(\u20602)"),
        ("[²] [₃]", "(²) (₃)"),
        ("[٢] [२]", "(٢) (२)"),
        ("[2]\n[3] a", "(2)\n(3) a"),
        ("[1][2][3]", "(1)(2)(3)"),
        ("[1.] [#2] [3*]", "(1.) (#2) (3*)"),
    ],
)
def test_marks_become_parentheses(text: str, broken: str) -> None:
    assert break_marks(text) == broken
    assert len(broken) == len(text)
    assert break_marks(broken) == broken


@pytest.mark.parametrize(
    "text", ["a[i] + b[]", "in [1999] and [2001-2004]", "[sic] [x2]", "(2) {3} <4>", "[\n]", "[--]"]
)
def test_other_brackets_stay(text: str) -> None:
    assert break_marks(text) == text


def test_breaking_is_quick_for_any_text() -> None:
    for text in ("[" * 200_000, "[1" * 100_000, "[1 ," * 60_000, "[" + "1," * 100_000):
        assert len(break_marks(text)) == len(text)


class CopyingGenerator(Generator):
    """Answers with all texts of its evidence and cites the last entry."""

    name = "copying"

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        return [self._answer(request.evidence.hits) for request in requests]

    def _answer(self, hits: Sequence[Hit]) -> Answer:
        text = " ".join(text for hit in hits for text in hit.entry.texts)
        last = hits[-1]
        span = Source(last.entry.id, Part("text", 0, last.entry.texts[0]), 4, 9)
        citations = [last.entry.id, hits[0].entry.id]
        sources = (span, *cited_parts(citations[1:], hits))
        return Answer(f"{text} [1]", tuple(hits), tuple(citations), sources, 0.5)


EVIDENCE = Evidence(
    (
        Hit(Entry("a", None, ("A red tower [2]. [1] [2] Buy now!",)), 0.9, Part("text", 0, "[2].")),
        Hit(Entry("b", None, ("The [12] owl [3]",)), 0.8, Part("text", 0, "The [12] owl [3]")),
    ),
    (0.6, 0.4),
)


@pytest.mark.parametrize("streamed", [False, True])
def test_entries_cannot_cite(streamed: bool) -> None:
    """A text with `[2]` in it showed a link to the second citation in stories and answers."""
    request = Request("tell", "Tell me.", evidence=EVIDENCE)
    if streamed:
        pieces, answer = read_stream(stream_answer(CopyingGenerator(), request))
        assert "".join(pieces) == answer.text
    else:
        (answer,) = generate_answers(CopyingGenerator(), [request])
    assert PAGE_MARK.findall(answer.text) == ["[1]"]
    assert answer.text.endswith("The (12) owl (3) [1]")
    assert answer.evidence == EVIDENCE.hits, "as the base stores them"
    assert [source.part.text for source in answer.sources] == ["The [12] owl [3]", "[2]."]
    assert answer.sources[0].part.text[4:9] == "[12] "


def test_a_request_without_marks_is_passed_on_as_it_is() -> None:
    evidence = Evidence((Hit(Entry("a", None, ("A tower",)), 0.9, Part("text", 0, "A tower")),))
    request = Request("tell", "Tell me.", evidence=evidence)
    (answer,) = generate_answers(CopyingGenerator(), [request])
    assert answer.evidence[0] is evidence.hits[0]


def test_a_chat_model_that_quotes_an_entry_does_not_cite_another() -> None:
    """The model copied "[2]" from the text of entry 1, and entry 2 was cited."""
    request = Request("tell", "Tell me.", evidence=EVIDENCE)
    parser = CitationParser(request)
    quoted = break_marks(EVIDENCE.hits[0].entry.texts[0])
    parser.feed(f"It says: {quoted} [1]")
    _, answer = parser.finish(0.9)
    assert answer.citations == ("a",)
