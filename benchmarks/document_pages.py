"""Pages for the benchmark of documents: real documents of this machine, set as PDF with fpdf2.

Each line is placed by this module, so its page and its box are known. Sources: this project's docs,
and manual pages, copyright files and READMEs as Debian installs them.
"""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.structure import ROOT
from ravlm.regions import Box

A4 = (595.0, 842.0)
_MARGIN = 62.0
_SIZE, _LEADING = 10.5, 14.5
_TITLE_SIZES = (17.0, 13.5, 11.5)
_MAX_PAGES = 3
"""Pages of one document."""
_MANUALS = (
    "ls", "cp", "tar", "grep", "find", "sort", "gzip", "date", "head", "chmod", "wc", "uniq",
)  # fmt: skip
_CHINESE_MANUALS = (
    "passwd", "login", "man", "whatis", "apropos", "gpasswd", "chage", "newgrp", "chsh", "chfn",
)  # fmt: skip
_PACKAGES = (
    "coreutils", "bash", "tar", "gzip", "grep", "findutils", "sed", "debianutils", "hostname",
    "mawk", "apt", "dpkg", "libc6", "zlib1g", "util-linux", "perl-base", "adduser",
)  # fmt: skip
_READMES = ("bash", "tar", "gzip", "mawk", "dpkg", "adduser", "man-db", "libpng16-16", "less")
_LICENSES = ("Apache-2.0", "GPL-3", "MPL-2.0", "Artistic")
_PROJECT_DOCS = (
    "README.md", "docs/knowledge.md", "docs/answers.md", "docs/serving.md", "docs/training.md",
    "docs/choosing.md", "docs/comparing.md", "docs/editing.md", "docs/security.md",
    "docs/method.md", "docs/metrics.md", "docs/reading.md", "docs/architecture.md",
    "docs/benchmarks.md",
)  # fmt: skip
_MARKDOWN = re.compile(r"!?\[([^\]]*)\]\([^)]*\)|[*_]{2}|`")
_ADDRESS = re.compile(r"<[^>\n]{1,200}>")


@dataclass(frozen=True)
class Block:
    """A piece of a document: a heading, a paragraph, an item, verbatim lines, a row of a table."""

    kind: str
    texts: tuple[str, ...]
    level: int = 0
    """Of a heading, from 0."""


@dataclass(frozen=True)
class SourceDocument:
    """A document to set."""

    name: str
    title: str
    blocks: tuple[Block, ...]
    chinese: bool = False


@dataclass(frozen=True)
class PrintedLine:
    """A line as it was set: its block's index in the document, and its column in a row."""

    text: str
    page: int
    box: Box
    block: int
    cell: int = 0


@dataclass
class PrintedDocument:
    """A document with its PDF and its lines."""

    source: SourceDocument
    num_pages: int = 0
    lines: list[PrintedLine] = field(default_factory=list)


# sources


def source_documents() -> Iterator[SourceDocument]:
    """Yield the documents that this machine has, those of each kind in turn."""
    kinds: list[Iterator[SourceDocument | None]] = [
        (_markdown_document(name) for name in _PROJECT_DOCS),
        (_manual(name, chinese=False) for name in _MANUALS),
        (_copyright(name) for name in _PACKAGES),
        (_readme(name) for name in _READMES),
        (_license(name) for name in _LICENSES),
        (_manual(name, chinese=True) for name in _CHINESE_MANUALS),
        iter([_markdown_document("README.zh-CN.md", chinese=True)]),
    ]
    while kinds:
        for documents in list(kinds):
            try:
                document = next(documents)
            except StopIteration:
                kinds.remove(documents)
                continue
            if document is not None and len(document.blocks) > 2:
                yield document


def _markdown_document(name: str, chinese: bool = False) -> SourceDocument | None:
    path = ROOT / name
    if not path.is_file():
        return None
    blocks: list[Block] = []
    paragraph: list[str] = []
    in_code = False

    def end_paragraph() -> None:
        if paragraph:
            joined = " ".join(paragraph)
            kind = "item" if joined.startswith("- ") else "paragraph"
            blocks.append(Block(kind, (joined,)))
            paragraph.clear()

    for raw in path.read_text(encoding="utf-8").splitlines():
        line = _ADDRESS.sub("", _MARKDOWN.sub(r"\1", raw)) if not in_code else raw
        if raw.startswith("```"):
            in_code = not in_code
            end_paragraph()
        elif in_code or raw.startswith("    "):
            end_paragraph()
            if raw.strip():
                blocks.append(Block("verbatim", (raw.rstrip()[:95],)))
        elif raw.startswith("#"):
            end_paragraph()
            level = len(raw) - len(raw.lstrip("#")) - 1
            blocks.append(Block("heading", (line.lstrip("# "),), min(level, 2)))
        elif raw.startswith("|"):
            end_paragraph()
            cells = tuple(cell.strip() for cell in line.strip().strip("|").split("|"))
            if not all(set(cell) <= set("-: ") for cell in cells):
                blocks.append(Block("row", cells))
        elif not line.strip():
            end_paragraph()
        else:
            if line.startswith("- "):
                end_paragraph()
            paragraph.append(line.strip())
    end_paragraph()
    return SourceDocument(name, name, tuple(blocks), chinese)


def _manual(name: str, chinese: bool) -> SourceDocument | None:
    """Return a manual page as `man` prints it, its words unhyphenated and its lines joined."""
    if shutil.which("man") is None:
        return None
    options = ["-E", "UTF-8", "--no-hyphenation", "--no-justification", "-P", "cat"]
    command = ["man", "-L", "zh_CN" if chinese else "C", *options, "1", name]
    environment = {"MANWIDTH": "78", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    environment["MANROFFOPT"] = "-c"
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    text = re.sub(".\b", "", result.stdout)
    if result.returncode or (chinese and not re.search("[\u4e00-\u9fff]", text)):
        return None
    title = f"{name}(1)"
    blocks = _indented_blocks(text.splitlines()[1:-1])
    kind = "zh" if chinese else "en"
    return SourceDocument(f"man/{kind}/{name}.1", title, tuple(blocks), chinese)


def _indented_blocks(lines: Sequence[str]) -> list[Block]:
    """Return headings, paragraphs and options of a manual page, by their indentation."""
    blocks: list[Block] = []
    paragraph: list[str] = []
    indent = 0

    def end_paragraph() -> None:
        if paragraph:
            is_option = paragraph[0].startswith("-")
            blocks.append(Block("option" if is_option else "paragraph", tuple(paragraph)))
            paragraph.clear()

    for line in lines:
        if not line.strip():
            end_paragraph()
            continue
        depth = len(line) - len(line.lstrip())
        words = " ".join(line.split())
        if depth <= 3:
            end_paragraph()
            blocks.append(Block("heading", (words,), 1 if depth == 0 else 2))
        elif paragraph and depth > indent and len(paragraph) == 1 and paragraph[0].startswith("-"):
            paragraph.append(words)  # the description below an option
        elif paragraph:
            is_chinese = max(paragraph[-1][-1], words[0]) > "\u2e80"
            paragraph[-1] += words if is_chinese else f" {words}"
        else:
            paragraph += (
                re.split(r"\s{2,}", line.strip(), maxsplit=1) if words[0] == "-" else [words]
            )
        indent = depth
    end_paragraph()
    return blocks


def _copyright(package: str) -> SourceDocument | None:
    path = Path("/usr/share/doc") / package / "copyright"
    return _plain_document(path, f"{package} copyright", f"copyright/{package}")


def _readme(package: str) -> SourceDocument | None:
    folder = Path("/usr/share/doc") / package
    names = sorted(folder.glob("README*")) if folder.is_dir() else []
    return _plain_document(names[0], f"{package} README", f"readme/{package}") if names else None


def _license(name: str) -> SourceDocument | None:
    return _plain_document(Path("/usr/share/common-licenses") / name, name, f"license/{name}")


def _plain_document(path: Path, title: str, name: str) -> SourceDocument | None:
    """Return a text file whose lines stay as they are."""
    if not path.is_file():
        return None
    data = path.read_bytes()
    data = gzip.decompress(data) if path.suffix == ".gz" else data
    blocks = [Block("heading", (title,), 0)]
    for line in data.decode("utf-8", "replace").splitlines():
        stripped = line.replace("\t", "    ").rstrip()
        blocks.append(Block("verbatim" if stripped.strip() else "space", (stripped[:95],)))
    return SourceDocument(name, title, tuple(blocks))


# setting


class Typesetter:
    """Sets documents in one PDF each; `font` is a file with Chinese characters."""

    def __init__(self, font: tuple[str, int] | None) -> None:
        self.font = font

    def print(self, source: SourceDocument, path: Path, max_pages: int) -> PrintedDocument:
        """Write the PDF of a document, and return where its lines are."""
        from fpdf import FPDF

        pdf = FPDF(unit="pt", format="A4")
        pdf.set_auto_page_break(auto=False)
        pdf.set_title(source.title)
        family = "Helvetica"
        if source.chinese:
            assert self.font is not None
            family = "chinese"
            pdf.add_font(family, fname=self.font[0], collection_font_number=self.font[1])
        setting = _Setting(pdf, family, PrintedDocument(source), min(max_pages, _MAX_PAGES))
        for number, block in enumerate(source.blocks):
            if not setting.place(number, block):
                break
        setting.printed.num_pages = pdf.page
        pdf.output(str(path))
        return setting.printed


class _Setting:
    """The state of setting one document."""

    def __init__(self, pdf: Any, family: str, printed: PrintedDocument, max_pages: int) -> None:
        self.pdf, self.family, self.printed = pdf, family, printed
        self.max_pages = max_pages
        pdf.add_page()
        self.y = _MARGIN

    def place(self, number: int, block: Block) -> bool:
        """Set a block; return False once the document has all its pages."""
        if block.kind == "space":
            self.y += _LEADING / 2
            return True
        size = _TITLE_SIZES[block.level] if block.kind == "heading" else _SIZE
        size = 9.0 if block.kind in ("verbatim", "row") else size
        self._set_font(block, size)
        indent = {"item": 12.0, "option": 14.0, "heading": 0.0}.get(block.kind, 0.0)
        width = A4[0] - 2 * _MARGIN - indent
        if block.kind == "row":
            return self._place_row(number, block, size, width)
        for part, text in enumerate(block.texts):
            left = _MARGIN + indent + (26.0 if part and block.kind == "option" else 0.0)
            for line in self._wrapped(text, A4[0] - _MARGIN - left, block.kind):
                if not self._place_line(number, line, left, size, part):
                    return False
        self.y += 0.0 if block.kind == "verbatim" else _LEADING / 2
        return True

    def _set_font(self, block: Block, size: float) -> None:
        is_bold = block.kind == "heading" and self.family == "Helvetica"
        is_code = block.kind == "verbatim" and self.family == "Helvetica"
        self.pdf.set_font("Courier" if is_code else self.family, "B" if is_bold else "", size)

    def _place_row(self, number: int, block: Block, size: float, width: float) -> bool:
        """Set a row of a table in equal columns, each cell on as many lines as it needs."""
        column = width / len(block.texts)
        cells = [self._wrapped(text, column - 8, "row") for text in block.texts]
        height = max(map(len, cells)) * size * 1.25 + 5
        if not self._has_room(height):
            return False
        top = self.y
        for index, lines in enumerate(cells):
            self.y = top
            for line in lines:
                self._place_line(number, line, _MARGIN + index * column, size, index)
        self.y = top + height
        self.pdf.set_draw_color(190)
        self.pdf.line(_MARGIN, self.y - 3, A4[0] - _MARGIN, self.y - 3)
        return True

    def _place_line(self, number: int, text: str, left: float, size: float, cell: int) -> bool:
        height = size * (1.25 if size < _SIZE else 1.38)
        if not self._has_room(height):
            return False
        if text.strip():
            width = self.pdf.get_string_width(text)
            self.pdf.set_xy(left, self.y)
            self.pdf.cell(w=width + 1, h=height, text=text)
            top, bottom = self.y + (height - size) / 2, self.y + (height + size) / 2
            box = (left / A4[0], top / A4[1], (left + width) / A4[0], bottom / A4[1])
            self.printed.lines.append(PrintedLine(text, self.pdf.page, box, number, cell))
        self.y += height
        return True

    def _has_room(self, height: float) -> bool:
        if self.y + height <= A4[1] - _MARGIN:
            return True
        if self.pdf.page >= self.max_pages:
            return False
        self.pdf.add_page()
        self.y = _MARGIN
        return True

    def _wrapped(self, text: str, width: float, kind: str) -> list[str]:
        """Return the lines of a text, broken at blanks and between Chinese characters."""
        text = text if self.family != "Helvetica" else _latin(text)
        if kind == "verbatim":
            return [text]
        lines = [""]
        for word in re.findall(r"[\u2e80-\uffef]|[^\s\u2e80-\uffef]+\s*|\s+", text):
            if lines[-1] and self.pdf.get_string_width((lines[-1] + word).rstrip()) > width:
                lines.append("")
            lines[-1] += word
        return [line.rstrip() for line in lines]


def _latin(text: str) -> str:
    """Return a text in the characters of the standard fonts."""
    table = {"→": "->", "≥": ">=", "≤": "<=", "–": "-", "—": "-", "‐": "-", "−": "-", "…": "..."}
    table |= {"“": '"', "”": '"', "‘": "'", "’": "'", "•": "*", "×": "x"}
    return "".join(table.get(c, c) for c in text).encode("latin-1", "replace").decode("latin-1")


def chinese_font() -> tuple[str, int] | None:
    """Return a font with Chinese characters and its number in the file; None without one."""
    if shutil.which("fc-match") is None:
        return None
    command = ["fc-match", "-f", "%{file}\t%{index}", "sans:lang=zh-cn"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    file, _, index = result.stdout.partition("\t")
    query = ["fc-query", "-f", "%{lang}\n", file]
    languages = subprocess.run(query, capture_output=True, text=True, check=False)
    return (file, int(index or 0)) if "zh-cn" in languages.stdout else None
