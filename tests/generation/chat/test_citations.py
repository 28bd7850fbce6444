"""From a model's text to an answer: marks, their numbers, abstention; the same for any pieces."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ravlm.generation.base import Request, VerbName
from ravlm.generation.chat.citations import CitationParser
from ravlm.generation.chat.reply import ReplyEnd
from ravlm.records import Answer, Entry, Evidence, Hit, Part
from ravlm.regions import Box, Region

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
        ("chat", "Fish [1 and 3].", "Fish [1][2].", ("a", "c")),
        ("chat", "Fish [^3] and nuts [^2^].", "Fish [1] and nuts [2].", ("c", "b")),
        ("chat", "Fish 【3†source】.", "Fish [1].", ("c",)),
        ("chat", "Fish [Entry 3], nuts [entry #2].", "Fish [1], nuts [2].", ("c", "b")),
        ("chat", "Fish [Entry 3, Entry 1].", "Fish [1][2].", ("c", "a")),
        ("chat", "Fish (source 3). Nuts (Evidence 2).", "Fish [1]. Nuts [2].", ("c", "b")),
        ("chat", "鱼（来源3）。坚果［2］。", "鱼[1]。坚果[2]。", ("c", "b")),
        (
            "chat",
            "It (the third) eats (see) fish [3].",
            "It (the third) eats (see) fish [1].",
            ("c",),
        ),
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


@pytest.mark.parametrize(
    "output",
    [
        "The finch sang in 1999 (2) times.",
        "It has wheels (3).",
        "It was built in (1984).",
        "See figure 3 and table [2024].",
        "The first source of light is the sun.",
        "(1) A finch. (2) A parrot.",
        "Press [Enter 1] or a[i] now.",
    ],
)
def test_plain_numbers_are_no_marks(output: str) -> None:
    for piece_length in (1, 1000):
        answer = parse(output, "chat", piece_length=piece_length)
        assert answer.text == output
        assert answer.trace.get("cited by") != "marks"


def test_a_mark_that_is_copied_from_an_entry_is_none() -> None:
    """ "(source 2)" stands in the entry itself."""
    entry = Entry("d", None, ("The finch is small (source 2) and sings",))
    evidence = Evidence((*HITS, Hit(entry, 0.5, Part("text"))), support=0.8)
    answer = parse("The finch is small (source 2).", "chat", evidence=evidence)
    assert (answer.text, answer.citations) == ("The finch is small (source 2).", ("d",))


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


@pytest.mark.parametrize(
    ("output", "chinese"),
    [
        ("I'm sorry, but the evidence doesn't mention the weight of the finch.", False),
        ("The provided evidence does not contain any information about its weight.", False),
        ("The evidence does not specify who built it [1].", False),
        ("I'm sorry. There is no information about the price in the evidence.", False),
        ("I cannot determine the answer based on the provided evidence.", False),
        ("Based on the given context, there is no mention of a price.", False),
        ("The evidence provided is not sufficient to answer.", False),
        ("I don't know.", False),
        ("抱歉，证据中没有提到它的重量。", True),
        ("根据所提供的资料，无法确定它的年龄。", True),
        ("很抱歉，我无法回答这个问题。", True),
    ],
)
def test_refusals_in_other_words_are_abstentions(output: str, chinese: bool) -> None:
    """Models were taken to answer, and entries with the same words were cited for it."""
    for piece_length in (1, 7, 1000):
        answer = parse(output, "chat", chinese, piece_length=piece_length)
        assert answer.abstained, output
        assert (answer.citations, answer.confidence) == ((), 0.2)
        assert ("知识库中没有" if chinese else "not in the knowledge base") in answer.text


@pytest.mark.parametrize(
    "output",
    [
        "The sign does not mention a price.",
        "The evidence does not mention its weight, but a heron eats fish [3].",
        "A heron eats fish. The evidence does not mention its weight.",
        "The evidence does not mention its weight. A heron eats fish.",
        "The document does not contain a signature.",
        "The court found no evidence of fraud in 1998.",
        "There is no information desk in the station.",
        "The entry fee is not included in the price.",
        "There is no evidence of life on Mars.",
        "I don't know whether you like birds, but this is a finch [1].",
        "证据中没有提到重量，但它是红色的[1]。",
        "这座城市没有提供地铁。",
        "他不知道答案。",
    ],
)
def test_answers_with_the_words_of_a_refusal_are_answers(output: str) -> None:
    assert not parse(output, "chat").abstained


def test_without_evidence_nothing_is_said_about_it() -> None:
    assert not parse("I don't know.", evidence=Evidence(searched=False)).abstained


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


PARTS = [
    "[1]",
    "[2",
    "]",
    "(source ",
    "[Entry ",
    "3",
    ")",
    "^",
    "†",
    " ",
    "\n",
    ".",
    "。",
    "【3】",
    "fish",
    "<think>",
    "</think>",
    "-",
    ",",
]


@example(["<think>", "</think>", "<think>"])
@example(["[2", "†", "[1]", "[2", "[1]"])
@example(["[2", "†", "(source ", "]", "]", "(source "])
@given(st.lists(st.sampled_from(PARTS)))
def test_pieces_give_what_the_whole_gives(parts: list[str]) -> None:
    text = "".join(parts)
    whole = parse(text, "chat", piece_length=10_000)
    for piece_length in (1, 2, 5):
        cut = parse(text, "chat", piece_length=piece_length)
        assert (cut.text, cut.citations) == (whole.text, whole.citations)
    assert all(1 <= int(n) <= len(whole.citations) for n in "123" if f"[{n}]" in whole.text)


def test_a_citation_points_at_the_lines_of_its_statement() -> None:
    """A reply over pages cited the passage that was found, a third of the page."""
    texts = ["Oil pressure: 3 bar", "Water pressure: 3 bar", "The valve opens at 90 degrees."]
    regions = [Region(t, (0.1, 0.1 * n, 0.5, 0.1 * n + 0.02), 1) for n, t in enumerate(texts, 1)]
    page = Entry("m.pdf#page=1", regions=tuple(regions))
    hit = Hit(page, 0.9, Part("text", 0, "\n".join(texts), (0.1, 0.1, 0.5, 0.32), 1))
    evidence = Evidence((hit,), (1.0,), support=0.9)

    def sources(reply: str, question: str, task: VerbName) -> list[tuple[str, Box | None]]:
        parser = CitationParser(Request(task, question, evidence=evidence))
        parser.feed(reply)
        _, answer = parser.finish(0.5)
        parts = [(source, source.part) for source in answer.sources]
        return [((part.text or "")[source.start : source.end], part.box) for source, part in parts]

    short = sources("3 bar [1]", "What is the water pressure?", "ask")
    assert short == [("Water pressure: 3 bar", regions[1].box)]
    reply = "It is hot. The valve opens at 90 degrees [1]."
    assert sources(reply, "When does it open?", "chat") == [(texts[2], regions[2].box)]
    unlike = "Nobody knows why the keeper left [1]."
    assert sources(unlike, "Why?", "chat") == [("\n".join(texts), hit.part.box)]
