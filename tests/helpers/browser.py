"""A headless browser for tests of pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def open_browser() -> Iterator[Any]:
    """Yield a headless Chromium; skip the test if none is installed."""
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def background_of_page(browser: Any, path: Path, width: int, color_scheme: str) -> str:
    """Check that a page fits the width, shows all its images, fetches nothing and logs nothing;
    return its background color."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=color_scheme)
    requests: list[str] = []
    messages: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: messages.append(message.text))
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
    assert messages == []
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.close()
    return background
