"""The table of commands, in the order in which `ravlm --help` lists them."""

from __future__ import annotations

from ravlm.cli import compare, demo, edit, knowledge, query, serve, train
from ravlm.cli.parser import Command

COMMANDS: dict[str, Command] = {
    **demo.COMMANDS,
    **knowledge.COMMANDS,
    **query.COMMANDS,
    **edit.COMMANDS,
    **compare.COMMANDS,
    **train.COMMANDS,
    **serve.COMMANDS,
}
