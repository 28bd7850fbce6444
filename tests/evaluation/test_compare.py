"""compare on a base of five colors: arms, statistics, resuming, contamination, report, command
line."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ravlm.errors import InvalidInput
from ravlm.evaluation.arm_evidence import ArmEvidence
from ravlm.evaluation.arms import ARMS, parse_arms
from ravlm.evaluation.compare import compare
from ravlm.evaluation.contamination import check_contamination
from ravlm.evaluation.kb_subset import KnowledgeBaseSubset
from ravlm.evaluation.knowledge_edit import edit_knowledge
from ravlm.evaluation.report import Report
from ravlm.generation.base import Request
from ravlm.knowledge.base import KnowledgeBase
from ravlm.model import RetrievalAugmentedVLM
from ravlm.records import Answer, Entry
from ravlm.tasks import VQA, Captioning, Retrieval
from tests.conftest import REPOSITORY
from tests.helpers.fakes import COLORS, FakeEncoder
from tests.helpers.tasks import FirstLine

NUM_SHADES = 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """For each color, four images of nearly that color for the base and four to ask about."""
    for name, (red, green, blue) in COLORS.items():
        for shade in range(2 * NUM_SHADES):
            image = Image.new("RGB", (32, 32), (red, green, blue))
            image.putpixel((shade, 3), (127, 127, shade))
            image.save(tmp_path / f"{name}{shade}.png")
    return tmp_path


@pytest.fixture
def kb(folder: Path) -> KnowledgeBase:
    entries = [
        Entry(
            f"{name}{shade}",
            str(folder / f"{name}{shade}.png"),
            (f"Name: {name}\nKind: color", f"it is {name}"),
        )
        for name in COLORS
        for shade in range(NUM_SHADES)
    ]
    return KnowledgeBase.build(folder / "kb", entries, FakeEncoder())


class NameReader(FirstLine):
    """Answers with the name in its first hit."""

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        answers = super().generate(requests)
        return [
            replace(answer, text=answer.text.split("\n")[0].removeprefix("Name: "))
            for answer in answers
        ]


@pytest.fixture
def model(kb: KnowledgeBase) -> RetrievalAugmentedVLM:
    return RetrievalAugmentedVLM(kb, NameReader(guess="red"), k=3)


@pytest.fixture
def questions(folder: Path) -> Path:
    rows = [
        {
            "id": f"q {name} {s}",
            "image": f"{name}{s}.png",
            "question": "Which?",
            "answers": [name],
            "entity": name,
        }
        for name in COLORS
        for s in range(NUM_SHADES, 2 * NUM_SHADES)
    ]
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def value(report: Report, arm: str, metric: str = "accuracy") -> float:
    return next(s.score for s in report.scores if (s.arm, s.metric) == (arm, metric))


def test_every_arm_on_the_same_examples(model: RetrievalAugmentedVLM, questions: Path) -> None:
    """The guess is right for one color of five; retrieval and the oracle are always right."""
    report = compare(VQA(questions), model, list(ARMS), resamples=500)
    assert value(report, "closed-book") == pytest.approx(1 / len(COLORS))
    assert value(report, "retrieved") == value(report, "oracle") == value(report, "majority") == 1.0
    assert value(report, "copy") == 1.0
    assert value(report, "random") < 0.6
    assert {s.n for s in report.scores} == {len(COLORS) * NUM_SHADES}
    first = next(
        c
        for c in report.contrasts
        if c.contrast == ("closed-book", "retrieved") and c.metric == "accuracy"
    )
    assert (first.difference, first.gain, first.harm) == (
        pytest.approx(0.8),
        pytest.approx(0.8),
        0.0,
    )
    assert first.p < 0.05
    assert first.p >= first.p_uncorrected
    assert len([c for c in report.contrasts if c.metric == "accuracy"]) == 15


def test_closed_book_is_k_0_on_the_same_path(model: RetrievalAugmentedVLM, questions: Path) -> None:
    report = compare(VQA(questions), model, ["closed-book", "retrieved@k=0"], resamples=200)
    assert value(report, "closed-book") == value(report, "retrieved@k=0")
    again = compare(VQA(questions), model, ["closed-book", "retrieved"], k=0, resamples=200)
    assert value(again, "retrieved") == value(report, "closed-book")


def test_sweeps_are_arms_with_settings(model: RetrievalAugmentedVLM, questions: Path) -> None:
    arms = ["retrieved", "retrieved@noise=1", "retrieved@k=1@noise=0.5", "retrieved@size=0.2"]
    report = compare(VQA(questions), model, arms, resamples=200)
    assert value(report, "retrieved") == 1.0
    assert value(report, "retrieved@noise=1") < 0.6
    assert value(report, "retrieved@noise=1") <= value(report, "retrieved@k=1@noise=0.5") < 1.0
    assert report.about["k"] == [1, 3]
    pairs = {c.contrast for c in report.contrasts}
    assert pairs == {("retrieved", arm) for arm in arms[1:]}, (
        "a sweep is tested against its own arm only"
    )


def test_subset_is_contained_in_larger_subsets(kb: KnowledgeBase) -> None:
    """A filter after the search, one hit per entity, once lost entities whose other entries were
    in the subset."""
    small, large = KnowledgeBaseSubset(kb, 0.3), KnowledgeBaseSubset(kb, 0.8)
    small_ids, large_ids = (
        {h.entry.id for h in subset.search(text="it is red", k=20)} for subset in (small, large)
    )
    assert small_ids < large_ids < {h.entry.id for h in kb.search(text="it is red", k=20)}
    subset_hits = small.search_many([{"text": "red"}, {"text": "blue"}], 2, "text")
    all_hits = kb.search_many([{"text": "red"}, {"text": "blue"}], 20, "text")
    assert [[h.entry.id for h in hits] for hits in subset_hits] == [
        [h.entry.id for h in hits if h.entry.id in small_ids][:2] for hits in all_hits
    ]
    assert {entry.id for entry, _, _ in small.sample(100, "image")} == small_ids
    assert small.derived_folder != kb.derived_folder
    with pytest.raises(AttributeError, match='no "add"'):
        small.add([])


def test_evidence_is_the_same_in_each_run_and_batch(
    model: RetrievalAugmentedVLM, questions: Path
) -> None:
    examples = VQA(questions).examples()
    for arm in parse_arms(["random", "retrieved@noise=0.5", "oracle"], 3, list(ARMS)):
        together = ArmEvidence(VQA(questions), model, 3).for_arm(arm, examples)
        single = [ArmEvidence(VQA(questions), model, 3).for_arm(arm, [e])[0] for e in examples]
        assert [[h.entry.id for h in e.hits] for e in together] == [
            [h.entry.id for h in e.hits] for e in single
        ]


def test_an_example_never_reads_its_own_entry(model: RetrievalAugmentedVLM, folder: Path) -> None:
    """When images of the base are captioned, copying their own entries would be perfect and prove
    nothing."""
    rows = [
        {"id": f"{name}0", "image": f"{name}0.png", "texts": [f"it is {name}"]} for name in COLORS
    ]
    path = folder / "captions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = Captioning(path)
    source = ArmEvidence(task, model, 3)
    for arm in parse_arms(["retrieved", "random", "oracle", "copy"], 3, list(ARMS)):
        for example, evidence in zip(
            task.examples(), source.for_arm(arm, task.examples()), strict=True
        ):
            assert evidence.hits
            assert example.id not in {hit.entry.id for hit in evidence.hits}
    report = compare(task, model, ["retrieved"], resamples=200)
    assert report.contamination is not None
    assert report.contamination.exact == len(rows)
    assert "bleu-4" in {s.metric for s in report.scores}


def test_contamination_separates_exact_from_perceptual_matches(
    kb: KnowledgeBase, folder: Path
) -> None:
    with Image.open(folder / "red0.png") as picture:
        picture.resize((64, 64)).save(folder / "larger.png")
    rows = [
        {"id": "same", "image": "red0.png"},
        {"id": "larger", "image": "larger.png"},
        {"id": "words", "image": None, "question": "It is red"},
        {"id": "new", "image": None, "question": "Is it new?"},
    ]
    path = folder / "q.jsonl"
    path.write_text(
        "".join(json.dumps({"question": "What?", "answers": ["x"], **row}) + "\n" for row in rows)
    )
    contamination = check_contamination(VQA(path).examples(), kb)
    assert astuple(contamination)[:4] == (4, 2, 1, 0)
    assert set(contamination.ids) == {"same", "larger", "words"}


def test_contamination_counts_texts_that_repeat_a_caption(folder: Path) -> None:
    rows = [{"id": name, "image": f"{name}0.png", "texts": [f"all {name}"]} for name in COLORS]
    path = folder / "captions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    name = next(iter(COLORS))
    entries = [Entry("t", text=f"All {name}."), Entry("u", text="something else")]
    with KnowledgeBase.build(folder / "texts", entries, FakeEncoder()) as texts:
        contamination = check_contamination(Captioning(path).examples(), texts)
    assert contamination.ids == (name,)


def test_interrupted_run_resumes(
    model: RetrievalAugmentedVLM, questions: Path, tmp_path: Path
) -> None:
    """Only missing and truncated predictions are computed again; the numbers are the same."""
    reader = model.generator
    assert isinstance(reader, NameReader)
    reader.fingerprint = "reader 1"  # type: ignore[attr-defined]
    steps: list[tuple[int, int]] = []
    cache = tmp_path / "cache"
    first = compare(
        VQA(questions), model, resamples=200, cache=cache, progress=lambda *step: steps.append(step)
    )
    n = len(COLORS) * NUM_SHADES
    assert steps[-1] == (2 * n, 2 * n)
    assert reader.num_requests == 2 * n
    for path in cache.iterdir():
        text = path.read_text()
        path.write_text(text[: len(text) // 2])
    second = compare(VQA(questions), model, resamples=200, cache=cache)
    assert n <= reader.num_requests - 2 * n < 2 * n - 4
    assert second.scores == first.scores
    assert [c.computed for c in second.costs] != [0, 0]
    compare(VQA(questions), model, resamples=200, cache=cache)
    num_before = reader.num_requests
    reader.fingerprint = "reader 2"  # type: ignore[attr-defined]
    compare(VQA(questions), model, resamples=200, cache=cache)
    assert reader.num_requests == num_before + 2 * n, "another generator's predictions were reused"


def test_generator_without_fingerprint_is_not_cached(
    model: RetrievalAugmentedVLM, questions: Path, tmp_path: Path
) -> None:
    compare(VQA(questions), model, resamples=200, cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_several_models(kb: KnowledgeBase, questions: Path) -> None:
    models = {
        name: RetrievalAugmentedVLM(kb, NameReader(guess=name), k=2) for name in ("red", "nothing")
    }
    report = compare(VQA(questions), models, resamples=200)
    names = {c.contrast for c in report.contrasts}
    assert ("red/closed-book", "nothing/closed-book") in names
    assert ("red/closed-book", "red/retrieved") in names
    assert ("red/closed-book", "nothing/retrieved") not in names
    assert "red/retrieved" in str(report)


def test_retrieval_task_allows_retrieved_and_random(
    model: RetrievalAugmentedVLM, folder: Path
) -> None:
    rows = [
        {"id": f"{name}0", "image": f"{name}0.png", "texts": [f"{name} {name}"]} for name in COLORS
    ]
    path = folder / "retrieval.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = compare(Retrieval(path), model, ["retrieved", "random"], resamples=200)
    assert value(report, "retrieved", "recall@5") > value(report, "random", "recall@5")
    assert report.contamination is None
    with pytest.raises(
        InvalidInput, match='Unknown arm "copy" for this task; allowed: retrieved, random'
    ):
        compare(Retrieval(path), model, ["copy"])


def test_report_as_text_json_and_html(
    model: RetrievalAugmentedVLM, questions: Path, tmp_path: Path
) -> None:
    report = compare(VQA(questions), model, ["closed-book", "retrieved", "random"], resamples=300)
    text = str(report)
    assert "closed-book" in text
    assert "0.200 [" in text
    assert "contamination: of 20 examples" in text
    record = json.loads(report.to_json())
    assert record["about"]["examples"] == 20
    assert len(record["about"]["examples_hash"]) == 64
    assert record["contamination"]["n"] == 20
    lines = list(report.lines())
    arm = {"arm", "generator", "metric", "n", "score", "low", "high"}
    pair = {"contrast", "metric", "n", "difference", "low", "high", "p", "gain", "harm"}
    assert all(arm <= set(line) or pair <= set(line) for line in lines)
    assert lines[0]["arm"] == "closed-book"
    page = report.to_html(tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert 'src="data:image/jpeg;base64,' in page
    assert "http" not in page
    assert "Wins: better with retrieval" in page
    assert "<script" not in page
    assert {case.kind for case in report.cases} == {"win", "failure"}


def test_html_report_escapes_texts(kb: KnowledgeBase, folder: Path, tmp_path: Path) -> None:
    rows = [
        {"id": i, "image": "red4.png", "question": f"<b>{i}?", "answers": ["<i>x"]}
        for i in range(3)
    ]
    path = folder / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = RetrievalAugmentedVLM(kb, NameReader(guess="<script>alert(1)</script>"))
    page = (
        compare(VQA(path), model, resamples=200)
        .to_html(tmp_path / "r.html")
        .read_text(encoding="utf-8")
    )
    assert "<b>" not in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_answer_follows_the_base(model: RetrievalAugmentedVLM, folder: Path) -> None:
    picture = str(folder / "red4.png")
    entry = Entry("red0", str(folder / "red0.png"), ("Name: crimson",))
    model.kb.remove([f"red{shade}" for shade in range(1, NUM_SHADES)])
    edit = edit_knowledge(model, entry, "Which color?", picture)
    assert (edit.before.text, edit.during.text, edit.after.text) == ("red", "crimson", "red")
    assert edit.changed
    assert edit.restored
    new = edit_knowledge(
        model, Entry("extra", picture, ("Name: scarlet",)), "Which color?", picture
    )
    assert new.during.text in ("red", "scarlet")
    assert new.restored
    assert model.kb.get("extra") == []


BAD_ARMS = {
    "retreived": r'Unknown arm "retreived" for this task.*Did you mean "retrieved"',
    "retrieved@n=3": 'unknown setting "n"; allowed: k, noise, size',
    "retrieved@k=two": 'sets k to "two"; it must be a number',
    "retrieved@k=-1": "k = -1; it must be a whole number",
    "retrieved@k=1.5": "k = 1.5; it must be a whole number",
    "retrieved@noise=2": "noise = 2; it must be from 0 to 1",
    "retrieved@size=0": "size = 0; it must be above 0",
}


@pytest.mark.parametrize("name", BAD_ARMS)
def test_bad_arms_are_refused(model: RetrievalAugmentedVLM, questions: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match=BAD_ARMS[name]):
        compare(VQA(questions), model, ["closed-book", name])


def test_bad_comparisons_are_refused(model: RetrievalAugmentedVLM, questions: Path) -> None:
    with pytest.raises(InvalidInput, match='"retrieved" is a duplicate'):
        compare(VQA(questions), model, ["retrieved", "retrieved"])
    with pytest.raises(InvalidInput, match="no arms to compare"):
        compare(VQA(questions), model, [])
    with pytest.raises(InvalidInput, match="no model"):
        compare(VQA(questions), {})
    with pytest.raises(InvalidInput, match="resamples is 3"):
        compare(VQA(questions), model, resamples=3)


def test_the_command_line(
    kb: KnowledgeBase,
    questions: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ravlm.cli import main
    from ravlm.encoders import auto
    from ravlm.generation.auto import GENERATORS

    monkeypatch.setattr(auto, "load_encoder", lambda name: FakeEncoder(name))
    monkeypatch.setitem(GENERATORS, "reader", lambda kb: NameReader())
    monkeypatch.setenv("RAVLM_CACHE", str(tmp_path / "cache"))
    kb.close()
    fixed: list[Any] = ["compare", "vqa", "--data", questions, "--kb", kb.path, "--resamples", 200]
    fixed += ["--generator", "reader"]
    written = ["--html", tmp_path / "page.html", "--report", tmp_path / "report.json"]
    assert (
        main(
            [
                str(a)
                for a in [*fixed, "--arms", "closed-book, retrieved,random", "--json", *written]
            ]
        )
        == 0
    )
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert {line.get("arm") for line in lines} == {"closed-book", "retrieved", "random", None}
    assert "Contamination: of 20 examples" in err
    assert json.loads((tmp_path / "report.json").read_text())["task"] == "vqa"
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert main([str(a) for a in [*fixed, "--limit", 6, "-k", 2]]) == 0
    assert "vqa: 6 items" in capsys.readouterr().out
    assert main([str(a) for a in [*fixed, "--arms", "oracel"]]) == 1
    assert 'Did you mean "oracle"?' in capsys.readouterr().err
    assert main([str(a) for a in [*fixed, "--generator", "reader"]]) == 2
    assert main([str(a) for a in [*fixed, "--kb", kb.path]]) == 2
    with KnowledgeBase.build(
        tmp_path / "other", [Entry("one", None, ("Name: white",))], FakeEncoder()
    ):
        pass
    capsys.readouterr()
    assert (
        main(
            [str(a) for a in [*fixed, "--kb", tmp_path / "other", "--arms", "retrieved", "--json"]]
        )
        == 0
    )
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    swapped = next(line for line in lines if "contrast" in line and line["metric"] == "accuracy")
    assert [name.split(" on ")[0] for name in swapped["contrast"]] == ["reader", "reader"]
    assert swapped["difference"] < 0
    assert main(["compare", "vqa", "--data", str(questions)]) == 2
    assert main(["compare", "quiz", "--data", str(questions), "--kb", str(kb.path)]) == 2
    capsys.readouterr()
    assert (
        main(["compare", "vqa", "--data", str(tmp_path / "none.jsonl"), "--kb", str(kb.path)]) == 1
    )
    assert "none.jsonl" in capsys.readouterr().err


def test_snippet_of_the_docs_runs(
    kb: KnowledgeBase, questions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (REPOSITORY / "docs" / "comparing.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(questions.parent)
    exec(snippet, {"kb": kb})
    assert (questions.parent / "report.html").is_file()
