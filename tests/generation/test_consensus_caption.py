"""Captions on which the evidence agrees."""

from __future__ import annotations

from ravlm.generation.consensus_caption import consensus
from ravlm.records import Entry, Evidence, Hit, Part


def evidence(*entries: tuple[str, ...], weights: tuple[float, ...] = ()) -> Evidence:
    hits = tuple(
        Hit(Entry(f"e{i}", None, texts), 0.5, Part("image")) for i, texts in enumerate(entries)
    )
    return Evidence(hits, weights or (1 / len(hits),) * len(hits))


def test_the_sentence_most_like_the_others_is_taken() -> None:
    hits = evidence(
        ("A dog runs on the beach.", "Two friends drink tea."),
        ("A brown dog runs on a sandy beach.",),
        ("The dog jumps on the beach.", "A man reads."),
    )
    text, cited, agreement = consensus(hits, chinese=False)
    assert text == "A dog runs on the beach."
    assert cited[0] == "e0"
    assert 0.2 < agreement < 1


def test_the_likelier_hit_counts_more() -> None:
    two = (("A dog sleeps.",), ("A cat jumps.",))
    assert consensus(evidence(*two, weights=(0.9, 0.1)), False).text == "A dog sleeps."
    assert consensus(evidence(*two, weights=(0.1, 0.9)), False).text == "A cat jumps."


def test_names_stand_in_where_there_are_no_sentences_and_nothing_where_there_is_nothing() -> None:
    assert consensus(evidence(("Name: Wren\nLength: 9 cm",)), False).text == "Wren"
    assert consensus(evidence(()), False) == ("", (), 0.0)


def test_headings_and_rows_of_documents_are_no_captions() -> None:
    """The caption of a rocket was "# Bridge project", the heading of a slide."""
    sections = evidence(
        ("# Piers\n\n| Pier | Height |\n| --- | --- |\n| North | 40 m |\nCranes lift a beam.",),
        ("## Cranes\n\nA crane lifts a steel beam.",),
    )
    assert consensus(sections, chinese=False).text in (
        "Cranes lift a beam.",
        "A crane lifts a steel beam.",
    )
    assert consensus(evidence(("# Bridge project\nBudget: 4 million",)), False).text == ""


def test_the_language_is_kept_where_the_evidence_has_it() -> None:
    bilingual = evidence(("A black dog runs.", "一只黑狗在跑。"))
    assert consensus(bilingual, chinese=True).text == "一只黑狗在跑。"
    assert consensus(bilingual, chinese=False).text == "A black dog runs."
