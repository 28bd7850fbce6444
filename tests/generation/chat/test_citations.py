"""From a model's text to an answer: marks, their numbers, abstention; the same for any pieces."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ravlm.generation.base import Request, VerbName
from ravlm.generation.chat.citations import CitationParser
from ravlm.records import Answer, Entry, Evidence, Hit, Part

HITS = tuple(
    Hit(Entry(name, None, (text,)), 0.5, Part("text"))
    for name, text in (
        ("a", "The finch sings at dawn"),
        ("b", "The parrot cracks nuts"),
        ("c", "A heron eats fish"),
    )
)
EVIDENCE = Evidence(HITS, (0.5, 0.3, 0.2), support=0.8)


def parse(
    text: str,
    task: VerbName = "ask",
    chinese: bool = False,
    evidence: Evidence = EVIDENCE,
    piece_length: int = 3,
) -> Answer:
    """Parse `text` in pieces; check that together they are the answer's text."""
    parser = CitationParser(Request(task, "What?", evidence=evidence, chinese=chinese))
    pieces = [parser.feed(text[i : i + piece_length]) for i in range(0, len(text), piece_length)]
    last, answer = parser.finish(0.5)
    assert "".join([*pieces, last]) == answer.text
    return answer


@pytest.mark.parametrize(
    ("task", "output", "text", "citations"),
    [
        ("ask", "A finch [1]", "A finch", ("a",)),
        ("ask", "A finch. [1]", "A finch.", ("a",)),
        (
            "ask",
            "A parrot [2]. It cracks nuts [1].",
            "A parrot [1]. It cracks nuts [2].",
            ("b", "a"),
        ),
        ("tell", "Fish [3][2]. Nuts [2].", "Fish [1][2]. Nuts [2].", ("c", "b")),
        ("tell", "Fish [3, 1].", "Fish [1][2].", ("c", "a")),
        ("chat", "Fish [1-3].", "Fish [1][2][3].", ("a", "b", "c")),
        ("chat", "鱼【3】。", "鱼[1]。", ("c",)),
        ("caption", "A heron [3] on ice", "A heron on ice", ("c",)),
        ("chat", "In [2024] it sang [1] [ok]", "In [2024] it sang [1] [ok]", ("a",)),
        ("ask", "<think>It is [2].</think>\n A finch [1]", "A finch", ("a",)),
    ],
)
def test_marks_become_citations(
    task: VerbName, output: str, text: str, citations: tuple[str, ...]
) -> None:
    """[1] in a finished text is the first of its citations, whatever its number in the evidence
    was."""
    for piece_length in (1, 3, 1000):
        answer = parse(output, task, piece_length=piece_length)
        assert (answer.text, answer.citations) == (text, citations)
    assert answer.trace["cited by"] == "marks"
    weights = dict(zip("abc", EVIDENCE.weights, strict=True))
    assert answer.confidence == round(0.8 * sum(weights[name] for name in citations) * 0.5, 4)


def test_a_mark_of_no_entry_is_removed() -> None:
    """A made-up [9] once stood in the text as if it were evidence."""
    answer = parse("The finch sings [9] at dawn [1] and so on.")
    assert answer.text == "The finch sings at dawn [1] and so on."
    assert answer.citations == ("a",)
    assert answer.trace["unknown marks"] == "[9]"


def test_without_marks_the_words_identify_the_source() -> None:
    answer = parse("A parrot that cracks nuts")
    assert answer.citations == ("b",)
    assert answer.trace["cited by"] == "words"
    nothing = parse("A submarine under way")
    assert nothing.citations == ()
    assert (nothing.confidence, nothing.abstained) == (0.0, False)


@pytest.mark.parametrize(
    "output",
    [
        "That is not in the knowledge base.",
        "知识库中没有这方面的内容。",
        "Not in the knowledge base [1]",
    ],
)
def test_absent_phrases_are_abstentions(output: str) -> None:
    answer = parse(output)
    assert answer.abstained
    assert (answer.citations, answer.confidence) == ((), 0.2)


def test_a_partial_answer_is_not_an_abstention() -> None:
    answer = parse("It is a finch [1]. Its weight is not in the knowledge base.")
    assert not answer.abstained
    assert answer.citations == ("a",)


def test_a_chinese_question_gets_a_chinese_refusal() -> None:
    answer = parse("It is not in the knowledge base.", chinese=True)
    assert answer.abstained
    assert "知识库中没有" in answer.text


def test_empty_text_is_an_abstention() -> None:
    for output in ("", " \n ", "<think>Let me see", "<think></think>"):
        answer = parse(output)
        assert answer.abstained
        assert "not in the knowledge base" in answer.text


def test_the_closed_book_leaves_brackets_alone() -> None:
    answer = parse("A finch [1].", evidence=Evidence(searched=False))
    assert (answer.text, answer.citations, answer.confidence) == ("A finch [1].", (), 0.5)


PARTS = ["[1]", "[2", "]", " ", "\n", ".", "。", "【3】", "fish", "<think>", "</think>", "-", ","]


@example(["<think>", "</think>", "<think>"])
@given(st.lists(st.sampled_from(PARTS)))
def test_pieces_give_what_the_whole_gives(parts: list[str]) -> None:
    text = "".join(parts)
    whole = parse(text, "chat", piece_length=10_000)
    for piece_length in (1, 2, 5):
        cut = parse(text, "chat", piece_length=piece_length)
        assert (cut.text, cut.citations) == (whole.text, whole.citations)
    assert all(1 <= int(n) <= len(whole.citations) for n in "123" if f"[{n}]" in whole.text)
