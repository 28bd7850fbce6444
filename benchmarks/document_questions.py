"""Questions about printed documents, with their answers, pages and lines: by template, and those
of questions/documents.jsonl, which were written by hand."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.data import QUESTIONS, read_lines
from benchmarks.document_pages import Block, PrintedDocument, PrintedLine
from ravlm.data.text import is_chinese

_MAX_ANSWER = 14
"""Words of an answer."""
_MAX_COLUMNS = 4
_FIELD = re.compile(r"(Source|Copyright|License|Upstream-Name): +(\S.*)")
_COPYRIGHT_QUESTIONS = {
    "Source": "Where does the source of the Debian package {name} come from?",
    "Copyright": "Who holds the copyright of the Debian package {name}?",
    "License": "Under which license is the Debian package {name} distributed?",
    "Upstream-Name": "What is the upstream name of the Debian package {name}?",
}
_OPTION_NAME = re.compile(r"(--[a-z][\w-]+|-\w\b)")


@dataclass(frozen=True)
class DocumentQuestion:
    """A question about a document."""

    text: str
    answers: tuple[str, ...]
    document: str
    page: int
    lines: tuple[PrintedLine, ...]
    """The lines that the answer is printed in."""
    kind: str


def template_questions(
    printed: Sequence[PrintedDocument], limit: int, seed: int = 0
) -> list[DocumentQuestion]:
    """Return up to `limit` questions, of each kind about as many, at most six of a page."""
    by_kind: dict[str, list[DocumentQuestion]] = defaultdict(list)
    for document in printed:
        for question in _questions(document):
            by_kind[question.kind].append(question)
    rng = random.Random(seed)
    for questions in by_kind.values():
        rng.shuffle(questions)
    chosen: list[DocumentQuestion] = []
    num_of_page: dict[tuple[str, int], int] = defaultdict(int)
    texts: set[str] = set()
    while len(chosen) < limit and any(by_kind.values()):
        for kind in sorted(by_kind):
            if len(chosen) < limit and by_kind[kind]:
                question = by_kind[kind].pop()
                page = (question.document, question.page)
                if question.text not in texts and num_of_page[page] < 6:
                    num_of_page[page] += 1
                    texts.add(question.text)
                    chosen.append(question)
    return chosen


def written_questions(printed: Sequence[PrintedDocument]) -> list[DocumentQuestion]:
    """Return the questions written by hand whose document and line were printed."""
    by_name = {document.source.name: document for document in printed}
    questions = []
    for row in read_lines(QUESTIONS / "documents.jsonl"):
        document = by_name.get(row["document"])
        lines = () if document is None else _lines_of(document, row["quote"])
        if lines:
            answers = tuple(row["answers"])
            kind = "by hand, Chinese" if is_chinese(row["question"]) else "by hand, English"
            questions.append(
                DocumentQuestion(
                    row["question"], answers, row["document"], lines[0].page, lines, kind
                )
            )
    return questions


def _questions(document: PrintedDocument) -> Iterator[DocumentQuestion]:
    source = document.source
    by_block: dict[int, list[PrintedLine]] = defaultdict(list)
    for line in document.lines:
        by_block[line.block].append(line)
    if source.name.startswith("man/"):
        yield from _manual_questions(document, by_block)
    elif source.name.startswith("copyright/"):
        yield from _copyright_questions(document)
    elif source.name.endswith(".md"):
        yield from _table_questions(document, by_block)


def _manual_questions(
    document: PrintedDocument, by_block: dict[int, list[PrintedLine]]
) -> Iterator[DocumentQuestion]:
    """Ask what a command does, and what its options do."""
    source = document.source
    name, chinese = source.title.removesuffix("(1)"), source.chinese
    for number, block in enumerate(source.blocks):
        lines = by_block.get(number, [])
        if not lines:
            continue
        summary = re.match(rf"{re.escape(name)}\s+[-–]\s+(.+)", block.texts[0])
        if block.kind == "paragraph" and summary:
            text = f"{name} 命令是做什么的？" if chinese else f"What does the command {name} do?"
            kind = "manual, summary"
            yield from _question(document, text, summary[1], lines, kind)
        option = _OPTION_NAME.findall(block.texts[0])
        if block.kind == "option" and len(block.texts) == 2 and option:
            answer = re.split(r"(?<=[.;。；])\s|[;；。]|\.$", block.texts[1])[0].rstrip(".。;；")
            is_chinese_answer = is_chinese(answer)
            if chinese and not is_chinese_answer:
                continue
            flag = option[-1]
            text = f"{name} 的 {flag} 选项有什么作用？" if chinese else (
                f"What does the option {flag} of {name} do?"
            )  # fmt: skip
            kind = "manual, options, Chinese" if chinese else "manual, options"
            printed = [line for line in lines if line.cell == 1]
            yield from _question(document, text, answer, printed, kind)


def _copyright_questions(document: PrintedDocument) -> Iterator[DocumentQuestion]:
    """Ask for the first value of the fields of a copyright file."""
    name = document.source.name.removeprefix("copyright/")
    previous: set[str] = set()
    for line in document.lines:
        match = _FIELD.fullmatch(line.text.strip())
        if match and match[1] not in previous:
            previous.add(match[1])
            text = _COPYRIGHT_QUESTIONS[match[1]].format(name=name)
            yield from _question(document, text, match[2].rstrip("., "), [line], "copyright files")


def _table_questions(
    document: PrintedDocument, by_block: dict[int, list[PrintedLine]]
) -> Iterator[DocumentQuestion]:
    """Ask for a cell of a table by its row and column."""
    heading, head = "", None
    for number, block in enumerate(document.source.blocks):
        if block.kind == "heading":
            heading, head = block.texts[0], None
        elif block.kind != "row":
            head = None
        elif head is None:
            head = block
        elif by_block.get(number):
            yield from _row_questions(document, heading, head, block, by_block[number])


def _row_questions(
    document: PrintedDocument, heading: str, head: Block, row: Block, lines: Sequence[PrintedLine]
) -> Iterator[DocumentQuestion]:
    if len(row.texts) != len(head.texts) or len(row.texts) > _MAX_COLUMNS:
        return
    if not 0 < len(row.texts[0].split()) <= 8:
        return
    for column in range(1, len(row.texts)):
        label, answer = head.texts[column], row.texts[column]
        if not label or len(label.split()) > 6 or not answer:
            continue
        chinese = document.source.chinese
        text = (
            f"“{heading}”一表中，{row.texts[0]} 的{label}是什么？"
            if chinese
            else f'In the table of "{heading}", what is the {label} of {row.texts[0]}?'
        )
        printed = [line for line in lines if line.cell == column]
        kind = "tables, Chinese" if chinese else "tables"
        yield from _question(document, text, answer, printed, kind)


def _question(
    document: PrintedDocument, text: str, answer: str, lines: Sequence[PrintedLine], kind: str
) -> Iterator[DocumentQuestion]:
    """Yield a question if its answer is short and printed on one page."""
    num_words = len(answer) / 2 if is_chinese(answer) else len(answer.split())
    if not lines or not answer.strip() or num_words > _MAX_ANSWER:
        return
    within: list[PrintedLine] = []
    remainder = _compact(answer)
    for line in lines:  # those that the answer is in
        words = _compact(line.text)
        shared = remainder[: len(words)]
        if remainder and (words.startswith(remainder) or shared == words or remainder in words):
            within.append(line)
            remainder = "" if remainder in words else remainder[len(words) :]
    if within and len({line.page for line in within}) == 1:
        name = document.source.name
        yield DocumentQuestion(text, (answer,), name, within[0].page, tuple(within), kind)


def _lines_of(document: PrintedDocument, quote: str) -> tuple[PrintedLine, ...]:
    """Return the consecutive lines that a quote is printed in."""
    target = _compact(quote)
    for first in range(len(document.lines)):
        text = ""
        for last in range(first, min(first + 6, len(document.lines))):
            text += _compact(document.lines[last].text)
            if target in text:
                lines = document.lines[first : last + 1]
                starts = [n for n in range(len(lines)) if target in _joined(lines[n:])]
                return tuple(lines[max(starts) :])
    return ()


def _joined(lines: Sequence[PrintedLine]) -> str:
    return "".join(_compact(line.text) for line in lines)


def _compact(text: str) -> str:
    return re.sub(r"\s+", "", text)
