"""The command line: the table of commands, its parser, and exit codes.

Exit codes: 0 done, 1 refused or failed (one sentence on stderr), 2 usage, 130 stopped by Ctrl-C.
Commands import what they need when they run, so `ravlm --help` is fast."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from ravlm import __version__
from ravlm.cli import compare, demo, edit, knowledge, query, serve, train
from ravlm.cli.command import JSON, Argument, Command, Options, UsageError, argument
from ravlm.cli.stdin import utf8_argument
from ravlm.cli.terminal import visible_output
from ravlm.errors import RavlmError, did_you_mean

_SHELLS = ("bash", "zsh", "fish", "tcsh", "powershell")
_PATH_METAVARS = ("KB", "SOURCE", "DEST", "FILE", "FOLDER", "DIR", "IMAGE")
"""Arguments that take a path, by their name in the help text."""


def completion(options: Options) -> int:
    """Run `ravlm completion`: print a script that completes commands, options and file names."""
    import shtab

    parser = build_parser(COMMANDS)
    _prepare_completion(parser, shtab.FILE)
    print(shtab.complete(parser, shell=options.shell))
    return 0


def _prepare_completion(parser: argparse.ArgumentParser, path_completion: object) -> None:
    """Show subcommands to shtab, and complete arguments that take a path, in all subparsers."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            action.help = None  # shtab skips suppressed arguments
            for subparser in action.choices.values():
                _prepare_completion(subparser, path_completion)
        elif action.metavar in _PATH_METAVARS:
            action.complete = path_completion  # type: ignore[attr-defined]


_COMPLETION = Command(
    "print a shell completion script",
    completion,
    (argument("shell", metavar="SHELL", choices=_SHELLS, help=f"one of {', '.join(_SHELLS)}"),),
    """
    ravlm completion bash > ~/.local/share/bash-completion/completions/ravlm
    ravlm completion zsh > "${fpath[1]}/_ravlm"
    ravlm completion fish > ~/.config/fish/completions/ravlm.fish
    """,
    json=False,
)
COMMANDS: dict[str, Command] = {
    **demo.COMMANDS,
    **knowledge.COMMANDS,
    **query.COMMANDS,
    **edit.COMMANDS,
    **compare.COMMANDS,
    **train.COMMANDS,
    **serve.COMMANDS,
    "completion": _COMPLETION,
}
"""All commands, in the order of `ravlm --help`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. `argv` is the command line without the program
    name."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _escape_unencodable_output()
    with visible_output():
        return _run(arguments)


def _run(arguments: Sequence[str]) -> int:
    try:
        check_command(arguments, COMMANDS)
        options = build_parser(COMMANDS).parse_args(arguments)
        exit_code = _run_command(options)
        sys.stdout.flush()
        return exit_code
    except UsageError as error:
        return _fail(str(error), 2)
    except RavlmError as error:
        return _fail(str(error), 1)
    except BrokenPipeError:  # `ravlm search ... | head`: the reader closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        file = f' ("{error.filename}")' if error.filename else ""
        return _fail(f"{error.strerror or error}{file}. Fix this and try again.", 1)
    except KeyboardInterrupt:
        return _fail(
            "Stopped. What has been stored is kept; run the same command again to continue.", 130
        )


def _run_command(options: Options) -> int:
    try:
        return COMMANDS[options.command].run(options)
    except ModuleNotFoundError:
        from ravlm import runtime

        runtime.require_torch(f"ravlm {options.command}")
        raise


def _escape_unencodable_output() -> None:
    """Escape characters that the terminal's encoding lacks instead of failing on them."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _fail(message: str, exit_code: int) -> int:
    print(f"ravlm: {' '.join(message.split())}", file=sys.stderr)
    return exit_code


class _CommandParser(argparse.ArgumentParser):
    """A parser whose errors are one sentence, and name the option that was meant."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse arguments; an unknown one is an error of the command that it was given to."""
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown and unknown[0].startswith("-"):
            name = unknown[0].split("=")[0]
            hint = did_you_mean(name, self._option_string_actions)
            raise UsageError(f'There is no option "{name}".{hint} See {self.prog} --help.')
        if unknown:
            self.error(f'unexpected argument "{unknown[0]}"')
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message[:1].upper()}{message[1:]}; see {self.prog} --help.")


def build_parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """Return the parser of the whole command line; `options.command` is the command's name."""
    width = max(map(len, commands))
    table = "\n".join(f"  {name:<{width}}  {command.summary}" for name, command in commands.items())
    parser = _CommandParser(
        prog="ravlm",
        usage="ravlm COMMAND ...",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Retrieval-augmented vision-language models: build a knowledge base of images "
        "and text,\nsearch it, and get answers that cite their evidence.",
        epilog=f"commands:\n{table}\n\n"
        "Help on a command: ravlm COMMAND --help. Start with: ravlm demo",
    )
    parser.add_argument("--version", action="version", version=f"ravlm {__version__}")
    subparsers = parser.add_subparsers(
        prog="ravlm", dest="command", required=True, metavar="COMMAND", help=argparse.SUPPRESS
    )
    for name, command in commands.items():
        subparser = _add_command(subparsers, name, command)
        if command.kinds:
            kinds = subparser.add_subparsers(
                dest="kind", required=True, metavar="KIND", title="kinds"
            )
            for kind_name, kind in command.kinds.items():
                _add_command(kinds, kind_name, kind)
    return parser


def _add_command(subparsers: Any, name: str, command: Command) -> argparse.ArgumentParser:
    examples = [f"  {line.strip()}" for line in command.examples.strip().splitlines()]
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=command.summary,
        description=f"{command.summary[:1].upper()}{command.summary[1:]}.",
        epilog="\n".join(["examples:", *examples]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for spec in command.arguments:
        parser.add_argument(*spec.flags, **_with_decoder(spec))
    if command.json and not command.kinds:
        parser.add_argument(*JSON.flags, **JSON.settings)
    return parser


def _with_decoder(spec: Argument) -> Mapping[str, Any]:
    """Return the settings of an argument; one that is a text is decoded, a path stays as it is."""
    is_text = not spec.settings.keys() & {"type", "action", "choices"}
    if not is_text or spec.settings.get("metavar") in _PATH_METAVARS:
        return spec.settings
    return {**spec.settings, "type": utf8_argument}


def check_command(arguments: Sequence[str], commands: Mapping[str, Command]) -> None:
    """Raise UsageError if the first argument is not a command; name the nearest one."""
    if not arguments:
        raise UsageError("No command given. Start with: ravlm demo. All commands: ravlm --help.")
    name = arguments[0]
    if not name.startswith("-") and name not in commands:
        hint = did_you_mean(name, commands) or f" Allowed: {', '.join(commands)}."
        raise UsageError(f'There is no command "{name}".{hint} All commands: ravlm --help.')
