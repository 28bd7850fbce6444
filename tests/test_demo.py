"""The demo: its content, its answers, its page in a real browser, and a user's own images."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ravlm.cli import main
from ravlm.data.images import load_image
from ravlm.data.text import is_chinese
from ravlm.demo import run_demo
from ravlm.demo.photos import ENTRIES, package_file, transformed_copy
from ravlm.demo.plan import folder_plan
from ravlm.errors import BrokenData, InvalidInput, MissingExtra, NotFound
from ravlm.records import Entry
from ravlm.regions import Region
from tests.helpers.browser import background_of_page, open_browser
from tests.helpers.fakes import FakeEncoder

ROWS = [json.loads(line) for line in ENTRIES.read_text(encoding="utf-8").splitlines()]
PAGE_BYTES = 1_500_000


class Tags(HTMLParser):
    """Every tag with its attributes, and the text between."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


# its content


def test_content_is_complete() -> None:
    """Each image exists in its package, decodes, and is described in both languages."""
    pictured = [row for row in ROWS if "image" in row]
    loose = [row for row in ROWS if "image" not in row]
    assert len({row["id"] for row in ROWS}) == len(ROWS)
    assert len(pictured) >= 12
    assert len(loose) >= 12
    for row in pictured:
        assert load_image(str(package_file(row["image"]))).width > 300
        english, chinese = row["texts"]
        assert english.startswith("Name: ")
        assert "\nKind: " in english
        assert not is_chinese(english)
        assert chinese.startswith("名称: ")
        assert "\n种类: " in chinese
        assert row["credit"]
    assert {row["text"] for row in loose} >= {"a fluffy orange cat", "一只毛茸茸的橘猫"}
    assert {row["shows"] for row in loose} >= {"cat", "dog"}, "relevant and irrelevant texts"


def test_images_are_located_without_importing_their_packages() -> None:
    code = (
        "import sys; from ravlm.demo.photos import package_file as where;"
        "print(where('skimage/data/coffee.png').is_file());"
        "print('skimage' in sys.modules, 'sklearn' in sys.modules)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout.split() == ["True", "False", "False"]


def test_missing_package_is_named() -> None:
    with pytest.raises(MissingExtra, match=r"ravlm\[starter\]"):
        package_file("nosuchpackage/cat.png")


def test_transformed_copy_is_mirrored_cropped_and_darker() -> None:
    image = Image.new("RGB", (100, 50), (200, 0, 0))
    image.paste((0, 0, 200), (50, 0, 100, 50))
    copy = transformed_copy(image)
    assert copy.size == (80, 40)
    assert copy.getpixel((5, 20)) == (0, 0, 160)
    assert copy.getpixel((75, 20)) == (160, 0, 0)
    assert transformed_copy(Image.new("RGB", (1, 1))).size == (1, 1)


# its answers


def by_label(records: list[dict[str, Any]], section: str, label: str) -> dict[str, Any]:
    return next(r for r in records if r.get("section") == section and r["label"] == label)


def test_it_answers_in_both_languages(made_demo: tuple[Path, list[dict[str, Any]]]) -> None:
    _, records = made_demo
    english = by_label(records, "photo", "question")
    chinese = by_label(records, "photo", "question in Chinese")
    assert english["text"] == "What is the animal in the picture?"
    assert "cat" in english["answer"]["text"]
    assert chinese["text"] == "图片中的动物是什么？"
    assert "猫" in chinese["answer"]["text"]
    for record in (english, chinese):
        assert "cat" in record["answer"]["citations"]
        assert not record["answer"]["abstained"]


def test_it_searches_in_every_direction(made_demo: tuple[Path, list[dict[str, Any]]]) -> None:
    _, records = made_demo
    first = {r["label"]: r["hits"][0] for r in records if r.get("section") == "search"}
    assert first["text to image"]["id"] == "motorcycle"
    assert first["Chinese text to image"]["id"] == "temple"
    assert first["image to image"]["id"] == "dahlia"
    assert first["image to text"]["part"]["modality"] == "text"
    assert "rocket" in first["text to text"]["id"]
    about = by_label(records, "photo", "matching texts")["hits"]
    assert all(hit["part"]["modality"] == "text" for hit in about)
    assert any(hit["metadata"].get("shows") == "cat" or hit["id"] == "cat" for hit in about[:2])


def test_it_tells_chats_and_abstains(made_demo: tuple[Path, list[dict[str, Any]]]) -> None:
    _, records = made_demo
    story = by_label(records, "photo", "story")["answer"]
    assert "cat" in story["citations"]
    assert story["text"].count(".") >= 2
    assert is_chinese(by_label(records, "photo", "story in Chinese")["answer"]["text"])
    assert "41" in by_label(records, "chat", "second turn")["answer"]["text"]
    assert "2015" in by_label(records, "questions", "about a photo")["answer"]["text"]
    for record in records:
        if record.get("section") == "abstention":
            assert record["answer"]["abstained"], record["text"]
            assert "not in the knowledge base" in record["answer"]["text"]
            assert record["answer"]["citations"] == []


def test_page_is_self_contained(made_demo: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, records = made_demo
    page = (folder / "index.html").read_text(encoding="utf-8")
    parsed = Tags(page)
    assert len(page) < PAGE_BYTES
    assert not [tag for tag, _ in parsed.tags if tag in ("script", "iframe", "object")]
    for _, attributes in parsed.tags:
        for name in ("src", "href"):
            if name in attributes:
                assert str(attributes[name]).startswith("data:")
    assert "url(" not in page
    images = [attributes for tag, attributes in parsed.tags if tag == "img"]
    assert len(images) > 40
    assert all("alt" in image for image in images)
    assert parsed.text.count("图片中的动物是什么？") == 1
    assert any(attributes.get("lang") == "zh" for _, attributes in parsed.tags)
    for record in records:
        if "answer" in record:
            assert re.sub(r" ?\[([\d, ]+)\]", r"\1", record["answer"]["text"]) in parsed.text
    assert load_image(str(folder / "photo.jpg")).width > 300


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as chromium:
        yield chromium


@pytest.mark.parametrize("width", [360, 1280])
def test_page_in_a_browser(
    made_demo: tuple[Path, list[dict[str, Any]]], browser: Any, width: int
) -> None:
    """Nothing overflows, nothing is fetched, and the dark scheme is dark."""
    page = made_demo[0] / "index.html"
    assert background_of_page(browser, page, width, "light") == "rgb(246, 244, 238)"
    assert background_of_page(browser, page, width, "dark") == "rgb(21, 20, 18)"


# a user's own images


def test_folder_of_images_without_texts(pictures: Path, tmp_path: Path) -> None:
    """Without texts nothing can be asked: the demo searches, and lists what was refused."""
    (pictures / "broken.jpg").write_bytes(b"no picture")
    results = []
    page = run_demo(tmp_path / "out", pictures, encoder=FakeEncoder(), on_result=results.append)
    assert {result.step.verb for result in results} == {"search"}
    assert results[0].hits[0].score > 0.9
    text = Tags(page.read_text(encoding="utf-8")).text
    assert "4 images" in text
    assert "broken.jpg" in text


def test_images_with_texts_twice_into_the_same_folder(pictures: Path, tmp_path: Path) -> None:
    for name in ("red", "green", "blue"):
        (pictures / f"{name}.txt").write_text(
            f"Name: {name} <b>square</b>\nA {name} square on a wall."
        )
    out = tmp_path / "out"
    for _ in range(2):
        results = []
        page = run_demo(out, pictures, encoder=FakeEncoder(), on_result=results.append)
        assert {result.step.verb for result in results} == {
            "search",
            "ask",
            "caption",
            "tell",
            "chat",
        }
    assert "<b>square" not in page.read_text(encoding="utf-8")


def test_photos_with_texts_are_shown_before_pages(tmp_path: Path) -> None:
    """The demo of a folder showed a mirrored page of a manual, and asked what is in the picture."""
    for n, name in enumerate(("page", "plain", "boat", "hill")):
        Image.new("RGB", (20, 10), (60 * n, 9, 9)).save(tmp_path / f"{name}.png")
    page = Entry("page", str(tmp_path / "page.png"), regions=[Region("Fees", (0, 0, 1, 0.1), 1)])
    plain = Entry("plain", str(tmp_path / "plain.png"))
    boat, hill = (
        Entry(name, str(tmp_path / f"{name}.png"), (f"Name: {name}\nA {name}.",))
        for name in ("boat", "hill")
    )
    note = Entry("note", text="# Fees\n| Adult | 5 |")
    plan = folder_plan([page, plain, boat, hill, note])
    assert plan.photo.getpixel((0, 0))[0] == int(120 * 0.8)
    assert {step.text for step in plan.steps if step.label == "text to image"} == {"A hill."}
    assert folder_plan([page, plain]).photo.getpixel((0, 0))[0] == int(60 * 0.8)
    assert "Fees Adult 5" in {step.text for step in folder_plan([page, note]).steps}


def test_bad_sources_are_refused(tmp_path: Path) -> None:
    (tmp_path / "words.jsonl").write_text('{"text": "only words"}\n')
    with pytest.raises(BrokenData, match="no image"):
        run_demo(tmp_path / "out", tmp_path / "words.jsonl", encoder=FakeEncoder())
    with pytest.raises(NotFound, match="nowhere"):
        run_demo(tmp_path / "out", tmp_path / "nowhere", encoder=FakeEncoder())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kb").write_text("precious")
    with pytest.raises(InvalidInput, match="--out"):
        run_demo(tmp_path / "mine", encoder=FakeEncoder())
    assert (tmp_path / "mine" / "kb").read_text() == "precious"


def test_terminal_output_is_short(
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ravlm.encoders import auto

    monkeypatch.setattr(auto, "load_encoder", lambda name: FakeEncoder("starter"))
    assert main(["demo", "--data", str(pictures), "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") < 40
    assert str(tmp_path / "out" / "index.html") in out
    assert "\x1b" not in out
