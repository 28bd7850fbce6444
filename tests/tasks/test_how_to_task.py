"""The example in docs/how-to/task.md works as printed."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from ravlm import metrics
from ravlm.errors import BrokenData
from ravlm.evaluation.compare import compare
from ravlm.knowledge.base import KnowledgeBase
from ravlm.model import RetrievalAugmentedVLM
from ravlm.records import Entry
from ravlm.tasks import TASKS
from tests.conftest import REPOSITORY
from tests.helpers.fakes import FakeEncoder
from tests.helpers.tasks import FirstLine

PAGE = (REPOSITORY / "docs" / "how-to" / "task.md").read_text(encoding="utf-8")
METRIC, TASK, TABLE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COLORS = ("red", "green", "blue")


def load_module(name: str, code: str, folder: Path) -> ModuleType:
    path = folder / f"{name}.py"
    path.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(f"ravlm_example_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def task_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    choice = load_module("choice", METRIC, tmp_path)
    monkeypatch.setattr(metrics, "choice_accuracy", choice.choice_accuracy, raising=False)
    return load_module("multiple_choice", TASK, tmp_path)


def task_file(folder: Path, answers: dict[str, str]) -> Path:
    rows = [
        {
            "id": name,
            "image": f"{name}.png",
            "question": "Which color is it?",
            "choices": list(COLORS),
            "answer": answer,
        }
        for name, answer in answers.items()
    ]
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_page_touches_few_lines() -> None:
    num_lines = sum(len(code.splitlines()) for code in (METRIC, TASK))
    assert num_lines + len(["export", "import", "entry"]) < 100


def test_page_lists_every_task() -> None:
    assert re.findall(r'"([\w-]+)": (\w+),', TABLE) == [
        *((name, task.__name__) for name, task in TASKS.items()),
        ("multiple-choice", "MultipleChoice"),
    ]


def test_metric_against_arithmetic_on_paper(task_module: ModuleType) -> None:
    answers = ["It is red.", "red or blue", "blue", ""]
    score = task_module.choice_accuracy(answers, [COLORS] * 4, ["red"] * 4)
    assert score.items == (1.0, 0.0, 0.0, 0.0)
    assert score.value == 0.25


def test_example_is_compared(task_module: ModuleType, pictures: Path, tmp_path: Path) -> None:
    path = task_file(pictures, {name: name for name in COLORS})
    for name in COLORS:  # the image of the question itself would be removed as a leak
        with Image.open(pictures / f"{name}.png") as image:
            image.resize((32, 24)).save(pictures / f"{name}-small.png")
    entries = [
        Entry(f"{name} entry", str(pictures / f"{name}-small.png"), (f"a {name} square",))
        for name in COLORS
    ]
    with KnowledgeBase.build(tmp_path / "kb", entries, FakeEncoder()) as kb:
        model = RetrievalAugmentedVLM(kb, FirstLine(guess="blue"), k=1)
        report = compare(task_module.MultipleChoice(path), model, resamples=200)
    scores = {score.arm: score.score for score in report.scores}
    assert scores == {"closed-book": pytest.approx(1 / 3), "retrieved": 1.0}
    assert report.primary_metric == "choice-accuracy"


def test_bad_answer_is_refused(task_module: ModuleType, pictures: Path) -> None:
    path = task_file(pictures, {"red": "red", "green": "purple"})
    with pytest.raises(BrokenData, match="line 2: \"answer\" is 'purple'; it must be one of"):
        task_module.MultipleChoice(path).examples()
