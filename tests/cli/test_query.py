"""search, ask, caption, tell and chat on the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ravlm.ocr.auto import ENGINES
from ravlm.ocr.base import TextRecognizer
from ravlm.regions import Region
from tests.helpers.commands import assert_fails
from tests.helpers.endpoints import Server, message


def test_search_by_text_image_and_filter(ravlm: Any, kb: Path, pictures: Path) -> None:
    code, out, _ = ravlm("search", kb, "--text", "red", "--modality", "image", "-k", 2)
    assert code == 0
    assert [line.split()[3] for line in out.splitlines()] == ["red", "blue"]
    code, out, _ = ravlm(
        "search", kb, "--image", pictures / "blue.png", "--where", "year >= 2000", "--json"
    )
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["blue"]
    assert json.loads(out)["metadata"] == {"year": 2020}
    assert json.loads(out)["image_url"] == str(pictures / "blue.png")


def test_search_options(ravlm: Any, kb: Path, pictures: Path) -> None:
    """Method, threshold, reranking and grouping were options of the library only."""

    def ids(*arguments: Any) -> list[str]:
        code, out, _ = ravlm("search", kb, *arguments, "--json")
        assert code == 0
        return [json.loads(line)["id"] for line in out.splitlines()]

    assert ids("--text", "fluffy", "--method", "keyword") == ["note"]
    assert ids("--image", pictures / "blue.png", "--min-score", 0.95) == ["blue"]
    assert ids("--image", pictures / "blue.png", "--rerank", "exact", "-k", 1) == ["blue"]
    grouped = ids("--image", pictures / "blue.png", "--group-by", "year", "--modality", "image")
    assert grouped[0] == "blue"
    assert len(grouped) == len(set(grouped))
    assert ravlm("search", kb, "--text", "red", "--method", "semantic")[0] == 2
    assert_fails(ravlm("ask", kb, "What?", "--max-tokens", 9), "max_tokens is 9", "default")


def test_an_answer_without_evidence_says_so(ravlm: Any, kb: Path) -> None:
    """With base_only=False a model goes on by itself; people must see that."""
    with Server([message("It is the Moon.")]) as server:
        generator = f"{server.address}#tiny"
        ask = ("ask", kb, "What is the mass of Qzx 7?", "--generator", generator)
        assert "not in the knowledge base" in ravlm(*ask)[1]
        code, out, _ = ravlm(*ask, "--no-base-only")
        assert code == 0
        assert out.startswith("It is the Moon.")
        assert "without evidence" in out
        answer = json.loads(ravlm(*ask, "--no-base-only", "--json")[1])
        assert (answer["abstained"], answer["citations"]) == (False, [])
        assert answer["trace"]["closed_book"] is True
        ravlm(*ask, "--no-base-only", "--max-tokens", 9)
        assert server.requests[-1][2]["max_tokens"] == 9


def test_searches_from_stdin(ravlm: Any, kb: Path, pictures: Path) -> None:
    code, out, _ = ravlm(
        "search", kb, "--text", "-", "-k", 1, "--json", stdin="fluffy cat\n\n毛茸茸的橘猫\n"
    )
    assert code == 0
    assert [json.loads(line)["query"] for line in out.splitlines()] == [
        "fluffy cat",
        "毛茸茸的橘猫",
    ]
    image = (pictures / "red.png").read_bytes()
    code, out, _ = ravlm("search", kb, "--image", "-", "-k", 1, "--json", stdin=image)
    assert json.loads(out)["id"] == "red"


def test_ask_caption_tell_chat(ravlm: Any, kb: Path, pictures: Path) -> None:
    red, blue = pictures / "red.png", pictures / "blue.png"
    code, out, _ = ravlm("ask", kb, "What is in the picture?", "--image", red, "--json")
    answer = json.loads(out)
    assert code == 0
    assert {"text", "citations", "confidence", "abstained", "evidence", "trace"} <= set(answer)
    assert answer["evidence"][0]["id"] == "red"
    code, out, _ = ravlm(
        "ask", kb, "-", "--image", red, "--json", stdin="What is it?\n它是什么？\n"
    )
    assert (code, len(out.splitlines())) == (0, 2)
    code, out, _ = ravlm("caption", kb, red, blue)
    assert code == 0
    assert [line.split(": ")[0] for line in out.splitlines()] == [str(red), str(blue)]
    assert ravlm("tell", kb, blue)[0] == 0
    code, out, _ = ravlm(
        "chat", kb, blue, "--json", stdin="What is it?\nAnd what kind is it?\n\nnever read\n"
    )
    assert (code, len(out.splitlines())) == (0, 2)


@pytest.mark.parametrize(("mode", "count"), [("always", 1), ("never", 0)])
def test_words_on_the_image_of_a_question(
    ravlm: Any, kb: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, mode: str, count: int
) -> None:
    images_read: list[Image.Image] = []

    class Recognizer(TextRecognizer):
        name = fingerprint = "fake"

        def recognize(self, images: Sequence[Image.Image]) -> list[list[Region]]:
            images_read.extend(images)
            return [[Region("blue square")] for _ in images]

    monkeypatch.setitem(ENGINES, "rapidocr", Recognizer)
    monkeypatch.setattr("ravlm.ocr.auto._IN_USE", {})
    red = pictures / "red.png"
    code, out, _ = ravlm("ask", kb, "What is it?", "--image", red, "--ocr", mode, "--json")
    assert (code, len(images_read)) == (0, count)
    assert json.loads(out)["trace"].get("printed", []) == ["blue", "square"] * count
    assert ravlm("chat", kb, red, "--ocr", mode, stdin="exit\n")[0] == 0
    code, _, err = ravlm("ask", kb, "What is it?", "--image", red, "--ocr", "sometimes")
    assert code == 2
    assert "sometimes" in err


@pytest.mark.parametrize("word", ["exit", "Quit", "/exit", "/quit", ":q", "退出"])
def test_words_that_end_a_chat(ravlm: Any, kb: Path, word: str) -> None:
    """exit and quit were searched for in the base."""
    code, out, _ = ravlm("chat", kb, "--json", stdin=f"What is red?\n{word}\nWhat is blue?\n")
    assert (code, len(out.splitlines())) == (0, 1)


def test_commands_in_a_chat(ravlm: Any, kb: Path) -> None:
    lines = "/help\n/restart\nWhat is red?\n/etc/hosts is what?\n"
    code, out, err = ravlm("chat", kb, "--json", stdin=lines)
    assert (code, len(out.splitlines())) == (0, 2)
    assert err.count("exit or quit ends the chat") == 2
    assert 'There is no command "/restart".' in err


def test_closed_book_is_allowed(ravlm: Any, kb: Path, pictures: Path) -> None:
    """k = 0 is the closed book on the same path: an answer without evidence, and no error."""
    code, out, _ = ravlm(
        "ask", kb, "What is it?", "--image", pictures / "red.png", "-k", 0, "--json"
    )
    assert (code, json.loads(out)["evidence"]) == (0, [])


def test_k_larger_than_the_base_returns_all(ravlm: Any, kb: Path) -> None:
    code, out, _ = ravlm("search", kb, "--text", "red", "-k", 1000)
    assert (code, len(out.splitlines())) == (0, 4)


def test_bad_searches(ravlm: Any, kb: Path, tmp_path: Path) -> None:
    assert_fails(ravlm("search", kb, "--text", "red", "-k", 0), "k is 0")
    assert_fails(ravlm("search", kb, "--text", ""), "empty")
    assert_fails(ravlm("search", kb, "--text", "red", "--where", "year >="), "year >=")
    assert_fails(ravlm("search", kb, "--image", tmp_path / "none.png"), "none.png")
    assert_fails(ravlm("search", kb, "--image", "-"), "empty")
    assert_fails(ravlm("search", tmp_path / "nowhere", "--text", "red"), "nowhere")
    assert_fails(ravlm("ask", kb, "What?", "--generator", "oracle"), "oracle", "extractive")
