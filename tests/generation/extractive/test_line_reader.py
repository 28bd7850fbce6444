"""Answers from lines of pages: keys and values, rows of tables, options, definitions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ravlm.generation.base import Request
from ravlm.generation.extractive.line_reader import answer_from_lines
from ravlm.records import Answer, Entry, Evidence, Hit, Part
from ravlm.regions import Region


def page(title: str, *lines: str, kind: str = "line") -> Entry:
    regions = [
        Region(text, (0.1, 0.1 + n / 50, 0.1 + 0.008 * len(text), 0.112 + n / 50), 1)
        for n, text in enumerate(lines)
    ]
    if kind == "table":
        regions.insert(0, Region("", (0, 0, 1, 1), 1, "table"))
    return Entry(f"{title}.pdf#page=1", regions=regions, metadata={"title": title})


COPY = page(
    "cp(1)",
    "cp - copy files and directories",
    "-a, --archive",
    "same as -dR. It keeps links.",
    "--no-preserve=ATTR",
    "do not preserve attributes",
    "--preserve",
    "preserve attributes",
)
LIST = page("ls(1)", "ls - list directory contents", "-a, --all", "do not ignore hidden entries")
LICENSE = page(
    "bash copyright", "License: GPL-3+", "Copyright: Free Software Foundation", "License: GPL-3+"
)
PRICES = page(
    "Prices of fruit",
    "Fruit | Price | Origin",
    "Apple | 3.20 | Peru",
    "Pear | 2.90 | Chile",
    kind="table",
)


def ask(question: str, *entries: Entry) -> Answer | None:
    entries = entries or (COPY, LIST, LICENSE, PRICES)
    hits = tuple(Hit(entry, 0.5, Part("text", 0, "")) for entry in entries)
    weights = (1 / len(hits),) * len(hits)
    evidence = Evidence(hits, weights, linked=False)
    chinese = any("\u4e00" <= c <= "\u9fff" for c in question)
    return answer_from_lines(Request("ask", question, evidence=evidence, chinese=chinese))


@pytest.mark.parametrize(
    ("question", "text", "line"),
    [
        ("What does the option --archive of cp do?", "same as -dR.", 2),
        ("What does -a of ls do?", "do not ignore hidden entries", 2),
        ("What does the option --preserve of cp do?", "preserve attributes", 6),
        ("What does the command ls do?", "list directory contents", 0),
        ("Under which license is the Debian package bash distributed?", "GPL-3+", 0),
        ("Who holds the copyright of the package bash?", "Free Software Foundation", 1),
        ("What is the price of the pear in the table of prices of fruit?", "2.90", 3),
        ("What is the origin of the apple in the table of prices of fruit?", "Peru", 2),
        ("cp 的 --archive 选项有什么作用？", "same as -dR.", 2),
    ],
)
def test_the_line_that_the_question_is_about(question: str, text: str, line: int) -> None:
    """The reader of prose answered "GNU/Linux" where "License: GPL-3+" stands."""
    answer = ask(question)
    assert answer is not None
    assert answer.text == text.removesuffix(".") or answer.text == text
    (source,) = answer.sources
    entry = next(e for e in (COPY, LIST, LICENSE, PRICES) if e.id == source.entry_id)
    assert source.part.box == entry.regions[line].box
    assert source.part.text[source.start : source.end].strip() == answer.text


@pytest.mark.parametrize(
    "question",
    [
        "What does the option --recursive of cp do?",  # no such option
        "What does the option --archive of rsync do?",  # another command
        "Who wrote the novel about the white whale?",
        "When was the harbor of Alden built?",
    ],
)
def test_other_questions_are_left_to_the_reader_of_prose(question: str) -> None:
    assert ask(question) is None


def test_doubtful_lines_and_texts_of_entries_are_not_read() -> None:
    regions = tuple(replace(region, confidence=0.5) for region in LICENSE.regions)
    question = "Under which license is the package bash distributed?"
    assert ask(question, replace(LICENSE, regions=regions)) is None
    assert ask(question, Entry("card", texts=("Name: bash\nLicense: GPL-3+",))) is None


def test_cells_of_any_text_are_read_by_their_columns() -> None:
    """Cells were detected by ": " and "; " in the text of their row, which may be in cells, too."""
    rows = [
        ("path", "takes; returns", "notes"),
        ("POST /v1/ask", "question: text; k -> an answer", "see above"),
        ("GET /v1/[id]", "nothing", "one entry; no images"),
    ]
    regions = [Region("", (0, 0, 1, 1), 1, "table")]
    for y, row in enumerate(rows):
        regions += [
            Region(text, (0.1 + 0.3 * x, 0.1 + y / 20, 0.3 + 0.3 * x, 0.12 + y / 20), 1)
            for x, text in enumerate(row)
        ]
    entry = Entry("api.pdf#page=1", regions=regions, metadata={"title": "The API"})
    answer = ask("What takes and returns POST ask?", entry)
    assert answer is not None
    assert answer.text == "question: text; k -> an answer"
    assert answer.sources[0].part.box == regions[5].box
    notes = ask("What are the notes of GET id?", entry)
    assert notes is not None
    assert notes.text == "one entry; no images"


def test_a_question_begins_with_the_column_it_asks_for() -> None:
    """ "Until when are there works" was answered by the works, and "What to do" had no words."""
    regions = [Region("", (0, 0, 1, 1), 1, "table")]
    rows = [
        ("Quay", "Works", "Until", "What to do"),
        ("Coal quay", "Dredging", "12 July", "Use the market quay"),
        ("Market quay", "None", "-", "Ask the harbor master"),
    ]
    for y, row in enumerate(rows):
        regions += [
            Region(text, (0.1 + 0.2 * x, 0.1 + y / 20, 0.25 + 0.2 * x, 0.12 + y / 20), 1)
            for x, text in enumerate(row)
        ]
    entry = Entry("harbor.pdf#page=1", regions=regions, metadata={"title": "Harbor news"})
    for question, text in (
        ("Until when are there works at the coal quay?", "12 July"),
        ("What are the works at the coal quay?", "Dredging"),
        ("What should I do at the market quay?", "Ask the harbor master"),
    ):
        answer = ask(question, entry)
        assert answer is not None, question
        assert answer.text == text


def test_the_name_of_a_document_does_not_tell_its_lines_apart() -> None:
    """ "How often does watch run the command?" was answered by the summary of watch, and "What is
    libusb?" by the address of its home page."""
    manual = page("watch(1)", "watch - repeat a program", "Manual: 12 pages")
    readme = page("libusb README", "libusb homepage: usb.example")
    scan = page("passwd(1)", "passwd-更改用户密码")  # as it is recognized
    for question, entry, text in (
        ("passwd 命令是做什么的？", scan, "更改用户密码"),
        ("What does watch do?", manual, "repeat a program"),
        ("watch 用于什么？", manual, "repeat a program"),
        ("How often does watch run the command by default?", manual, None),
        ("What is libusb?", readme, None),
        ("What is the homepage of libusb?", readme, "usb.example"),
    ):
        answer = ask(question, entry)
        assert (None if answer is None else answer.text) == text, question


def test_the_numbers_of_an_enumeration() -> None:
    """ "Which exit code means a usage error?" was answered by the codes before it."""
    codes = page("tool(1)", "Exit codes: 0 done, 1 refused, 2 usage error, 3 no")
    for question, text in (
        ("Which exit code of tool means a usage error?", "2"),
        ("What does exit code 2 of tool mean?", "usage error"),
        ("What does exit code 3 of tool mean?", "no"),
    ):
        answer = ask(question, codes)
        assert answer is not None, question
        assert answer.text == text
    assert ask("How often does tool run?", codes) is None
    lines = page("timeout(1)", "124 too late 125 no memory", "126 not found")
    answer = ask("What does exit status 126 of timeout mean?", lines)
    assert answer is not None
    assert answer.text == "not found"
