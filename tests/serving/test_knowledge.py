"""Search, questions, captions, stories, edits and proof over HTTP, against what the library says
itself."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ravlm.knowledge.base import KnowledgeBase
from ravlm.model import RetrievalAugmentedVLM
from ravlm.records import Edit
from ravlm.search.options import SearchOptions
from tests.helpers.endpoints import Server, message
from tests.helpers.fakes import COLORS, FakeEncoder
from tests.helpers.servers import Running, png, running, url_of


def test_search_equals_the_library(server: Running, built: Path) -> None:
    with KnowledgeBase.open(built, FakeEncoder()) as kb:
        for query, options in (
            ({"text": "red"}, {"k": 2}),
            ({"image": png(COLORS["blue"])}, {"k": 3, "modality": "image"}),
            ({"text": "green", "image": png(COLORS["blue"])}, {"k": 5}),
            ({"text": "square"}, {"k": 5, "where": {"year": {">=": 2000}}}),
            ({"text": "square"}, {"k": 5, "where": {"year": {"$gte": 2000, "$exists": True}}}),
            ({"text": "square"}, {"k": 5, "where": "year < 2000"}),
        ):
            body: dict[str, Any] = {**query, **options}
            if "image" in body:
                body["image"] = url_of(body["image"])
            response = server.post("/v1/search", **body)
            assert response.status_code == 200, response.text
            hits = kb.search(**query, **options)  # type: ignore[arg-type]
            assert [hit["id"] for hit in response.json()["hits"]] == [hit.entry.id for hit in hits]
            assert [hit["score"] for hit in response.json()["hits"]] == pytest.approx(
                [h.score for h in hits], abs=1e-3
            )
            for hit, expected in zip(response.json()["hits"], hits, strict=True):
                assert set(hit) == {"id", "score", "part", "texts", "metadata", "image_url"}
                assert hit["part"]["modality"] == expected.part.modality
                assert hit["metadata"] == dict(expected.entry.metadata)


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ({"text": "a fluffy cat"}, {"method": "keyword"}),
        ({"text": "red square"}, {"method": "hybrid", "rerank": "exact"}),
        ({"image": png(COLORS["blue"])}, {"min_score": 0.95}),
        ({"image": png(COLORS["blue"])}, {"group_by": "year"}),
    ],
)
def test_search_options_equal_the_librarys(
    server: Running, built: Path, query: dict[str, Any], options: dict[str, Any]
) -> None:
    body = {**query, **options}
    if "image" in body:
        body["image"] = url_of(body["image"])
    hits = server.post("/v1/search", **body).json()["hits"]
    with KnowledgeBase.open(built, FakeEncoder()) as kb:
        expected = kb.search(**query, options=SearchOptions(**options))
        plain = kb.search(**query)
    assert [hit["id"] for hit in hits] == [hit.entry.id for hit in expected]
    assert [hit["score"] for hit in hits] == pytest.approx([h.score for h in expected], abs=1e-3)
    assert hits
    assert [hit.score for hit in plain] != [hit.score for hit in expected] or "group_by" in options


def test_a_question_without_evidence_over_http(built: Path) -> None:
    """base_only=False, whole, streamed and as a chat: answered by the model, and marked."""
    ask = {"question": "What is the mass of Qzx 7?"}
    with (
        Server([message("It is the Moon.")]) as endpoint,
        running(built, generator=f"{endpoint.address}#tiny") as server,
    ):
        strict = server.post("/v1/ask", **ask).json()
        assert strict["abstained"]
        answer = server.post("/v1/ask", **ask, base_only=False).json()
        assert (answer["text"], answer["abstained"]) == ("It is the Moon.", False)
        assert (answer["citations"], answer["trace"]["closed_book"]) == ([], True)
        streamed = server.post("/v1/ask", **ask, base_only=False, stream=True).text
        assert '"closed_book":true' in streamed
        chat = {"role": "user", "content": ask["question"]}
        for base_only in (True, False):
            completion = server.post(
                "/v1/chat/completions", model="ravlm", messages=[chat], base_only=base_only
            ).json()
            assert completion["closed_book"] is not base_only
            assert completion["abstained"] is base_only


def test_a_chat_about_several_images_reaches_a_model_that_reads_them(built: Path) -> None:
    parts = [{"type": "image_url", "image_url": url_of(color)} for color in ("red", "blue")]
    content = [*parts, {"type": "text", "text": "What do both show?"}]
    with Server([message("Squares [1][2]")]) as endpoint:
        with running(built, generator=f"{endpoint.address}#tiny") as server:
            completion = server.post(
                "/v1/chat/completions",
                model="ravlm",
                messages=[{"role": "user", "content": content}],
            ).json()
        sent = endpoint.requests[-1][2]["messages"][-1]["content"]
    assert sorted(hit["id"] for hit in completion["evidence"])[:2] == ["blue", "green"]
    assert {hit["id"] for hit in completion["evidence"]} >= {"red", "blue"}
    question = [part for part in sent if "Picture" in part.get("text", "")]
    assert len(question) == 2


def test_a_text_that_is_a_data_url_is_refused(server: Running) -> None:
    """It was searched for, asked or stored as words."""
    url = url_of("red")
    for path, body in (
        ("/v1/search", {"text": url}),
        ("/v1/ask", {"question": url}),
        ("/v1/entries", {"id": "a", "text": url}),
    ):
        response = server.post(path, **body)
        assert response.status_code == 400
        assert "send it as image" in response.json()["error"]["message"]


def test_a_key_that_no_entry_has_is_refused(server: Running) -> None:
    """A misspelled key answered 200 with no hits."""
    response = server.post("/v1/search", text="square", where={"yaer": 2000})
    assert response.status_code == 400
    assert 'Did you mean "year"?' in response.text.replace("\\", "")


def test_relevance_on_request(server: Running) -> None:
    """The page showed cosines, BM25 and rank sums as one "score"."""
    by_modality = {}
    for modality in ("any", "image"):
        body = {"text": "red", "k": 5, "modality": modality, "relevance": True}
        hits = server.post("/v1/search", **body).json()["hits"]
        assert all(0 <= hit["relevance"] <= 1 for hit in hits)
        of_images = [hit for hit in hits if hit["part"]["modality"] == "image"]
        by_modality[modality] = {hit["id"]: hit["relevance"] for hit in of_images}
    assert by_modality["any"].items() <= by_modality["image"].items()


def test_image_url_of_a_hit(server: Running) -> None:
    hits = server.post("/v1/search", text="red", k=5).json()["hits"]
    hit = next(hit for hit in hits if hit["id"] == "red")
    response = server.client.get(hit["image_url"], params={"edge": 32})
    assert response.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(response.content)) as image:
        assert image.size == (32, 24)
        assert np.abs(np.asarray(image.convert("RGB")).mean((0, 1)) - COLORS["red"]).max() < 4
    note = next(hit for hit in hits if hit["id"] == "note")
    assert note["image_url"] is None
    assert server.client.get("/v1/images/note").status_code == 404


def test_ask_caption_tell_equal_the_library(server: Running, built: Path) -> None:
    with KnowledgeBase.open(built, FakeEncoder()) as kb:
        model = RetrievalAugmentedVLM(kb)
        red, blue = png(COLORS["red"]), png(COLORS["blue"])
        for path, body, expected in (
            (
                "ask",
                {"question": "What size is it?", "image": url_of(blue)},
                model.ask("What size is it?", blue),
            ),
            (
                "ask",
                {"question": "What colour is the red square?"},
                model.ask("What colour is the red square?"),
            ),
            (
                "ask",
                {"question": "这是什么颜色？", "image": url_of(red)},
                model.ask("这是什么颜色？", red),
            ),
            (
                "ask",
                {"question": "What size is it?", "image": url_of(red), "k": 0},
                model.ask("What size is it?", red, k=0),
            ),
            ("caption", {"image": url_of(red), "k": 2}, model.caption(red, k=2)),
            ("tell", {"image": url_of(red)}, model.tell(red)),
            (
                "tell",
                {"prompt": "the blue square", "image": url_of(red)},
                model.tell(red, "the blue square"),
            ),
            ("tell", {"prompt": "the green square"}, model.tell(prompt="the green square")),
        ):
            response = server.post(f"/v1/{path}", **body)
            assert response.status_code == 200, response.text
            answer = response.json()
            assert answer["text"] == expected.text, path
            assert tuple(answer["citations"]) == expected.citations
            assert answer["abstained"] == expected.abstained
            assert [hit["id"] for hit in answer["evidence"]] == [
                hit.entry.id for hit in expected.evidence
            ]
            events = streamed(server, f"/v1/{path}", body)
            assert "".join(event["piece"] for event in events[:-1]) == expected.text
            assert events[-1]["answer"]["citations"] == list(expected.citations)


def streamed(server: Running, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    with server.client.stream("POST", path, json={**body, "stream": True}) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def test_edit(kb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of an edit: image, changed region, how the instruction was understood, evidence."""

    def edit(self: Any, image: Image.Image, instruction: str, k: int | None, seed: int) -> Any:
        region = np.zeros((image.height, image.width), bool)
        region[: image.height // 2] = True
        pixels = np.asarray(image).copy()
        pixels[region] = (30, 40, 220)
        if "nothing" in instruction:
            return Edit(image=image, region=None, evidence=(), understood="Nothing is to be done.")
        hits = tuple(self.kb.search(text=instruction, k=k))
        return Edit(
            image=Image.fromarray(pixels),
            region=region,
            evidence=hits,
            understood="Make the sky blue.",
        )

    monkeypatch.setattr(RetrievalAugmentedVLM, "edit", edit, raising=False)
    with running(kb) as server:
        edit_response = server.post(
            "/v1/edit", image=url_of("red"), instruction="make the sky blue", k=2, seed=7
        ).json()
        assert decode_image(edit_response["image"]).getpixel((3, 3)) == (30, 40, 220)
        assert decode_image(edit_response["image"]).getpixel((3, 40)) == COLORS["red"]
        assert decode_image(edit_response["image"]).size == (64, 48)
        assert np.asarray(
            decode_image(edit_response["region"]).convert("L")
        ).mean() == pytest.approx(127.5)
        assert edit_response["understood"] == "Make the sky blue."
        assert edit_response["changed"] == 0.5
        assert len(edit_response["evidence"]) == 2
        unchanged = server.post("/v1/edit", image=url_of("blue"), instruction="do nothing").json()
        assert unchanged["region"] is None
        assert decode_image(unchanged["image"]).getpixel((3, 3)) == COLORS["blue"]


def test_edit_with_the_rule_based_editor(server: Running) -> None:
    for color, instruction, brighter in (
        ("red", "make it brighter", True),
        ("blue", "让画面更暗", False),
    ):
        edit_response = server.post("/v1/edit", image=url_of(color), instruction=instruction).json()
        change = np.asarray(decode_image(edit_response["image"]), float).mean() - np.mean(
            COLORS[color]
        )
        assert (change > 3) if brighter else (change < -3)
        assert np.asarray(decode_image(edit_response["region"]).convert("L")).min() == 255
        assert edit_response["understood"]


def decode_image(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def test_verify_and_about(server: Running) -> None:
    assert server.client.post("/v1/verify").json()["sound"] is True
    assert server.post("/v1/verify", sample=2).json()["sound"] is True
    about = server.client.get("/v1/about").json()
    assert (about["encoder"], about["generator"], about["k"]) == ("fake", "extractive", 4)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("search", {}, "text, image or both"),
        ("search", {"text": ""}, "text"),
        ("search", {"text": "x", "k": 0}, "k:"),
        ("search", {"text": "x", "k": "5"}, "k:"),
        ("search", {"text": "x", "k": 101}, "100"),
        ("search", {"text": "x", "kk": 5}, "kk"),
        ("search", {"text": "x", "modality": "audio"}, "modality"),
        ("search", {"text": "x", "where": "year >="}, "filter"),
        ("search", {"image": "pictures/red.png"}, "data URL"),
        ("search", {"image": "file:///etc/hostname"}, "data URL"),
        ("search", {"image": "https://example.org/cat.jpg"}, "no addresses"),
        ("search", {"image": "data:image/png;base64,"}, "can't be read"),
        ("search", {"image": "data:image/png,abc"}, "base64"),
        ("ask", {"question": "   "}, "question"),
        ("ask", {"question": "x" * 20_001}, "20000"),
        ("ask", {}, "question"),
        ("caption", {}, "image"),
        ("tell", {}, "prompt= or both"),
        ("edit", {"image": url_of("red")}, "instruction"),
        ("verify", {"sample": 0}, "sample"),
    ],
)
def test_invalid_requests(server: Running, path: str, body: dict[str, Any], words: str) -> None:
    """Each returns 400 and one sentence in the form of the OpenAI API, without the image."""
    refused = server.post(f"/v1/{path}", **body)
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert words in error["message"]
    assert len(error["message"]) < 300
    assert error["type"] == "invalid_request_error"
