"""`ravlm mcp`, called by the official client over pipes: each tool, its errors, its limits."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters, stdio_client
from PIL import Image

from ravlm.knowledge.base import KnowledgeBase
from ravlm.model import RetrievalAugmentedVLM
from ravlm.records import Edit, Entry
from ravlm.serving.mcp import create_mcp_server
from ravlm.serving.state import ServedModel
from tests.helpers.fakes import COLORS, FakeEncoder
from tests.helpers.servers import url_of
from tests.serving.test_server import MAIN_WITH_FAKE_ENCODER

READING = {
    "search",
    "ask",
    "caption",
    "tell",
    "edit",
    "get_entry",
    "list_entries",
    "about",
    "verify",
}
ROOT = Path(__file__).resolve().parents[2]


def test_over_stdio(kb: Path) -> None:
    """The process as a client starts it: its tools, an answer, an error."""
    import os

    async def talk() -> tuple[set[str], Any, Any]:
        parameters = StdioServerParameters(
            command=sys.executable,
            args=["-c", MAIN_WITH_FAKE_ENCODER, "mcp", str(kb)],
            cwd=ROOT,
            env=dict(os.environ),
        )
        async with Client(stdio_client(parameters)) as client:
            tools = (await client.list_tools()).tools
            assert all(tool.description and tool.annotations.read_only_hint for tool in tools)  # type: ignore[union-attr]
            answer = await client.call_tool(
                "ask", {"question": "What size is it?", "image": url_of("red")}
            )
            error = await client.call_tool("search", {"text": "x", "where": "year >="})
            return {tool.name for tool in tools}, answer, error

    names, answer, error = asyncio.run(talk())
    assert names == READING
    assert answer.structured_content["text"] == "12 cm"
    assert answer.structured_content["citations"][0] == "red"
    assert error.is_error
    assert "filter" in error.content[0].text


def test_filters_that_models_write(kb: Path) -> None:
    """{"year": {"$gte": 2000}} found nothing, silently, and a mapping was refused as no text."""
    mapping = {"year": {"$gte": 2000}}
    results = call(
        kb,
        ("search", {"text": "square", "where": mapping}),
        ("search", {"text": "square", "where": json.dumps(mapping)}),
        ("search", {"text": "square", "where": "year >= 2000"}),
        ("search", {"text": "square", "where": {"yaer": 2000}}),
        ("list_entries", {"where": {"year": {"$gt": 1e9}}}),
    )
    ids = [[hit["id"] for hit in r.structured_content["hits"]] for r in results[:3]]
    assert ids[0]
    assert ids[0] == ids[1] == ids[2]
    assert results[3].is_error
    assert 'Did you mean "year"?' in results[3].content[0].text
    assert results[4].structured_content["entries"] == []


def call(kb: Path, *calls: tuple[str, dict[str, Any]], **settings: Any) -> list[Any]:
    async def talk() -> list[Any]:
        served_model = ServedModel(kb, encoder=FakeEncoder())
        async with Client(create_mcp_server(served_model, **settings)) as client:
            results = [await client.call_tool(name, arguments) for name, arguments in calls]
        served_model.close()
        return results

    return asyncio.run(talk())


def test_each_tool(kb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def edit(self: Any, image: Image.Image, instruction: str) -> Any:
        return Edit(
            image=Image.new("RGB", image.size), region=None, evidence=(), understood=instruction
        )

    monkeypatch.setattr(RetrievalAugmentedVLM, "edit", edit, raising=False)
    results = call(
        kb,
        ("search", {"image": "entry:blue", "k": 2, "where": "year > 2000"}),
        ("caption", {"image": url_of("green")}),
        ("tell", {"prompt": "the blue square"}),
        ("get_entry", {"id": "笔记/一"}),
        ("list_entries", {"limit": 2}),
        ("about", {}),
        ("verify", {}),
        ("edit", {"image": "entry:red", "instruction": "make it blue"}),
    )
    assert [result.is_error for result in results] == [False] * 8
    data = [result.structured_content for result in results]
    assert [hit["id"] for hit in data[0]["hits"]] == ["blue", "green"]
    assert data[0]["hits"][0]["image_url"] == "entry:blue"
    assert "green" in data[1]["text"]
    assert "20 cm" in data[2]["text"]
    assert data[3]["texts"] == ["一只毛茸茸的橘猫"]
    assert (len(data[4]["entries"]), data[4]["next"]) == (2, "2")
    assert data[5] == {"entries": 5, "encoder": "fake", "generator": "default"}
    assert data[6]["sound"] is True
    assert json.loads(results[7].content[0].text) == {
        "understood": "make it blue",
        "changed": 0.0,
        "evidence": [],
    }
    assert results[7].content[1].mime_type == "image/png"


def pictures_of(result: Any) -> list[tuple[str, tuple[int, int, int]]]:
    """Return the reference before each image, and its mean color, in tens."""
    pairs = []
    for before, part in zip(result.content, result.content[1:], strict=False):
        if part.type == "image":
            assert part.mime_type == "image/jpeg"
            with Image.open(io.BytesIO(base64.b64decode(part.data))) as image:
                pixel = image.convert("RGB").resize((1, 1)).getpixel((0, 0))
            pairs.append((before.text, tuple(round(channel, -1) for channel in pixel)))
    return pairs


def test_results_show_their_images(kb: Path) -> None:
    """A model that reads images got references only."""
    with KnowledgeBase.open(kb, FakeEncoder()) as base:
        base.add([Entry("web", "http://127.0.0.1:9/never-fetched.png", ("red web",))])
    results, entry, note = call(
        kb,
        ("search", {"image": url_of("red"), "k": 3}),
        ("get_entry", {"id": "blue"}),
        ("get_entry", {"id": "note"}),
    )
    ids = [hit["id"] for hit in results.structured_content["hits"]]
    colors = {name: tuple(round(c, -1) for c in COLORS[name]) for name in ("red", "green", "blue")}
    assert ids[0] == "red"
    assert pictures_of(results) == [
        (f"The image entry:{name}:", colors[name]) for name in ids if name in colors
    ]
    assert json.loads(results.content[0].text) == results.structured_content
    assert pictures_of(entry) == [("The image entry:blue:", colors["blue"])]
    assert entry.structured_content["texts"][0].startswith("Name: blue square")
    assert pictures_of(note) == []


def test_images_are_resources(kb: Path) -> None:
    odd = "下载/a b"
    with KnowledgeBase.open(kb, FakeEncoder()) as base:
        base.add([Entry(odd, base.get("green")[0].image, ("odd",))])

    async def talk() -> list[Any]:
        served_model = ServedModel(kb, encoder=FakeEncoder())
        async with Client(create_mcp_server(served_model)) as client:
            (template,) = (await client.list_resource_templates()).resource_templates
            assert (template.uri_template, template.mime_type) == ("entry:{+id}", "image/jpeg")
            names = ("red", odd, quote(odd, safe=""))
            contents = [(await client.read_resource(f"entry:{n}")).contents[0] for n in names]
            with pytest.raises(MCPError, match="has no image"):
                await client.read_resource("entry:note")
        served_model.close()
        return contents

    contents = asyncio.run(talk())
    for content, color in zip(contents, ("red", "green", "green"), strict=True):
        with Image.open(io.BytesIO(base64.b64decode(content.blob))) as image:
            pixel = image.resize((1, 1)).getpixel((0, 0))
        assert np.allclose(pixel, COLORS[color], atol=4)


def test_search_options(kb: Path) -> None:
    results = call(
        kb,
        ("search", {"text": "fluffy orange cat", "method": "keyword"}),
        ("search", {"image": url_of("blue"), "min_score": 0.95}),
        ("search", {"image": url_of("blue"), "group_by": "kind", "rerank": "exact"}),
        ("search", {"text": "red", "method": "semantic"}),
    )
    ids = [[hit["id"] for hit in one.structured_content["hits"]] for one in results[:3]]
    assert ids[0] == ["note"]
    assert ids[1] == ["blue"]
    assert ids[2][0] == "blue"
    assert results[3].is_error


def test_a_text_is_added(kb: Path) -> None:
    """add_entry(text=...), the key that HTTP and files take, was an error."""
    added, got = call(
        kb,
        ("add_entry", {"id": "gull", "text": "Name: gull", "texts": ["It eats fish."]}),
        ("get_entry", {"id": "gull"}),
        allow_changes=True,
    )
    assert added.structured_content == {"id": "gull", "replaced": False}
    assert got.structured_content["texts"] == ["Name: gull", "It eats fish."]


def test_changes_only_if_allowed(kb: Path) -> None:
    adding = ("add_entry", {"id": "new", "texts": ["a white wall"], "image": url_of("white")})
    removing = ("remove_entries", {"ids": ["new", "red", "nowhere"]})
    for refused in call(kb, adding, removing):
        assert refused.is_error
    added, results, removed = call(
        kb, adding, ("search", {"image": url_of("white"), "k": 1}), removing, allow_changes=True
    )
    assert added.structured_content == {"id": "new", "replaced": False}
    assert results.structured_content["hits"][0]["id"] == "new"
    assert removed.structured_content == {"removed": 2, "missing": ["nowhere"]}


def test_files_of_the_shared_folder_only(kb: Path, pictures: Path, tmp_path: Path) -> None:
    """A model that is tricked into reading another file of its user gets an error."""
    (tmp_path / "private.png").write_bytes((pictures / "red.png").read_bytes())
    (pictures / "link.png").symlink_to(tmp_path / "private.png")
    outside = ["../private.png", str(tmp_path / "private.png"), "link.png", "nowhere.png", "", "."]
    for result in call(
        kb, *(("caption", {"image": name}) for name in outside), image_folder=pictures
    ):
        assert result.is_error
    inside, answer = call(
        kb,
        ("caption", {"image": "blue.png"}),
        ("search", {"image": str(pictures / "red.png"), "k": 1}),
        image_folder=pictures,
    )
    assert "blue" in inside.structured_content["text"]
    assert answer.structured_content["hits"][0]["id"] == "red"
    (refused,) = call(kb, ("caption", {"image": str(pictures / "red.png")}))
    assert "--images" in refused.content[0].text


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("search", {}, "no query"),
        ("ask", {"question": " "}, "empty"),
        ("ask", {"question": "What?", "k": 101}, "100"),
        ("tell", {}, "nothing to tell"),
        ("get_entry", {"id": "nowhere"}, "nowhere"),
        ("caption", {"image": "entry:note"}, "no image"),
        ("caption", {"image": "data:image/png;base64,AAAA"}, "formats"),
        ("list_entries", {"limit": 0}, "at least 1"),
    ],
)
def test_invalid_calls(kb: Path, name: str, arguments: dict[str, Any], words: str) -> None:
    (refused,) = call(kb, (name, arguments))
    assert refused.is_error
    assert words in refused.content[0].text
