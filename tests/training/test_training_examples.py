"""Reading and splitting the examples that generators are fine-tuned on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ravlm.errors import BrokenData, InvalidInput, NotFound
from ravlm.records import Example, Pair
from ravlm.training.training_examples import TrainingExample, read_examples, split_examples


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "examples.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_file_of_questions_captions_and_talks(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    image = {"type": "image_url", "image_url": {"url": "a.png"}}
    question = {"type": "text", "text": "What is this?"}
    talk = [
        {"role": "user", "content": [image, question]},
        {"role": "assistant", "content": "A finch [1]."},
    ]
    path = write(
        tmp_path,
        {"id": 7, "question": "How tall?", "answer": "42 m", "evidence": 3, "split": "train"},
        {"question": "Why?", "answers": ["So.", "So it is."], "evidence": ["a", "b"], "text": "x"},
        {"image": "a.png", "texts": ["a bird", "a small bird"]},
        {"messages": talk},
    )
    ask, why, caption, chat = read_examples(path)
    assert ask == TrainingExample(
        "How tall?", ("42 m",), evidence=("3",), id="7", metadata={"split": "train"}
    )
    assert why.answers == ("So.", "So it is.")
    assert why.metadata == {"text": "x"}
    assert (caption.task, caption.answers) == ("caption", ("a bird", "a small bird"))
    assert caption.image == str(tmp_path / "a.png")
    assert isinstance(caption.guarded, Pair)
    assert isinstance(ask.guarded, Example)
    assert (chat.task, chat.answers) == ("chat", ("A finch [1].",))
    assert chat.request().image == str(tmp_path / "a.png")
    records = [Pair(tmp_path / "a.png", ("a bird",)), ask, {"question": "Why?", "answer": "So."}]
    assert [example.task for example in read_examples(records)] == ["caption", "ask", "ask"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "Why?"}, r"line 1: It has no answer; give \"question\" and \"answer\""),
        ({"answer": "So."}, "no question, no image and no messages"),
        ({"question": "Why?", "answer": 7}, '"answer" is 7; it must be a string'),
        ({"question": " ", "answer": "So."}, "no question"),
        ({"messages": [{"role": "assistant", "content": "Hi"}]}, "no question"),
        ({"messages": "hello"}, '"messages" is'),
    ],
)
def test_rows_that_cannot_be_trained_on(row: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(BrokenData, match=message):
        read_examples(write(tmp_path, row))


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="does not exist"):
        read_examples(tmp_path / "no.jsonl")
    with pytest.raises(NotFound, match=r"line 1: There is no image"):
        read_examples(write(tmp_path, {"image": "gone.png", "text": "a bird"}))
    with pytest.raises(BrokenData, match="example 2: It is of the type int"):
        read_examples([{"question": "Why?", "answer": "So."}, 7])


def test_what_belongs_together_is_held_out_together() -> None:
    """Four questions about each entry: no question about an entry that was trained on is held
    out."""
    examples = [
        TrainingExample(f"Question {i}?", ("yes",), evidence=(f"e{i // 4}",)) for i in range(80)
    ]
    train, test = split_examples(examples, 0.2)
    assert (len(train), len(test)) == (64, 16)
    assert {e.evidence for e in train}.isdisjoint(e.evidence for e in test)
    assert split_examples(examples, 0.2) == (train, test)
    assert split_examples(examples, 0.2, seed=1)[1] != test
    assert split_examples(examples, 0.0)[1] == []
    with pytest.raises(InvalidInput, match="held_out is 1"):
        split_examples(examples, 1.0)
