"""The page of an answer shows each cited place on its image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ravlm.cli.answer_page import write_answer_page
from ravlm.records import Answer, Entry, Hit, Part, Source
from tests.helpers.browser import open_browser
from tests.helpers.commands import assert_fails
from tests.helpers.endpoints import Server, message

LINE = Part("text", 0, "Oil pressure: <4.5> bar", (0.1, 0.2, 0.5, 0.3), 3)
CARD = Part("text", 0, "a red wall")


@pytest.fixture
def answer(tmp_path: Path) -> Answer:
    Image.new("RGB", (600, 800), "white").save(tmp_path / "page.png")
    page = Entry("manual.pdf#page=3", str(tmp_path / "page.png"))
    hits = (Hit(page, 1.0, LINE), Hit(Entry("note", texts=("a red wall",)), 0.5, CARD))
    return Answer(
        "It is 4.5 bar [1] and red [2].",
        hits,
        ("manual.pdf#page=3", "note"),
        (Source("manual.pdf#page=3", LINE, 14, 19), Source("note", CARD)),
        0.8,
    )


def test_the_cited_place_is_on_the_page(answer: Answer, tmp_path: Path) -> None:
    path = write_answer_page(tmp_path / "out" / "answer.html", answer, "What <b>pressure</b>?")
    html = path.read_text(encoding="utf-8")
    assert "left:10.00%;top:20.00%;width:40.00%;height:10.00%" in html
    assert "Oil pressure: <mark>&lt;4.5&gt;</mark> bar" in html
    assert "What &lt;b&gt;pressure&lt;/b&gt;?" in html
    assert '<a class="mark" href="#source-2">[2]</a>' in html
    assert html.count("<figure>") == 1  # the note has no image
    assert "page 3" in html
    with open_browser() as browser:
        page = browser.new_page()
        page.goto(path.as_uri())
        image, mark = (page.query_selector(s).bounding_box() for s in ("img", ".highlight"))
    assert mark["x"] - image["x"] == pytest.approx(0.1 * image["width"], abs=1)
    assert mark["y"] - image["y"] == pytest.approx(0.2 * image["height"], abs=1)
    assert mark["height"] == pytest.approx(0.1 * image["height"], abs=1)


def test_ask_writes_the_page(ravlm: Any, kb: Path, tmp_path: Path) -> None:
    with Server([message("It is red [1].")]) as server:
        page = tmp_path / "answer.html"
        ask = ("ask", kb, "What color is the red wall?", "--generator", f"{server.address}#tiny")
        code, _, err = ravlm(*ask, "--html", page)
        assert (code, f"Wrote {page}." in err) == (0, True)
        assert "What color is the red wall?" in page.read_text(encoding="utf-8")
    assert_fails(ravlm("tell", kb, "--prompt", "-", "--html", page), "one answer", code=2)
