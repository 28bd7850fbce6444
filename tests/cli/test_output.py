"""Text layout of what the commands print."""

from __future__ import annotations

import pytest

from ravlm.cli.output import print_evidence, print_hits, shorten, wrap
from ravlm.records import Answer, Entry, Hit, Part


def test_people_see_a_bar_and_no_raw_scores(capsys: pytest.CaptureFixture[str]) -> None:
    """Cosines, BM25 and sums of reciprocal ranks stood in one column: 0.088, 14.710, 0.033."""
    entry = Entry("cat", text="a cat")
    hits = [Hit(entry, 14.71, Part("text", 0, "a cat"), value) for value in (1.0, 0.5, 0.04)]
    print_hits(hits)
    print_evidence(Answer("A cat.", tuple(hits[:1]), ("cat",), confidence=0.8))
    out = capsys.readouterr().out
    assert [line.split()[1] for line in out.splitlines()[:3]] == ["▰▰▰▰▰", "▰▰▱▱▱", "▱▱▱▱▱"]
    assert "14.7" not in out
    assert "  * 1  text   cat  a cat" in out.splitlines()


def test_an_abstention_has_no_confidence(capsys: pytest.CaptureFixture[str]) -> None:
    """Below "That is not in the knowledge base." stood "confidence 1.00": that of a wrong subject,
    not that of the sentence."""
    hit = Hit(Entry("cat", None, ("a cat",)), 0.5, Part("text", 0, "a cat"))
    print_evidence(Answer("That is not there.", (hit,), confidence=1.0, abstained=True))
    out = capsys.readouterr().out
    assert "confidence" not in out
    assert "    1  text   cat  a cat" in out.splitlines()


def test_lines_are_measured_in_terminal_columns() -> None:
    """A Chinese character takes two columns; no line begins with punctuation or a citation mark."""
    assert wrap("a striped cat looks past", 10) == ["a striped", "cat looks", "past"]
    assert wrap("一只猫。[1]它睡了。", 8) == ["一只", "猫。[1]", "它睡了。"]
    assert wrap("unbreakable", 4) == ["unbreakable"]
    assert wrap("", 4) == [""]
    assert shorten("Name: cat\n\nKind: animal", 40) == "Name: cat · Kind: animal"
    assert shorten("一只毛茸茸的橘猫", 11) == "一只毛茸茸…"


def test_previews_have_no_marks_of_markdown() -> None:
    """A table of an HTML file was shown as "## Fees · | Member | Fee | · | --- | --- |"."""
    table = "## Fees\n\n| Member | Fee |\n| --- | :-: |\n| Adult | 95 euros |"
    assert shorten(table, 60) == "Fees · Member | Fee · Adult | 95 euros"
    assert shorten("#1 is a tag\n-a: all", 60) == "#1 is a tag · -a: all"
