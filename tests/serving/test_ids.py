"""Ids over MCP and across all ways in: what one writes, every other reads."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from PIL import Image

from ravlm import read_entries
from ravlm.knowledge.base import KnowledgeBase
from tests.helpers.fakes import FakeEncoder
from tests.helpers.servers import running
from tests.serving.test_mcp import call


def test_ids_over_mcp(kb: Path) -> None:
    """A tool stored " quay " as "quay", and the id in its result did not exist."""
    added, got, refused, removed, left = call(
        kb,
        ("add_entry", {"id": " quay ", "texts": ["Name: quay"]}),
        ("get_entry", {"id": " quay "}),
        ("add_entry", {"id": "a\nb", "texts": ["x"]}),
        ("remove_entries", {"ids": ["quay"]}),
        ("get_entry", {"id": " quay "}),
        allow_changes=True,
    )
    assert added.structured_content == {"id": " quay ", "replaced": False}
    assert got.structured_content["texts"] == ["Name: quay"]
    assert refused.is_error
    assert "control character U+000A" in refused.content[0].text
    assert removed.structured_content["removed"] == 0
    assert left.structured_content["id"] == " quay "


def test_ids_of_a_folder(kb: Path, tmp_path: Path) -> None:
    """Paths of files are ids; each is read back over HTTP, or named in quarantine."""
    names = ["a b.png", " c.png", "d.png ", "100 %.png", "e#?.png", "更多/f.png", "line\nend.png"]
    for name in names:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "red").save(path, "PNG")
    stream = read_entries(tmp_path / "photos")
    with KnowledgeBase.open(kb, FakeEncoder()) as base:
        report = base.add(stream)
    assert report.added == len(names) - 1
    (item,) = report.quarantined
    assert "control character" in item.reason
    with running(kb) as server:
        for name in names[:-1]:
            entry = server.client.get(f"/v1/entries/{quote(name, safe='')}").json()
            assert entry["id"] == name
            assert server.client.get(entry["image_url"]).status_code == 200
