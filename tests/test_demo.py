"""The demo: its content, what it answers, its page in a real browser, and anybody's pictures."""

from __future__ import annotations

import json
import re
import shutil
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
from ravlm.demo.photos import CONTENT, changed_copy, package_file
from ravlm.errors import BrokenData, InvalidInput, MissingExtra, NotFound
from tests.helpers.fakes import FakeEncoder

ROWS = [json.loads(line) for line in CONTENT.read_text(encoding="utf-8").splitlines()]
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


# what it is made of


def test_content_is_whole() -> None:
    """Each picture lies in its package, decodes, and is described in both languages; half of the
    rest is Chinese."""
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
    assert {row["shows"] for row in loose} >= {"cat", "dog"}, "right ones and wrong ones"


def test_pictures_are_found_without_importing_their_packages() -> None:
    code = (
        "import sys; from ravlm.demo.photos import package_file as where;"
        "print(where('skimage/data/coffee.png').is_file());"
        "print('skimage' in sys.modules, 'sklearn' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "False"]


def test_a_package_that_is_missing_is_named() -> None:
    with pytest.raises(MissingExtra, match=r"ravlm\[starter\]"):
        package_file("nosuchpackage/cat.png")


def test_a_changed_copy_is_mirrored_cropped_and_darker() -> None:
    image = Image.new("RGB", (100, 50), (200, 0, 0))
    image.paste((0, 0, 200), (50, 0, 100, 50))
    copy = changed_copy(image)
    assert copy.size == (80, 40)
    assert copy.getpixel((5, 20)) == (0, 0, 160)
    assert copy.getpixel((75, 20)) == (160, 0, 0)
    assert changed_copy(Image.new("RGB", (1, 1))).size == (1, 1)


# what it shows


def by_label(records: list[dict[str, Any]], section: str, label: str) -> dict[str, Any]:
    return next(r for r in records if r.get("section") == section and r["label"] == label)


def test_it_answers_in_both_languages(made_demo: tuple[Path, list[dict[str, Any]]]) -> None:
    _, records = made_demo
    english = by_label(records, "photo", "asked in English")
    chinese = by_label(records, "photo", "asked in Chinese")
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
    assert first["words to pictures"]["id"] == "motorcycle"
    assert first["Chinese to pictures"]["id"] == "temple"
    assert first["picture to pictures"]["id"] == "dahlia"
    assert first["picture to texts"]["modality"] == "text"
    assert "rocket" in first["words to texts"]["id"]
    about = by_label(records, "photo", "texts about this photo")["hits"]
    assert all(hit["modality"] == "text" for hit in about)
    assert any(hit["metadata"].get("shows") == "cat" or hit["id"] == "cat" for hit in about[:2])


def test_it_tells_talks_and_abstains(made_demo: tuple[Path, list[dict[str, Any]]]) -> None:
    _, records = made_demo
    story = by_label(records, "photo", "story")["answer"]
    assert "cat" in story["citations"]
    assert story["text"].count(".") >= 2
    assert is_chinese(by_label(records, "photo", "story in Chinese")["answer"]["text"])
    assert "41" in by_label(records, "talk", "second turn")["answer"]["text"]
    assert "2015" in by_label(records, "questions", "with a photo")["answer"]["text"]
    for record in records:
        if record.get("section") == "absent":
            assert record["answer"]["abstained"], record["text"]
            assert "not in the knowledge base" in record["answer"]["text"]
            assert record["answer"]["citations"] == []


def test_the_page_holds_everything_itself(made_demo: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, records = made_demo
    page = (folder / "index.html").read_text(encoding="utf-8")
    seen = Tags(page)
    assert len(page) < PAGE_BYTES
    assert not [tag for tag, _ in seen.tags if tag in ("script", "iframe", "object")]
    for _, attributes in seen.tags:
        for name in ("src", "href"):
            if name in attributes:
                assert str(attributes[name]).startswith("data:")
    assert "url(" not in page
    images = [attributes for tag, attributes in seen.tags if tag == "img"]
    assert len(images) > 40
    assert all("alt" in image for image in images)
    assert seen.text.count("图片中的动物是什么？") == 1
    assert any(attributes.get("lang") == "zh" for _, attributes in seen.tags)
    for record in records:
        if "answer" in record:
            assert re.sub(r" ?\[([\d, ]+)\]", r"\1", record["answer"]["text"]) in seen.text
    assert load_image(str(folder / "photo.jpg")).width > 300


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if chromium is None:
        pytest.skip("there is no chromium here; install it to look at the page")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_in_a_browser(
    made_demo: tuple[Path, list[dict[str, Any]]], browser: Any, width: int
) -> None:
    """Nothing sticks out at either side, nothing is fetched, and dark is dark."""
    paper = {}
    for scheme in ("light", "dark"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        asked, errors = [], []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.on("console", lambda message, errors=errors: errors.append(message.text))
        page.goto((made_demo[0] / "index.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        assert [url for url in asked if not url.startswith("data:")] == [
            (made_demo[0] / "index.html").as_uri()
        ]
        assert errors == []
        paper[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.close()
    assert paper == {"light": "rgb(246, 244, 238)", "dark": "rgb(21, 20, 18)"}


# anybody's pictures


def test_a_folder_of_pictures_alone(pictures: Path, tmp_path: Path) -> None:
    """Without words nothing can be asked: it searches, and says what was refused."""
    (pictures / "broken.jpg").write_bytes(b"no picture")
    shown = []
    page = run_demo(tmp_path / "out", pictures, encoder=FakeEncoder(), on_exhibit=shown.append)
    assert {exhibit.step.verb for exhibit in shown} == {"search"}
    assert shown[0].hits[0].score > 0.9
    text = Tags(page.read_text(encoding="utf-8")).text
    assert "4 pictures" in text
    assert "broken.jpg" in text


def test_pictures_with_texts_and_twice_into_the_same_folder(pictures: Path, tmp_path: Path) -> None:
    for name in ("red", "green", "blue"):
        (pictures / f"{name}.txt").write_text(
            f"Name: {name} <b>square</b>\nA {name} square on a wall."
        )
    out = tmp_path / "out"
    for _ in range(2):
        shown = []
        page = run_demo(out, pictures, encoder=FakeEncoder(), on_exhibit=shown.append)
        assert {exhibit.step.verb for exhibit in shown} == {
            "search",
            "ask",
            "caption",
            "tell",
            "chat",
        }
    assert "<b>square" not in page.read_text(encoding="utf-8")


def test_sources_that_can_not_be_shown(tmp_path: Path) -> None:
    (tmp_path / "words.jsonl").write_text('{"text": "only words"}\n')
    with pytest.raises(BrokenData, match="no picture"):
        run_demo(tmp_path / "out", tmp_path / "words.jsonl", encoder=FakeEncoder())
    with pytest.raises(NotFound, match="nowhere"):
        run_demo(tmp_path / "out", tmp_path / "nowhere", encoder=FakeEncoder())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kb").write_text("precious")
    with pytest.raises(InvalidInput, match="--out"):
        run_demo(tmp_path / "mine", encoder=FakeEncoder())
    assert (tmp_path / "mine" / "kb").read_text() == "precious"


def test_the_terminal_shows_it_short(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                     monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    from ravlm.encoders import auto

    monkeypatch.setattr(auto, "load_encoder", lambda name: FakeEncoder("starter"))
    assert main(["demo", "--data", str(pictures), "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") < 40
    assert str(tmp_path / "out" / "index.html") in out
    assert "\x1b" not in out
