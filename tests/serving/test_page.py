"""The page in a real browser: each tab, by mouse, keyboard and drag and drop, in both languages."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ravlm.knowledge.base import KnowledgeBase
from ravlm.model import RetrievalAugmentedVLM
from ravlm.records import Edit, Entry
from ravlm.regions import Region
from ravlm.serving.settings import Settings
from tests.helpers.fakes import COLORS, FakeEncoder
from tests.helpers.servers import Running, png, running

HOSTILE = "Name: <img src=x onerror=\"document.title='broken into'\">\nColour: white"
WRITTEN = [
    Region("Oil pressure: 4.5 bar", (0.1, 0.2, 0.5, 0.3), 3),
    Region("QX7731", (0.1, 0.6, 0.5, 0.7), 3, "line", 0.4),
]
TABS = ("search", "ask", "caption", "tell", "edit", "entries")


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
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def served(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    kb = Path(shutil.copytree(built, tmp_path_factory.mktemp("page") / "kb"))
    with KnowledgeBase.open(kb, FakeEncoder()) as base:
        base.add([Entry("hostile", png(COLORS["white"]), (HOSTILE,))])
        base.add([Entry("manual.pdf#page=3", png((120, 0, 160), (48, 64)), regions=WRITTEN)])
    with running(kb) as server:
        yield server


@pytest.fixture
def visit(browser: Any, served: Running) -> Iterator[Callable[..., Any]]:
    """Open the page; at the end check that nothing was written to the console and no other host was
    contacted."""
    contexts, errors = [], []

    def open_page(server: Running = served, path: str = "/", **options: Any) -> Any:
        size = options.pop("viewport", {"width": 1280, "height": 900})
        contexts.append(browser.new_context(**{"viewport": size, "locale": "en-US", **options}))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on(
            "console",
            lambda message: (
                errors.append(message.text) if "status of 40" not in message.text else None
            ),
        )
        page.on("pageerror", lambda error: errors.append(str(error)))
        own_addresses = ("data:", "blob:", server.address)
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith(own_addresses) else errors.append(request.url)
            ),
        )
        page.goto(f"{server.address}{path}")
        page.wait_for_selector("[role=tab]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


def files(*colors: str) -> list[dict[str, Any]]:
    return [{"name": f"{c}.png", "mimeType": "image/png", "buffer": png(COLORS[c])} for c in colors]


def count_is(page: Any, selector: str, n: int) -> None:
    from playwright.sync_api import expect

    expect(page.locator(selector)).to_have_count(n, timeout=20_000)


def test_search_by_text_image_and_filter(visit: Callable[..., Any]) -> None:
    page = visit()
    page.fill("#view-search [name=text]", "red")
    page.keyboard.press("Enter")
    page.wait_for_selector("#view-search .tile")
    assert "red square" in page.inner_text("#view-search .tile >> nth=0")
    page.fill("#view-search [name=text]", "")
    page.set_input_files("#view-search input[type=file]", files("blue"))
    page.wait_for_selector("#view-search .drop.filled")
    page.click("#view-search summary")
    page.fill("#view-search [name=where]", "year >= 2000")
    page.click("#view-search button.main")
    count_is(page, "#view-search .tile", 2)
    assert page.inner_text("#view-search .tile-name >> nth=0") == "blue square"
    assert page.inner_text("#view-search .summary") == "2 entries found"
    page.fill("#view-search [name=where]", "year >=")
    page.click("#view-search button.main")
    page.wait_for_selector("#view-search .error:not(:empty)")
    assert "filter" in page.inner_text("#view-search .error:not(:empty)")
    page.click("#view-search .tile >> nth=0")
    page.wait_for_selector("dialog[open] h2")
    assert "Colour: blue" in page.inner_text("#entry")
    page.keyboard.press("Escape")
    assert page.query_selector("dialog[open]") is None


def test_a_chat_with_its_evidence(visit: Callable[..., Any]) -> None:
    page = visit(path="/#ask")
    page.set_input_files("#view-ask input[type=file]", files("red"))
    page.wait_for_selector("#view-ask .drop.filled")
    for question, answer in (("What size is it?", "12 cm"), ("What colour is it?", "red")):
        page.fill("#view-ask textarea", question)
        page.keyboard.press("Enter")
        page.wait_for_selector(f"#view-ask .turn:last-child .reply:has-text('{answer}') .mark")
    assert page.locator("#view-ask .bubble img").count() == 1
    cited = page.locator("#view-ask .evidence-card.cited")
    assert "red square" in cited.first.inner_text()
    page.click("#view-ask .turn:first-child .mark >> nth=0")
    assert "highlighted" in str(cited.first.get_attribute("class"))
    assert page.evaluate("document.activeElement.className").startswith("evidence-card")
    page.uncheck("#retrieval")
    page.fill("#view-ask textarea", "What size is it?")
    page.keyboard.press("Enter")
    page.wait_for_selector("#view-ask .turn:last-child .reply.abstained")
    assert page.inner_text("#view-ask .turn:last-child .badge") == "Answered without evidence"
    assert page.locator("#view-ask .evidence-card").count() == 0
    page.click("#language")
    assert page.locator("#view-ask .turn").count() == 3
    assert page.locator("#view-ask .drop.filled").count() == 1


def test_caption_and_tell(visit: Callable[..., Any]) -> None:
    page = visit()
    for tab, expected in (("caption", "square"), ("tell", "blue")):
        page.click(f"#tab-{tab}")
        page.click(f"#view-{tab} button.main")
        page.wait_for_selector(f"#view-{tab} .error:not(:empty)")
        page.set_input_files(f"#view-{tab} input[type=file]", files("blue"))
        page.wait_for_selector(f"#view-{tab} .drop.filled")
        page.click(f"#view-{tab} button.main")
        page.wait_for_selector(f"#view-{tab} .story .mark")
        assert expected in page.inner_text(f"#view-{tab} .story")
        assert "blue square" in page.inner_text(f"#view-{tab} .evidence")


def test_edit_before_and_after(visit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def edit(self: Any, image: Image.Image, instruction: str, k: int | None, seed: int) -> Any:
        region = np.zeros((image.height, image.width), bool)
        region[:10] = True
        changed = Image.new("RGB", image.size, (30, 40, 220))
        return Edit(image=changed, region=region, evidence=(), understood=f"To do: {instruction}.")

    monkeypatch.setattr(RetrievalAugmentedVLM, "edit", edit, raising=False)
    page = visit(path="/#edit")
    page.set_input_files("#view-edit input[type=file]", files("red"))
    page.wait_for_selector("#view-edit .drop.filled")
    page.fill("#view-edit [name=instruction]", "make it blue")
    page.click("#view-edit button.main")
    page.wait_for_selector(".slider")
    assert page.inner_text("#view-edit .story") == "To do: make it blue."
    page.focus(".slider input")
    page.keyboard.press("End")
    assert "100%" in page.evaluate("document.querySelector('.slider .after').style.clipPath")
    page.keyboard.press("Home")
    assert "100%" not in page.evaluate("document.querySelector('.slider .after').style.clipPath")
    page.check("#view-edit .check input")
    assert page.is_visible(".slider .mask")
    assert page.get_attribute("#view-edit a[download]", "href").startswith("data:image/png")


def test_entries_by_drag_and_drop(visit: Callable[..., Any], served: Running) -> None:
    page = visit(path="/#entries")
    page.wait_for_selector("#view-entries .tile")
    before = page.locator("#view-entries .tile").count()
    data = base64.b64encode(png(COLORS["black"])).decode()
    page.evaluate(
        """(data) => {
            const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "night.png", { type: "image/png" }));
            const drop = document.querySelector("#view-entries .drop");
            const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
            for (const kind of ["dragenter", "dragover", "drop"]) {
                drop.dispatchEvent(new DragEvent(kind, options));
            }
        }""",
        data,
    )
    page.wait_for_selector("#view-entries .previews img")
    page.fill("#view-entries textarea", "Name: black square")
    page.click("#view-entries button.main")
    count_is(page, "#view-entries .tile", before + 1)
    assert "black square" in page.inner_text("#view-entries .gallery")
    assert served.post("/v1/search", text="black square", k=1).json()["hits"][0]["texts"] == [
        "Name: black square"
    ]
    page.click("#view-entries .tile >> nth=-1")
    page.wait_for_selector("dialog[open] .danger")
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("dialog .danger")
    count_is(page, "#view-entries .tile", before)
    page.set_input_files(
        "#view-entries input[type=file]",
        [{"name": "notes.png", "mimeType": "image/png", "buffer": b"no picture"}],
    )
    page.wait_for_selector("#view-entries .error:has-text('notes.png')")


def test_ask_about_an_entry_and_find_similar(visit: Callable[..., Any]) -> None:
    """The link of a citation opens the entry; from there you can ask or search."""
    page = visit(path="/#entry=green")
    page.wait_for_selector("dialog[open] button.main")
    page.click("dialog button.main")
    page.wait_for_selector("#view-ask .drop.filled")
    page.fill("#view-ask textarea", "What size is it?")
    page.keyboard.press("Enter")
    page.wait_for_selector("#view-ask .reply:has-text('15 cm')")
    page.click("#view-ask .evidence-card >> nth=0")
    page.wait_for_selector("dialog[open] button.main")
    page.click("dialog .row button >> nth=1")
    page.wait_for_selector("#view-search .tile")
    assert page.inner_text("#view-search .tile-name >> nth=0") == "green square"


def test_the_cited_place_is_highlighted(visit: Callable[..., Any]) -> None:
    """A citation of a page opens its image, with the box of the cited line on it."""
    page = visit()
    page.fill("#view-search [name=text]", "Oil pressure: 4.5 bar")
    page.keyboard.press("Enter")
    tile = page.wait_for_selector("#view-search .tile:has-text('page 3')")
    page.wait_for_selector("#view-search .tile:has-text('page 3') img.tall")  # shown from its top
    tile.click()
    page.wait_for_selector("dialog[open] .highlight")
    share = page.evaluate(
        """() => {
            const image = document.querySelector("dialog .page-image img").getBoundingClientRect();
            const mark = document.querySelector("dialog .highlight").getBoundingClientRect();
            return [
                (mark.left - image.left) / image.width, (mark.top - image.top) / image.height,
                mark.width / image.width, mark.height / image.height,
            ].map((value) => Math.round(100 * value) / 100);
        }"""
    )
    assert share == [0.1, 0.2, 0.4, 0.5]  # both lines are one passage
    assert page.inner_text("dialog .doubtful") == "QX7731"
    linked = visit(path="/#entry=manual.pdf%23page%3D3&box=0.1000,0.6000,0.5000,0.7000")
    linked.wait_for_selector("dialog[open] .highlight")
    style = linked.get_attribute("dialog .highlight", "style")
    assert "left: 10%" in style
    assert "top: 60%" in style
    plain = visit(path="/#entry=manual.pdf%23page%3D3&box=9,9,9,x")
    plain.wait_for_selector("dialog[open] h2")
    assert plain.query_selector(".highlight") is None


def test_entry_texts_are_never_run(visit: Callable[..., Any]) -> None:
    page = visit(path="/#entry=hostile")
    page.wait_for_selector("dialog[open] h2")
    assert "<img" in page.inner_text("dialog h2")
    page.keyboard.press("Escape")
    page.fill("#view-search [name=text]", "white")
    page.keyboard.press("Enter")
    page.wait_for_selector("#view-search .tile")
    page.wait_for_timeout(200)
    assert page.title() == "ravlm · Search"


PAPER = {"light": "rgb(246, 244, 238)", "dark": "rgb(21, 20, 18)"}


@pytest.mark.parametrize(
    ("width", "locale", "scheme"),
    [
        (360, "en-US", "light"),
        (360, "zh-CN", "dark"),
        (820, "zh-CN", "light"),
        (1280, "en-US", "dark"),
    ],
)
def test_every_tab_fits_and_every_control_has_a_name(
    visit: Callable[..., Any], width: int, locale: str, scheme: str
) -> None:
    """Nothing overflows, on a phone either, and every control has a name for screen readers."""
    page = visit(locale=locale, color_scheme=scheme, viewport={"width": width, "height": 800})
    assert (
        page.evaluate("document.documentElement.lang") == {"en-US": "en", "zh-CN": "zh-CN"}[locale]
    )
    assert page.get_by_role("tab").count() == len(TABS)
    for tab in TABS:
        page.click(f"#tab-{tab}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), tab
        unnamed = page.evaluate(
            """() => [...document.querySelectorAll("main :is(button, input, select, textarea)")]
                .filter((e) => !(e.ariaLabel || e.textContent.trim()
                    || e.labels?.[0]?.textContent.trim()))
                .map((e) => e.outerHTML)"""
        )
        assert unnamed == []
    text = page.inner_text("body")
    assert "undefined" not in text
    assert ("检索" in text) == (locale == "zh-CN")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == PAPER[scheme]


def test_keyboard_language_and_theme(visit: Callable[..., Any]) -> None:
    page = visit()
    page.focus("#tab-search")
    for key, tab in (
        ("ArrowRight", "ask"),
        ("End", "entries"),
        ("ArrowRight", "search"),
        ("ArrowLeft", "entries"),
        ("Home", "search"),
    ):
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.id") == f"tab-{tab}"
        assert page.is_visible(f"#view-{tab}")
        assert page.locator("[role=tab][aria-selected=true]").count() == 1
    page.click("#language")
    assert page.inner_text("h1 >> visible=true") == "用文字、图片或图文组合检索"
    page.click("#theme")
    page.reload()
    page.wait_for_selector("[role=tab]")
    assert page.inner_text("h1 >> visible=true") == "用文字、图片或图文组合检索"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == PAPER["dark"]


def test_both_languages_have_the_same_keys() -> None:
    import re

    text = (Path(__file__).parents[2] / "src/ravlm/serving/page/i18n.js").read_text(
        encoding="utf-8"
    )
    english, chinese = text.split("  zh: {")
    keys = [
        re.findall(r"(?:^|[ {,])(\w+): (?=[\"`(])", part.split("export")[0], re.MULTILINE)
        for part in (english, chinese)
    ]
    assert len(keys[0]) > 60
    assert sorted(keys[0]) == sorted(keys[1])


def test_a_token_is_asked_for_once(visit: Callable[..., Any], kb: Path) -> None:
    with running(kb, Settings(port=0, token="a-token-of-this-test")) as server:
        page = visit(server)
        page.wait_for_selector("dialog#token[open]")
        page.fill("#token-value", "a-token-of-this-test")
        page.click("#token button")
        page.wait_for_selector("#about:has-text('encoder: fake')")
        page.fill("#view-search [name=text]", "red")
        page.keyboard.press("Enter")
        page.wait_for_selector("#view-search .tile img[src^='blob:']")
        assert page.query_selector("dialog[open]") is None
        page.close()


def test_the_api_page_shows_an_example_of_each_request(
    visit: Callable[..., Any], served: Running
) -> None:
    page = visit()
    page.goto(f"{served.address}/docs")
    page.wait_for_selector(".operation")
    spec = served.client.get("/openapi.json").json()
    assert page.locator(".operation").count() == sum(map(len, spec["paths"].values()))
    commands = page.locator(".operation pre").all_text_contents()
    assert all(text.startswith("curl http") for text in commands)
    with_body = [
        op
        for ops in spec["paths"].values()
        for op in ops.values()
        if "application/json" in op.get("requestBody", {}).get("content", {})
    ]
    assert len([text for text in commands if "-d '{" in text]) == len(with_body)
