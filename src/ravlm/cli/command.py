"""What a command is: its summary, arguments, examples and function; and arguments that several
commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ravlm.ocr.base import OCR_MODES

Options = argparse.Namespace


class UsageError(Exception):
    """The command line is invalid; the message says why (exit code 2)."""


@dataclass(frozen=True)
class Argument:
    """One argument: its names or flags, and the keyword arguments of `add_argument`."""

    flags: tuple[str, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Command:
    """One command of `ravlm`.

    >>> Command("show a greeting", hello, (KB,), "ravlm hello kb")  # doctest: +SKIP
    """

    summary: str
    """One line, lower case, without a period."""
    run: Callable[[Options], int]
    """Runs the command and returns the exit code."""
    arguments: tuple[Argument, ...]
    examples: str
    """Command lines, one per line, shown below the options."""
    kinds: Mapping[str, Command] = field(default_factory=dict)
    """Subcommands (`train encoder`), each with its own arguments; `options.kind` is the name."""
    json: bool = True
    """Whether the command has the option `--json`."""


def argument(*flags: str, **settings: Any) -> Argument:
    """Return an argument, written as for `ArgumentParser.add_argument`."""
    return Argument(flags, settings)


KB = argument("kb", metavar="KB", help="knowledge base: a folder, or milvus://host:19530/name")
SOURCE = argument(
    "source",
    nargs="+",
    metavar="SOURCE",
    help="folder of images and PDF files, image, PDF, JSON Lines, CSV, TSV, Parquet, COCO, "
    "WebDataset ...; - reads JSON Lines from stdin",
)
WHERE = argument(
    "--where",
    metavar="W",
    help="filter on metadata: 'year >= 1990 and kind in [\"bird\"]'",
)
K = argument(
    "-k",
    type=int,
    default=4,
    metavar="N",
    help="entries to read as evidence (default 4; 0: closed book)",
)
GENERATOR = argument(
    "--generator",
    metavar="G",
    help="extractive, starter, small, medium, large, a folder, a Hugging Face model, or an "
    "endpoint: http://host:port/v1#model (default: the best installed for each command)",
)
MAX_TOKENS = argument(
    "--max-tokens",
    type=int,
    metavar="N",
    help="limit of a chat model's reply, with its thoughts (default: depends on the command)",
)
OCR_QUESTION = argument(
    "--ocr",
    choices=OCR_MODES,
    default="auto",
    help="read the words on the image of a question: if the image alone leaves a doubt (auto, with "
    "ravlm[ocr]), always or never",
)
BASE_ONLY = argument(
    "--base-only",
    action=argparse.BooleanOptionalAction,
    default=True,
    help="decline what the base does not support (default); with --no-base-only a chat model may "
    "go on without evidence",
)
JSON = argument("--json", action="store_true", help="print JSON Lines")
