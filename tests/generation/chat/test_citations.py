"""From a model's text to an answer: marks, their numbers, abstention; the same for any pieces."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ravlm.generation.base import Request, VerbName
from ravlm.generation.chat.citations import CitationParser
from ravlm.generation.chat.reply import ReplyEnd
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
    end: ReplyEnd | None = None,
    opens_thought: bool = False,
) -> Answer:
    """Parse `text` in pieces; check that together they are the answer's text, after any thoughts
    whose start was missing."""
    request = Request(task, "What?", evidence=evidence, chinese=chinese)
    parser = CitationParser(request, opens_thought)
    pieces = [parser.feed(text[i : i + piece_length]) for i in range(0, len(text), piece_length)]
    last, answer = parser.finish(0.5, end=end or ReplyEnd())
    shown = "".join([*pieces, last])
    assert shown == answer.text or (parser.lacked_start and shown.endswith(f"\n\n{answer.text}"))
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
        ("ask", "[THINK]It is [2].[/THINK]A finch [1]", "A finch", ("a",)),
        ("chat", "Is 3 < 4 [1]?", "Is 3 < 4 [1]?", ("a",)),
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
    for output in ("", " \n ", "<thi"):
        answer = parse(output)
        assert answer.abstained
        assert "not in the knowledge base" in answer.text


THOUGHTS = "The question is about birds [2]. Let me see:\n1. A heron eats fish.\n"


@pytest.mark.parametrize("piece_length", [1, 4, 1000])
@pytest.mark.parametrize("mark", ["</think>", "</thinking>", "[/THINK]"])
def test_thoughts_without_a_start_are_dropped(mark: str, piece_length: int) -> None:
    """Templates that open <think> themselves: the reasoning became the answer, with its marks."""
    for opens_thought in (False, True):
        answer = parse(
            f"{THOUGHTS}{mark}\n\nA finch [1]",
            piece_length=piece_length,
            opens_thought=opens_thought,
        )
        assert (answer.text, answer.citations) == ("A finch", ("a",))


def test_nothing_is_shown_before_thoughts_end_that_the_prompt_opened() -> None:
    parser = CitationParser(Request("chat", "What?", evidence=EVIDENCE), opens_thought=True)
    assert [parser.feed(piece) for piece in ("Let me see ", "</thi", "nk> Fish ")] == [
        "",
        "",
        "Fish",
    ]
    assert not parser.lacked_start
    direct = CitationParser(Request("chat", "What?", evidence=EVIDENCE), opens_thought=True)
    assert direct.feed("Fish [3].") == ""
    assert direct.finish()[1].text == "Fish [1]."


@pytest.mark.parametrize(
    ("output", "end", "words"),
    [
        ("<think>Let me see", ReplyEnd("length", 2176), "used up its 2,176 tokens for thinking"),
        ("<think></think>", ReplyEnd(), "reasoning but no answer"),
        ("", ReplyEnd(has_reasoning=True), "reasoning but no answer"),
        ("", ReplyEnd("length", has_reasoning=True), "used up its tokens for thinking"),
        ("", ReplyEnd("length", 64), "its 64 tokens before it wrote"),
        ("", ReplyEnd("content_filter"), "content filter"),
        ("", ReplyEnd(refusal="I can't help with that."), "I can't help with that."),
        ("", ReplyEnd("tool_calls"), 'finish reason "tool_calls"'),
    ],
)
def test_a_reply_without_an_answer_says_why(output: str, end: ReplyEnd, words: str) -> None:
    """Each was "not in the knowledge base", though the base had nothing to do with it."""
    answer = parse(output, end=end)
    assert words in answer.text
    assert "not in the knowledge base" not in answer.text
    assert (answer.abstained, answer.citations, answer.confidence) == (False, (), 0.0)
    assert answer.trace["no answer"] == ("refused" if end.refusal else end.finish_reason)
    chinese = parse(output, end=end, chinese=True).text
    assert chinese
    assert "知识库中没有" not in chinese


def test_a_cut_answer_is_marked() -> None:
    for reason in ("length", "content_filter"):
        answer = parse("The finch sings [1] at", "chat", end=ReplyEnd(reason))
        assert answer.text == "The finch sings [1] at…"
        assert answer.trace["finish_reason"] == reason
        assert answer.citations == ("a",)
    whole = parse("The finch sings [1].", "chat")
    assert "finish_reason" not in whole.trace


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
