"""Tasks: examples from a file, how a model is asked, scores, and the error for each bad input."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ravlm.errors import BrokenData, InvalidInput, NotFound
from ravlm.knowledge.base import KnowledgeBase
from ravlm.model import RetrievalAugmentedVLM
from ravlm.records import Answer, Entry
from ravlm.tasks import TASKS, VQA, Captioning, Editing, Prediction, Retrieval
from tests.helpers.fakes import FakeEncoder
from tests.helpers.tasks import FirstLine


def write_task(folder: Path, rows: Sequence[Mapping[str, Any] | str]) -> Path:
    path = folder / "task.jsonl"
    path.write_text(
        "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8"
    )
    return path


@pytest.fixture
def model(pictures: Path, tmp_path: Path) -> RetrievalAugmentedVLM:
    entries = [
        Entry(name, str(pictures / f"{name}.png"), (f"a {name} square", f"something {name}"))
        for name in ("red", "green", "blue")
    ]
    kb = KnowledgeBase.build(tmp_path / "kb", entries, FakeEncoder())
    return RetrievalAugmentedVLM(kb, FirstLine(), k=2)


def test_captioning_predicts_and_scores(model: RetrievalAugmentedVLM, pictures: Path) -> None:
    rows = [
        {"id": "a", "image": "red.png", "texts": ["a red square", "red"]},
        {"id": "b", "image": "blue.png", "texts": ["a round thing"], "split": "dev"},
    ]
    task = Captioning(write_task(pictures, rows))
    assert [e.references for e in task.examples()] == [("a red square", "red"), ("a round thing",)]
    assert task.examples()[1].metadata == {"split": "dev"}
    predictions = task.predict(model, task.examples())
    assert [p.text for p in predictions] == ["a red square", "a blue square"]
    scores = task.score(reversed(predictions))
    assert scores["rouge-l"].items[0] == pytest.approx(1.0)
    assert scores["rouge-l"].items[0] > scores["rouge-l"].items[1]
    assert "tokenize:ptb" in scores["cider"].signature


def test_chinese_references_are_segmented_as_chinese(pictures: Path) -> None:
    task = Captioning(
        write_task(pictures, [{"id": "a", "image": "red.png", "texts": ["一只红色的猫", "红猫"]}])
    )
    assert "tokenize:zh" in task.score([Prediction("a", "红色的猫")])["bleu-4"].signature


def test_vqa_predicts_and_scores(model: RetrievalAugmentedVLM, pictures: Path) -> None:
    rows = [
        {
            "id": 1,
            "image": "red.png",
            "question": "What is it?",
            "answers": ["square", "Red Square"],
        },
        {"id": 2, "question": "Which is blue?", "answers": ["something blue"]},
    ]
    task = VQA(write_task(pictures, rows))
    assert [(e.id, e.text, e.image is None) for e in task.examples()] == [
        ("1", "What is it?", False),
        ("2", "Which is blue?", True),
    ]
    scores = task.score(
        [Prediction("1", "It is a red square."), Prediction("2", "something blue", abstained=True)]
    )
    assert scores["accuracy"].items == (1.0, 0.0), "an answer that abstains is never right"
    assert scores["exact-match"].items == (0.0, 0.0)
    assert "vqa-accuracy" not in scores
    assert len(task.predict(model, task.examples())) == 2


def test_ten_answers_per_question_give_soft_accuracy(pictures: Path) -> None:
    task = VQA(
        write_task(pictures, [{"id": "q", "question": "What?", "answers": ["cat"] * 9 + ["dog"]}])
    )
    assert task.score([Prediction("q", "a cat")])["vqa-accuracy"].value == 1.0


def test_retrieval_scores_both_directions(model: RetrievalAugmentedVLM, pictures: Path) -> None:
    rows = [
        {"id": "red", "image": "red.png", "texts": ["red", "very red"]},
        {"id": "blue", "image": "blue.png", "texts": ["green"]},
    ]
    task = Retrieval(write_task(pictures, rows))
    assert [e.id for e in task.examples()] == [
        "red text 1",
        "red text 2",
        "red image",
        "blue text 1",
        "blue image",
    ]
    assert all((e.image is None) != (e.text == "") for e in task.examples())
    scores = task.score(task.predict(model, task.examples()))
    assert scores["recall@1"].items == (1.0, 1.0, 1.0, 0.0, 1.0)
    assert scores["recall@10"].value == 1.0


class Painter:
    """Edits by painting the left half green."""

    class Edit:
        def __init__(self, image: Image.Image) -> None:
            self.region = np.zeros((image.height, image.width), bool)
            self.region[:, : image.width // 2] = True
            pixels = np.asarray(image).copy()
            pixels[self.region] = (0, 255, 0)
            self.image, self.evidence = Image.fromarray(pixels), ()

    def edit(self, image: str, instruction: str, evidence: Any = None) -> Edit:
        return Painter.Edit(Image.open(image).convert("RGB"))


def test_edits_are_compared_with_mask_and_edited_image(pictures: Path) -> None:
    with Image.open(pictures / "red.png") as red:
        painted = Painter().edit(str(pictures / "red.png"), "").image
        mask = Image.new("L", red.size)
        mask.paste(255, (0, 0, red.width, red.height // 2))
    painted.save(pictures / "painted.png")
    mask.save(pictures / "mask.png")
    rows = [
        {"id": "a", "image": "red.png", "instruction": "make it green", "mask": "mask.png"},
        {
            "id": "b",
            "image": "red.png",
            "instruction": "make it green",
            "edited_image": "painted.png",
        },
    ]
    task = Editing(write_task(pictures, rows))
    scores = task.score(task.predict(Painter(), task.examples()))  # type: ignore[arg-type]
    assert scores["mask-iou"].items == pytest.approx((1 / 3,))
    assert scores["l1"].items == (0.0,)
    assert scores["l1 outside"].items == (0.0,)
    assert scores["ssim"].value == pytest.approx(1.0)


def test_filter_and_limit_are_deterministic(pictures: Path) -> None:
    rows = [
        {"id": i, "question": f"{i}?", "answers": ["x"], "split": "dev" if i % 2 else "train"}
        for i in range(40)
    ]
    path = write_task(pictures, rows)
    dev = VQA(path, where={"split": "dev"}, limit=5).examples()
    assert [e.id for e in dev] == [
        e.id for e in VQA(path, where='split = "dev"', limit=5).examples()
    ]
    assert len(dev) == 5
    assert all(int(e.id) % 2 for e in dev)
    assert [e.id for e in dev] == sorted((e.id for e in dev), key=int)
    assert VQA(path, limit=5).fingerprint != VQA(path, limit=6).fingerprint
    with pytest.raises(InvalidInput, match="limit is 0"):
        VQA(path, limit=0)
    with pytest.raises(InvalidInput, match="no examples that pass the filter"):
        VQA(path, where={"split": "test"}).examples()
    with pytest.raises(InvalidInput, match=r'key "spilt", which .* Did you mean "split"'):
        VQA(path, where={"spilt": {"$ne": "dev"}}).examples()
    assert len(VQA(path, where={"level": {"$exists": False}}).examples()) == 40


BAD_ROWS = {
    "no texts": (
        Captioning,
        {"image": "red.png"},
        BrokenData,
        'line 1: The row has no "texts"; captioning needs',
    ),
    "a text for texts": (
        Captioning,
        {"image": "red.png", "texts": "red"},
        BrokenData,
        '"texts" is "red"; it must be a list of strings',
    ),
    "empty references": (
        Captioning,
        {"image": "red.png", "texts": [" "]},
        BrokenData,
        '"texts" is empty',
    ),
    "a number": (Captioning, {"image": "red.png", "texts": [3]}, BrokenData, "3"),
    "a missing image": (
        Captioning,
        {"image": "gone.png", "texts": ["x"]},
        NotFound,
        r"gone\.png.*drop the row",
    ),
    "no question": (
        VQA,
        {"answers": ["x"]},
        BrokenData,
        'no "question"; vqa needs "question" and "answers"',
    ),
    "no answers": (VQA, {"question": "x?", "answers": []}, BrokenData, 'no "answers"'),
    "a question in a list": (
        VQA,
        {"question": ["x?"], "answers": ["x"]},
        BrokenData,
        '"question" is',
    ),
    "no reference": (
        Editing,
        {"image": "red.png", "instruction": "x"},
        BrokenData,
        'neither "edited_image"',
    ),
    "a missing mask": (
        Editing,
        {"image": "red.png", "instruction": "x", "mask": "m.png"},
        NotFound,
        r"m\.png",
    ),
    "no JSON": (VQA, "what?", BrokenData, "line 1: The line is not JSON"),
    "no object": (VQA, "[1]", BrokenData, "."),
}


@pytest.mark.parametrize("case", BAD_ROWS, ids=str)
def test_bad_rows_are_refused(pictures: Path, case: str) -> None:
    kind, row, error, message = BAD_ROWS[case]
    with pytest.raises(error, match=message):
        kind(write_task(pictures, [row])).examples()


def test_bad_files_are_refused(pictures: Path) -> None:
    with pytest.raises(NotFound, match=r'nowhere\.jsonl" does not exist'):
        VQA(pictures / "nowhere.jsonl").examples()
    with pytest.raises(InvalidInput, match="has no examples"):
        VQA(write_task(pictures, [])).examples()
    twice = {"id": "a", "question": "x?", "answers": ["x"]}
    with pytest.raises(InvalidInput, match='line 2: the id "a" is a duplicate'):
        VQA(write_task(pictures, [twice, twice])).examples()


def test_mismatched_predictions_are_refused(pictures: Path) -> None:
    task = VQA(
        write_task(pictures, [{"id": i, "question": f"{i}?", "answers": ["x"]} for i in range(3)])
    )
    predictions = [Prediction(str(i), "x") for i in range(3)]
    with pytest.raises(InvalidInput, match='missing for 2 of 3 examples, such as "0"'):
        task.score(predictions[1:2])
    with pytest.raises(InvalidInput, match='two predictions for "1"'):
        task.score([*predictions, predictions[1]])
    with pytest.raises(InvalidInput, match='prediction for "9", which is not an example'):
        task.score([*predictions, Prediction("9", "x")])


def test_an_answer_becomes_a_prediction(model: RetrievalAugmentedVLM, pictures: Path) -> None:
    (example,) = VQA(write_task(pictures, [{"question": "x?", "answers": ["x"]}])).examples()
    prediction = Prediction.from_answer(example, Answer("x", citations=("red",), confidence=0.5))
    assert (prediction.id, prediction.text, prediction.citations, prediction.confidence) == (
        example.id,
        "x",
        ("red",),
        0.5,
    )


def test_every_task_is_listed_under_its_name() -> None:
    assert list(TASKS) == ["captioning", "vqa", "retrieval", "editing"]
    assert [task.name for task in TASKS.values()] == list(TASKS)
