"""Documents for the benchmark, as blocks, and the lines that they are printed in: this project's
docs, and manual pages, copyright files and READMEs as Debian installs them.
"""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.structure import ROOT
from ravlm.regions import Box

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
