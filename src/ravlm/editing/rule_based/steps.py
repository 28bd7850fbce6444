"""The steps of an edit: what the instruction parser returns and the editor carries out."""

from __future__ import annotations

from dataclasses import dataclass

from ravlm.editing.rule_based.lexicon import WHOLE_IMAGE


@dataclass(frozen=True)
class EditStep:
    """One change to one target."""

    action: str
    """"color", "like", or one of `lexicon.ACTIONS`."""
    target: str = WHOLE_IMAGE
    """A word of the lexicon, BACKGROUND, WHOLE_IMAGE, or any other word for a thing."""
    value: str = ""
    """The color, or the example in the words of the instruction."""
    shade: str = ""
    """"deep" or "light", for a color."""
    amount: float = 1.0
    """Strength of the change: 0.5 slightly, 1.6 strongly."""
    name: str = ""
    """The target in the words of the instruction."""


@dataclass(frozen=True)
class ParsedInstruction:
    """The steps of an instruction, or the problem with it."""

    steps: tuple[EditStep, ...]
    chinese: bool = False
    """Whether the instruction is in Chinese."""
    problem: str = ""
    """A sentence for the user; empty if the steps can be tried."""
