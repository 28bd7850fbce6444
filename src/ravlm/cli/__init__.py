"""The command line: one command a verb. Parses, calls one library function, prints.

Exit codes: 0 done, 1 refused or failed (one sentence on stderr), 2 wrong usage, 130 stopped by
Ctrl-C. Nothing heavy is imported here: each command imports what it needs when it runs."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from ravlm.cli.commands import COMMANDS
from ravlm.cli.parser import UsageError, build_parser, find_unknown_command
from ravlm.errors import RavlmError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` is the command line without the program's
    name."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        find_unknown_command(arguments, COMMANDS)
        options = build_parser(COMMANDS).parse_args(arguments)
        code = COMMANDS[options.command].run(options)
        sys.stdout.flush()
        return code
    except UsageError as error:
        return _fail(str(error), 2)
    except RavlmError as error:
        return _fail(str(error), 1)
    except BrokenPipeError:  # `ravlm search ... | head`: the reader has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        place = f' ("{error.filename}")' if error.filename else ""
        return _fail(f"{error.strerror or error}{place}; mend that and run the command again.", 1)
    except KeyboardInterrupt:
        return _fail(
            "Stopped. What was stored until now stays stored; the same command goes on from there.",
            130,
        )


def _fail(sentence: str, code: int) -> int:
    print(f"ravlm: {' '.join(sentence.split())}", file=sys.stderr)
    return code
