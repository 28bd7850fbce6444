"""Find the right page, answer from it and point at the line, born-digital and scanned.

    python -m benchmarks.documents --work runs/documents [--scans] [--json FILE]

120 pages of documents that this machine has (this project's docs, manual pages, copyright files,
licenses, READMEs; English and Chinese) are set as PDF; see `document_pages` and
`document_typesetting`. 240 questions are made by template and 60 were written by hand, with known
page and line; see `document_questions`. An answer is right if it has a token F1 of at least 0.5
with the reference, or contains it with at most eight other words. The box of a right answer is
compared with that of the lines that it is printed in. `--scans` renders each page at 200 dpi, tilts
it by 2 degrees, adds noise, saves a JPEG at quality 60 and a PDF of such images, whose text is then
recognized.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.document_pages import PrintedDocument, source_documents
from benchmarks.document_questions import DocumentQuestion, template_questions, written_questions
from benchmarks.document_typesetting import A4, Typesetter, chinese_font
from benchmarks.reports import interval_values, wilson, write_json
from ravlm import KnowledgeBase, RetrievalAugmentedVLM, SearchOptions, read_entries
from ravlm.data.page_text import all_texts
from ravlm.data.text import is_chinese, split_words
from ravlm.knowledge.queries import AnyModality
from ravlm.metrics.statistics import PairedScores
from ravlm.records import Answer, Score
from ravlm.regions import Box, enclosing_box, relative_box

NUM_PAGES, NUM_QUESTIONS, NUM_WORDS = 120, 240, 200
DEGREES, DPI = 2.0, 200
MIN_F1, MAX_EXTRA_WORDS, MIN_IOU = 0.5, 8, 0.6
ARMS: dict[str, AnyModality] = {"text only": "text", "page image only": "image", "both": "any"}
_TELLING = re.compile(r"[A-Z][a-z]{3,}|\d[\d.,:/-]*\d|[A-Z]{2,}[\w-]*\d[\w-]*")


@dataclass(frozen=True)
class Outcome:
    """The answer to one question, and how good it is."""

    question: DocumentQuestion
    answer: Answer
    is_right: bool
    iou: float
    """Of the cited box with that of the printed lines; 0 without one on the right page."""


# pages


def print_documents(work: Path, num_pages: int) -> list[PrintedDocument]:
    """Set documents as PDF below `work`, until they have `num_pages` pages."""
    font = chinese_font()
    if font is None:
        print("There is no Chinese font (fonts-noto-cjk), so the Chinese documents are left out.")
    setter = Typesetter(font)
    folder = work / "pdf"
    folder.mkdir(parents=True, exist_ok=True)
    printed: list[PrintedDocument] = []
    for source in source_documents():
        remaining = num_pages - sum(document.num_pages for document in printed)
        if remaining <= 0:
            break
        if source.chinese and font is None:
            continue
        document = setter.print(source, folder / _file_name(source.name), remaining)
        printed.append(document)
    return printed


def scan_documents(work: Path, printed: Sequence[PrintedDocument]) -> None:
    """Write every document below `work` as a PDF of scanned pages, unless it is there."""
    import pypdfium2
    from fpdf import FPDF

    folder = work / "scans"
    folder.mkdir(exist_ok=True)
    for document in printed:
        name = _file_name(document.source.name)
        if (folder / name).exists():
            continue
        pdf = pypdfium2.PdfDocument(work / "pdf" / name)
        copy = FPDF(unit="pt", format="A4")
        for number in range(document.num_pages):
            image = pdf[number].render(scale=DPI / 72).to_pil()
            copy.add_page()
            copy.image(io.BytesIO(scanned(image, number, DEGREES)), 0, 0, *A4)
        pdf.close()
        copy.output(str(folder / name))


def scanned(page: Image.Image, seed: int, degrees: float) -> bytes:
    """Return a page as from a scanner: tilted, with noise, as a JPEG."""
    rng = np.random.default_rng(seed)
    tilted = page.convert("L").rotate(degrees, Image.Resampling.BICUBIC, fillcolor=255)
    pixels = np.asarray(tilted, np.float32) * 0.93 + 10 + rng.normal(0, 9, tilted.size[::-1])
    buffer = io.BytesIO()
    noisy = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    noisy.save(buffer, "JPEG", quality=60, dpi=(200, 200))
    return buffer.getvalue()


def tilted_box(box: Box, degrees: float) -> Box:
    """Return the box around a line of a page that was turned around its center."""
    cosine, sine = math.cos(math.radians(-degrees)), math.sin(math.radians(-degrees))
    corners = []
    for x, y in ((box[0], box[1]), (box[2], box[1]), (box[0], box[3]), (box[2], box[3])):
        u, v = (x - 0.5) * A4[0], (y - 0.5) * A4[1]
        turned = (u * cosine - v * sine, u * sine + v * cosine)
        corners.append((turned[0] / A4[0] + 0.5, turned[1] / A4[1] + 0.5))
    xs, ys = zip(*corners, strict=True)
    return relative_box((min(xs), min(ys), max(xs), max(ys)), 1.0, 1.0)


def _file_name(name: str) -> str:
    return name.replace("/", "-") + ".pdf"


def _page_id(document: str, page: int) -> str:
    """Return the id that the reader gives a page."""
    return f"{_file_name(document)}#page={page}"


# figures


def is_right(answer: str, references: Sequence[str]) -> bool:
    """Return whether an answer says what a reference says."""
    words = _tokens(answer)
    for reference in references:
        expected = _tokens(reference)
        shared = sum(min(words.count(w), expected.count(w)) for w in set(expected))
        f1 = 2 * shared / max(len(words) + len(expected), 1)
        is_contained = shared == len(expected) and len(words) - shared <= MAX_EXTRA_WORDS
        if f1 >= MIN_F1 or is_contained:
            return True
    return False


def _tokens(text: str) -> list[str]:
    if is_chinese(text):
        return [c for c in text.lower() if c.isalnum()]
    return [word for word in split_words(text) if word not in ("a", "an", "the")]


def iou(first: Box | None, second: Box | None) -> float:
    """Return the intersection of two boxes over their union."""
    if first is None or second is None:
        return 0.0
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return shared / max(sum(areas) - shared, 1e-9)


def search_figures(kb: KnowledgeBase, questions: Sequence[DocumentQuestion]) -> dict[str, Any]:
    """Return the share of questions whose page is first, for each way, with paired differences."""
    queries = [{"text": question.text} for question in questions]
    targets = [_page_id(question.document, question.page) for question in questions]
    scores: dict[str, Score] = {}
    for method in ("keyword", "dense", "hybrid"):
        for name, modality in ARMS.items():
            if method != "dense" and modality == "image":
                continue  # images are compared by vector alone
            if method == "keyword" and modality == "any":
                continue
            options = SearchOptions(method)
            ranked = kb.search_many(queries, 5, modality, options=options)
            firsts = [
                100.0 * (bool(hits) and hits[0].entry.id == target)
                for hits, target in zip(ranked, targets, strict=True)
            ]
            within = [
                any(hit.entry.id == target for hit in hits)
                for hits, target in zip(ranked, targets, strict=True)
            ]
            label = f"{name}, {method}"
            scores[label] = Score(float(np.mean(firsts)), tuple(firsts), "page at 1")
            print(f"{label}: page at 1 {scores[label].value:.1f} %, at 5 {np.mean(within):.1%}")
    paired = PairedScores(list(scores.values()))
    names = list(scores)
    best = names.index("both, hybrid")
    return {
        "page at 1": {
            name: interval_values(paired.interval(index)) for index, name in enumerate(names)
        },
        "both, hybrid minus": {
            name: interval_values(paired.difference(index, best))
            for index, name in enumerate(names)
            if index != best
        },
    }


def answer_questions(
    model: RetrievalAugmentedVLM, questions: Sequence[DocumentQuestion], are_scans: bool
) -> list[Outcome]:
    """Ask every question, and compare answers and boxes with what is printed."""
    outcomes = []
    for question in questions:
        answer = model.ask(question.text)
        right = not answer.abstained and is_right(answer.text, question.answers)
        page = _page_id(question.document, question.page)
        cited = [source.part for source in answer.sources if source.entry_id == page]
        printed = enclosing_box(
            tilted_box(line.box, DEGREES) if are_scans else line.box for line in question.lines
        )
        overlap = iou(cited[0].box, printed) if cited else 0.0
        outcomes.append(Outcome(question, answer, right, overlap))
    return outcomes


def answer_figures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return shares of right answers, by kind of question, and of boxes that fit."""
    by_kind: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_kind[outcome.question.kind].append(outcome)
    groups: Mapping[str, Sequence[Outcome]] = {"all": outcomes, **by_kind}
    figures: dict[str, Any] = {}
    for name, group in groups.items():
        right = [outcome for outcome in group if outcome.is_right]
        boxed = [outcome for outcome in right if outcome.iou >= MIN_IOU]
        abstained = sum(outcome.answer.abstained for outcome in group)
        low, high = wilson(len(right), len(group))
        figures[name] = {
            "n": len(group),
            "right": round(100 * len(right) / len(group), 1),
            "interval": [round(100 * low, 1), round(100 * high, 1)],
            "abstained": round(100 * abstained / len(group), 1),
            "box fits": round(100 * len(boxed) / max(len(right), 1), 1),
        }
        print(name, figures[name])
    return figures


def word_figures(kb: KnowledgeBase, printed: Sequence[PrintedDocument]) -> dict[str, float]:
    """Return the share of names, numbers and dates of the pages that were read exactly."""
    rng = np.random.default_rng(0)
    words: list[tuple[str, str]] = []
    for document in printed:
        for line in document.lines:
            id_ = _page_id(document.source.name, line.page)
            words += [(word, id_) for word in _TELLING.findall(line.text)]
    sample = [words[i] for i in rng.permutation(len(words))[:NUM_WORDS]]
    texts = {
        entry.id: set(_TELLING.findall("\n".join(all_texts(entry))))
        for entry in kb.get(sorted({id_ for _, id_ in sample}))
    }
    num_read = sum(word in texts.get(id_, ()) for word, id_ in sample)
    share = {"n": len(sample), "read exactly": round(100 * num_read / max(len(sample), 1), 1)}
    print("words and numbers", share)
    return share


def measure(
    work: Path,
    source: Path,
    printed: Sequence[PrintedDocument],
    questions: Sequence[DocumentQuestion],
    are_scans: bool,
    num_asked: int,
) -> dict[str, Any]:
    """Build a base of a source, unless it is there, and return all figures."""
    start = time.perf_counter()
    folder = work / ("kb-scans" if are_scans else "kb-pdf")
    with KnowledgeBase.build(folder, read_entries(source)) as kb:
        seconds = time.perf_counter() - start
        print(f"{len(kb)} pages in {seconds:.1f} s; {len(kb.quarantine)} notes")
        figures: dict[str, Any] = {"pages": len(kb), "seconds": round(seconds, 1)}
        figures["words and numbers"] = word_figures(kb, printed)
        figures["search"] = search_figures(kb, questions)
        model = RetrievalAugmentedVLM(kb, "extractive")
        outcomes = answer_questions(model, questions[:num_asked], are_scans)
        figures["answers"] = answer_figures(outcomes)
        with open(folder.with_suffix(".jsonl"), "w", encoding="utf-8") as file:
            for outcome in outcomes:
                file.write(json.dumps(_row(outcome), ensure_ascii=False) + "\n")
    return figures


def _row(outcome: Outcome) -> dict[str, Any]:
    question, answer = outcome.question, outcome.answer
    return {
        "question": question.text,
        "kind": question.kind,
        "answers": question.answers,
        "page": _page_id(question.document, question.page),
        "answer": answer.text,
        "citations": answer.citations,
        "right": outcome.is_right,
        "iou": round(outcome.iou, 3),
        "read": [hit.entry.id for hit in answer.evidence],
    }


def main() -> None:
    """Print the documents, ask the questions, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pages", type=int, default=NUM_PAGES)
    parser.add_argument("--asked", type=int, default=1000, help="questions that are asked")
    parser.add_argument("--scans", action="store_true", help="measure scans, too")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    printed = print_documents(options.work, options.pages)
    questions = template_questions(printed, NUM_QUESTIONS) + written_questions(printed)
    np.random.default_rng(1).shuffle(questions)
    counts: dict[str, int] = defaultdict(int)
    for question in questions:
        counts[question.kind] += 1
    num_pages = sum(document.num_pages for document in printed)
    print(
        f"{len(printed)} documents, {num_pages} pages, {len(questions)} questions: {dict(counts)}"
    )
    report: dict[str, Any] = {"pages": num_pages, "questions": dict(counts)}
    arguments = (printed, questions)
    report["born-digital"] = measure(
        options.work, options.work / "pdf", *arguments, are_scans=False, num_asked=options.asked
    )
    if options.scans:
        scan_documents(options.work, printed)
        report["scans"] = measure(
            options.work,
            options.work / "scans",
            *arguments,
            are_scans=True,
            num_asked=options.asked,
        )
    write_json(report, options.json)


if __name__ == "__main__":
    main()
