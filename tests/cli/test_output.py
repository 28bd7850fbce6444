"""Text layout of what the commands print."""

from __future__ import annotations

from ravlm.cli.output import shorten, wrap


def test_lines_are_measured_in_terminal_columns() -> None:
    """A Chinese character takes two columns; no line begins with punctuation or a citation mark."""
    assert wrap("a striped cat looks past", 10) == ["a striped", "cat looks", "past"]
    assert wrap("一只猫。[1]它睡了。", 8) == ["一只", "猫。[1]", "它睡了。"]
    assert wrap("unbreakable", 4) == ["unbreakable"]
    assert wrap("", 4) == [""]
    assert shorten("Name: cat\n\nKind: animal", 40) == "Name: cat · Kind: animal"
    assert shorten("一只毛茸茸的橘猫", 11) == "一只毛茸茸…"
