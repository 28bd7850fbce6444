"""The table of commands, in the order in which `ravlm --help` lists them."""

from __future__ import annotations

from ravlm.cli import answers, bases, comparing, editing, serving, show, training
from ravlm.cli.parser import Command

COMMANDS: dict[str, Command] = {
    **show.COMMANDS,
    **bases.COMMANDS,
    **answers.COMMANDS,
    **editing.COMMANDS,
    **comparing.COMMANDS,
    **training.COMMANDS,
    **serving.COMMANDS,
}
