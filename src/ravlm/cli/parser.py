"""From the table of commands to an argparse parser whose errors are one sentence.

Knows the options that several commands share; knows no command.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from ravlm import __version__
from ravlm.errors import nearest

Options = argparse.Namespace


class UsageError(Exception):
    """The command line is not one that a command takes; the message says why."""


@dataclass(frozen=True)
class Command:
    """One verb of the command line."""

    summary: str
    run: Callable[[Options], int]
    """Does it and returns the exit code."""
    arguments: tuple[Argument, ...]
    examples: str
    """Command lines, one a line, shown below the options."""
    kinds: Mapping[str, Command] = field(default_factory=dict)
    """Where the verb has kinds (train encoder ...): each with its own arguments; `options.kind`
    names it."""


@dataclass(frozen=True)
class Argument:
    """One argument as argparse takes it: names or flags, and what `add_argument` is told about
    it."""

    flags: tuple[str, ...]
    settings: Mapping[str, Any]


def argument(*flags: str, **settings: Any) -> Argument:
    """An argument, written as for `ArgumentParser.add_argument`."""
    return Argument(flags, settings)


KB = argument("kb", metavar="KB", help="folder of the knowledge base, or milvus://host:19530/name")
SOURCE = argument(
    "source",
    metavar="SOURCE",
    help="pictures in a folder, JSON lines, CSV, TSV, Parquet, COCO, WebDataset ...; - reads JSON lines from stdin",
)
WHERE = argument(
    "--where", metavar="W", help="only such entries: 'year >= 1990 and kind in [\"bird\"]'"
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
    default="extractive",
    metavar="G",
    help="who writes: extractive (default), starter, small, medium, large, a folder, a hub name, http://host:port/v1#model",
)
JSON = argument("--json", action="store_true", help="print JSON lines")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message[:1].upper()}{message[1:]}; see {self.prog} --help.")


def build_parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """The parser of the whole command line; `options.command` is the command's name."""
    width = max(map(len, commands))
    table = "\n".join(f"  {name:<{width}}  {command.summary}" for name, command in commands.items())
    parser = _Parser(
        prog="ravlm",
        usage="ravlm COMMAND ...",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Pictures and text in; searches, and answers with their evidence, out.",
        epilog=f"commands:\n{table}\n\nravlm COMMAND --help tells more. Begin with: ravlm demo",
    )
    parser.add_argument("--version", action="version", version=f"ravlm {__version__}")
    verbs = parser.add_subparsers(
        prog="ravlm", dest="command", required=True, metavar="COMMAND", help=argparse.SUPPRESS
    )
    for name, command in commands.items():
        verb = _add(verbs, name, command)
        if command.kinds:
            kinds = verb.add_subparsers(dest="kind", required=True, metavar="KIND", title="kinds")
            for kind, own in command.kinds.items():
                _add(kinds, kind, own)
    return parser


def _add(verbs: Any, name: str, command: Command) -> argparse.ArgumentParser:
    verb: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=command.summary,
        description=f"{command.summary[:1].upper()}{command.summary[1:]}.",
        epilog="examples:\n"
        + "\n".join(f"  {line.strip()}" for line in command.examples.strip().splitlines()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for each in command.arguments if command.kinds else (*command.arguments, JSON):
        verb.add_argument(*each.flags, **each.settings)
    return verb


def find_unknown_command(arguments: Sequence[str], commands: Mapping[str, Command]) -> None:
    """Raise UsageError, naming the nearest, where the first word is not one of `commands`."""
    if not arguments:
        raise UsageError("Which command? Begin with: ravlm demo. All commands: ravlm --help.")
    word = arguments[0]
    if not word.startswith("-") and word not in commands:
        hint = nearest(word, commands) or f" Allowed: {', '.join(commands)}."
        raise UsageError(f'There is no command "{word}".{hint} All commands: ravlm --help.')
