"""Entries over HTTP: add, change, list, remove; uploads are re-encoded; nothing is half stored."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from PIL import Image

from ravlm.knowledge.base import KnowledgeBase
from ravlm.serving import response_schemas
from tests.helpers.fakes import COLORS, FakeEncoder
from tests.helpers.servers import Running, png, running, url_of


@pytest.fixture
def own_server(kb: Path) -> Any:
    with running(kb) as server:
        yield server


def test_add_many_get_list_and_remove(own_server: Running, kb: Path) -> None:
    rows = [
        {
            "id": "white",
            "image": url_of("white"),
            "texts": ["a white wall"],
            "metadata": {"year": 1999, "in": [1, 2]},
        },
        {"id": "a/b c?", "text": "slashes, spaces and 中文"},
        {"texts": ["an entry without an id"]},
    ]
    added = own_server.post("/v1/entries", entries=rows).json()
    assert (added["added"], added["updated"], added["quarantined"]) == (3, 0, [])
    assert added["ids"][:2] == ["white", "a/b c?"]
    again = own_server.post("/v1/entries", entries=rows[2:]).json()
    assert (again["unchanged"], again["ids"]) == (1, added["ids"][2:])
    response = own_server.client.get("/v1/entries/white").json()
    assert (response["texts"], response["metadata"]) == (
        ["a white wall"],
        {"year": 1999, "in": [1, 2]},
    )
    assert own_server.client.get(f"/v1/entries/{quote('a/b c?', safe='')}").json()["texts"] == [
        "slashes, spaces and 中文"
    ]
    assert (
        own_server.client.get(f"/v1/entries/{quote('笔记/一', safe='')}").json()["id"] == "笔记/一"
    )
    first = own_server.client.get("/v1/entries", params={"limit": 5}).json()
    second_page = own_server.client.get(
        "/v1/entries", params={"limit": 5, "after": first["next"]}
    ).json()
    assert (
        first["total"],
        len(first["entries"]),
        len(second_page["entries"]),
        second_page["next"],
    ) == (
        8,
        5,
        3,
        None,
    )
    assert (
        response_schemas.EntryPageResponse.model_validate(first, strict=True).next == first["next"]
    )
    page = own_server.client.get("/v1/entries", params={"where": "year < 2000"}).json()
    assert {entry["id"] for entry in page["entries"]} == {"white", "red"}
    assert page["total"] == 2
    assert (
        own_server.post("/v1/search", image=url_of("white"), k=1).json()["hits"][0]["id"] == "white"
    )
    assert own_server.client.delete("/v1/entries/white").json() == {"removed": 1}
    assert own_server.client.delete("/v1/entries/white").status_code == 404
    assert own_server.client.get("/v1/entries/white").status_code == 404
    assert own_server.post("/v1/entries/remove", ids=["red", "blue", "nowhere"]).json() == {
        "removed": 2,
        "missing": ["nowhere"],
    }
    assert own_server.post("/v1/search", image=url_of("red"), k=9).json()["hits"][0]["id"] != "red"
    with KnowledgeBase.open(kb, FakeEncoder()) as base:
        assert base.count() == 5
        assert base.verify().sound


def test_an_empty_base_is_served(tmp_path: Path) -> None:
    KnowledgeBase.build(tmp_path / "empty", [], FakeEncoder()).close()
    with running(tmp_path / "empty") as server:
        assert server.post("/v1/search", text="red").json() == {"hits": []}
        assert server.post("/v1/ask", question="What is red?").json()["abstained"] is True
        assert server.client.get("/v1/entries").json() == {"entries": [], "total": 0, "next": None}
        assert (
            server.post(
                "/v1/entries", id="red", image=url_of("red"), text="Name: red square"
            ).json()["added"]
            == 1
        )
        assert server.post("/v1/caption", image=url_of("red")).json()["citations"] == ["red"]


def test_patch_changes_only_the_given_fields(own_server: Running, kb: Path, tmp_path: Path) -> None:
    changed = own_server.client.patch("/v1/entries/red", json={"metadata": {"year": 1991}}).json()
    assert (changed["updated"], changed["ids"]) == (1, ["red"])
    entry = own_server.client.get("/v1/entries/red").json()
    assert entry["metadata"] == {"year": 1991}
    assert entry["texts"][0].startswith("Name: red square")
    assert own_server.post("/v1/search", image=url_of("red"), k=1).json()["hits"][0]["id"] == "red"
    own_server.client.patch("/v1/entries/red", json={"image": url_of("white")})
    assert (
        own_server.post("/v1/search", image=url_of("white"), k=1).json()["hits"][0]["id"] == "red"
    )
    assert own_server.client.get("/v1/entries/red").json()["metadata"] == {"year": 1991}
    own_server.client.put("/v1/entries/red", json={"texts": ["only words now"]})
    assert own_server.client.get("/v1/entries/red").json() == {
        "id": "red",
        "texts": ["only words now"],
        "metadata": {},
        "image_url": None,
    }
    assert own_server.client.patch("/v1/entries/nowhere", json={"texts": ["x"]}).status_code == 404
    with KnowledgeBase.open(kb, FakeEncoder()) as base:
        stored_path = base.get("green")[0].image
        assert str(stored_path).startswith(
            str(kb)
        )  # and still relative in the store: the base may be moved
    own_server.client.patch("/v1/entries/green", json={"metadata": {}})
    own_server.server.should_exit = True
    moved = kb.rename(tmp_path / "moved")
    with KnowledgeBase.open(moved, FakeEncoder()) as base:
        assert str(base.get("green")[0].image).startswith(str(moved))


def test_upload_an_image(own_server: Running) -> None:
    upload = own_server.client.put(
        "/v1/images/photo", content=png(COLORS["white"]), headers={"content-type": "image/png"}
    )
    assert upload.json()["added"] == 1
    own_server.client.patch("/v1/entries/photo", json={"texts": ["a wall"]})
    upload = own_server.client.put(
        "/v1/images/photo", content=png(COLORS["black"]), headers={"content-type": "image/png"}
    )
    assert upload.json()["updated"] == 1
    assert own_server.client.get("/v1/entries/photo").json()["texts"] == ["a wall"]
    response = own_server.client.get("/v1/images/photo")
    with Image.open(io.BytesIO(response.content)) as image:
        assert image.convert("RGB").getpixel((5, 5)) == (0, 0, 0)
    response = own_server.client.put(
        "/v1/images/other", content=b"GIF89a no picture", headers={"content-type": "image/gif"}
    )
    assert response.status_code == 400
    assert own_server.client.get("/v1/entries/other").status_code == 404


def test_uploads_are_reencoded(own_server: Running, kb: Path) -> None:
    """The location of a photo, comments and trailing data are not stored."""
    exif = Image.Exif()
    exif[0x010E] = "secret place"
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20), "red").save(buffer, "JPEG", exif=exif, comment=b"secret comment")
    data = buffer.getvalue() + b"<script>secret tail</script>"
    assert own_server.post("/v1/entries", id="photo", image=url_of(data)).status_code == 200
    with KnowledgeBase.open(kb, FakeEncoder()) as base:
        stored = Path(str(base.get("photo")[0].image)).read_bytes()
    assert b"secret" not in stored
    with Image.open(io.BytesIO(stored)) as image:
        assert (image.format, image.size) == ("JPEG", (20, 40))  # upright


def test_good_entries_of_a_bulk_are_stored(own_server: Running) -> None:
    rows = [
        {"id": "twice", "text": "one"},
        {"id": "twice", "text": "two"},
        {"id": "fine", "text": "three"},
    ]
    added = own_server.post("/v1/entries", entries=rows).json()
    assert added["added"] == 2
    assert added["ids"] == ["twice", "fine"]
    assert [item["id"] for item in added["quarantined"]] == ["twice"]
    assert "twice" in added["quarantined"][0]["reason"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"entries": []},
        {"entries": [{"id": "x"}]},
        {"entries": [{"id": " ", "text": "x"}]},
        {"entries": [{"text": "x"}] * 65},
        {"id": "x", "image": "/etc/passwd"},
        {"id": "x", "image": "../../store.sqlite"},
        {"id": "x", "image": "http://127.0.0.1/x.png"},
        {"id": "x", "image": url_of(b"PK\x03\x04")},
        {"id": "x", "text": "x", "metadata": [1]},
        {"id": "x", "text": "\ud800"},
        {"id": "x", "text": "x", "metadata": {"a": "\udfff"}},
        {"id": "x", "text": "x", "metadata": {"a": float("nan")}},
        {"id": 7, "text": "x"},
        {"entries": [{"id": "good", "text": "x"}, {"id": "bad", "image": url_of(b"none")}]},
    ],
)
def test_invalid_entries(server: Running, body: dict[str, Any]) -> None:
    """Then nothing in the request is stored."""
    response = server.client.post(
        "/v1/entries",
        content=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    assert response.status_code == 400, response.text
    assert response.json()["error"]["message"]
    assert server.client.get("/v1/entries").json()["total"] == 5


def test_ids_are_the_same_on_every_way_in_and_out(own_server: Running, kb: Path) -> None:
    """PUT /v1/images/harbour%20 answered 200 and wiped the texts and metadata of `harbour`."""
    client = own_server.client
    row = {"id": "mole", "texts": ["Name: mole"], "metadata": {"year": 1911}}
    assert own_server.post("/v1/entries", entries=[row]).json()["ids"] == ["mole"]
    headers = {"content-type": "image/png"}
    response = client.put("/v1/images/mole%20", content=png("white"), headers=headers)
    assert (response.status_code, response.json()["ids"]) == (200, ["mole "])
    kept = client.get("/v1/entries/mole").json()
    assert (kept["texts"], kept["metadata"]) == (["Name: mole"], {"year": 1911})
    assert kept["image_url"] is None
    new = client.get("/v1/entries/mole%20").json()
    assert (new["id"], new["texts"]) == ("mole ", [])
    assert client.get(new["image_url"]).headers["content-type"] == "image/jpeg"
    (new_id,) = own_server.post("/v1/entries", id=" pier ", text="a pier").json()["ids"]
    for name in (new_id, "a//b", "tail/", "/root.png", "50 %?#&+", "é\\x", "remove"):
        put = client.put(f"/v1/entries/{quote(name, safe='')}", json={"text": f"of {name}"})
        assert (put.status_code, put.json()["ids"]) == (200, [name])
        assert client.get(f"/v1/entries/{quote(name, safe='')}").json()["id"] == name
        with KnowledgeBase.open(kb, FakeEncoder()) as base:
            assert [entry.text for entry in base.get(name)] == [f"of {name}"]
        assert client.delete(f"/v1/entries/{quote(name, safe='')}").json() == {"removed": 1}


@pytest.mark.parametrize("name", ["..", "a/../b", "line\nend", "tab\t", "nul\0", "\u2028", " "])
def test_ids_that_no_address_can_name_are_refused(own_server: Running, name: str) -> None:
    response = own_server.post("/v1/entries", id=name, text="x")
    assert response.status_code in (400, 422)
    total = own_server.client.get("/v1/entries").json()["total"]
    own_server.client.put(f"/v1/entries/{quote(name, safe='')}", json={"text": "x"})
    own_server.client.put(f"/v1/images/{quote(name, safe='')}", content=png("red"))
    assert own_server.client.get("/v1/entries").json()["total"] == total


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"id": 5, "text": "a"}, "id: Input should be a valid string"),
        ({"id": "a", "text": ["a", "b"]}, "text: Input should be a valid string"),
        ({"id": "a", "txt": "b"}, 'Did you mean "text"'),
        ({"id": "x" * 501, "text": "a"}, "id: String should have at most 500 characters"),
        ({"entries": [{"id": "a", "metadata": 7}]}, "entries.0.metadata: Input should be"),
        ({"entries": [{"id": "a", "caption": "b"}]}, 'the key "caption", which is not known'),
        ({"entries": {"id": "a"}}, "entries: Input should be a valid list"),
        ({"entries": []}, "entries: List should have at least 1 item"),
        ({"id": "a", "texts": "b"}, "texts: Input should be a valid list"),
        ([{"id": "a", "text": "b"}], "The body: Input should be"),
    ],
)
def test_an_error_is_about_the_form_that_was_sent(server: Running, body: Any, message: str) -> None:
    """A single entry with a mistake got the error "entries: Field required"."""
    response = server.client.post("/v1/entries", json=body)
    assert response.status_code == 400
    assert message in response.json()["error"]["message"]


def test_regions_over_http(own_server: Running) -> None:
    """What is written on an image is added, found with its box, changed and shown."""
    line = {"text": "Oil pressure: 4.5 bar", "box": [0.1, 0.2, 0.5, 0.25], "page": 3}
    doubtful = {"text": "QX7731", "box": [0.1, 0.3, 0.5, 0.35], "page": 3, "confidence": 0.4}
    new = {"id": "manual#page=3", "image": url_of("white"), "regions": [line, doubtful]}
    assert own_server.post("/v1/entries", entries=[new]).json()["added"] == 1
    path = f"/v1/entries/{quote('manual#page=3', safe='')}"
    stored = own_server.client.get(path).json()["regions"]
    assert stored == [line | {"kind": "line"}, doubtful | {"kind": "line"}]
    (hit,) = own_server.post("/v1/search", text="QX7731", method="keyword").json()["hits"]
    assert hit["part"] == {
        "modality": "text",
        "index": 0,
        "text": "Oil pressure: 4.5 bar\nQX7731",
        "box": [0.1, 0.2, 0.5, 0.35],
        "page": 3,
    }
    assert "regions" not in hit  # a page has many
    own_server.client.patch(path, json={"metadata": {"year": 2001}})
    assert len(own_server.client.get(path).json()["regions"]) == 2
    own_server.client.patch(path, json={"regions": [line]})
    assert own_server.post("/v1/search", text="QX7731", method="keyword").json()["hits"] == []
    own_server.client.patch(path, json={"image": url_of("red")})
    assert "regions" not in own_server.client.get(path).json()  # they were of the old image
    pixels = {"text": "x", "box": [10, 20, 300, 400]}
    response = own_server.post("/v1/entries", entries=[{"id": "x", "regions": [pixels]}])
    assert response.status_code == 400
    assert "0 to 1" in response.text
