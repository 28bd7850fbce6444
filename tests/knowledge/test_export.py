"""Export and import preserve a base."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ravlm.data.readers import read_entries
from ravlm.errors import BrokenData, InvalidInput, Mismatch, NotFound
from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.encoder_guard import EncoderGuard
from ravlm.records import Entry
from ravlm.search.options import SearchOptions
from tests.helpers.fakes import FakeEncoder
from tests.knowledge.conformance import color_entries

KEYWORD = SearchOptions(method="keyword")


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Callable[..., KnowledgeBase]]:
    bases: list[KnowledgeBase] = []

    def make(encoder: FakeEncoder | None = None) -> KnowledgeBase:
        bases.append(
            KnowledgeBase.build(
                tmp_path / f"empty{len(bases)}", [], encoder=encoder or FakeEncoder()
            )
        )
        return bases[-1]

    yield make
    for base in bases:
        base.close()


def test_export_and_import_carry_everything_over(
    base: KnowledgeBase, empty: Callable[..., KnowledgeBase], tmp_path: Path, pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    base.add([Entry("clash", None, ("text",), {"text": "metadata of its own", "id": 3})])
    report = base.export_to(tmp_path / "out" / "export")
    assert (report.entries, report.parts, report.missing) == (8, 12, ())
    names = [entry.id for entry in color_entries(pictures)] + ["given", "clash"]
    for picture in pictures.iterdir():
        picture.unlink()
    copy, encoder = empty(), FakeEncoder()
    copy._guard = EncoderGuard(copy._backend, None)  # encoding would fail: no such encoder
    assert copy.import_from(tmp_path / "out" / "export").added == 8
    assert copy.import_from(tmp_path / "out" / "export").updated == 8
    assert copy.count() == 8
    copy._guard.trust(encoder)
    assert copy.verify().sound
    for one, two in zip(base.get(names), copy.get(names), strict=True):
        assert (one.id, one.texts, one.metadata) == (two.id, two.texts, two.metadata)
    assert Path(str(copy.get("red")[0].image)).is_relative_to(copy.path)
    for query in ({"text": "red"}, {"text": "flag", "options": KEYWORD}, {"vector": np.ones(64)}):
        hits, again = base.search(**query), copy.search(**query)  # type: ignore[arg-type]
        assert [(h.entry.id, h.part, h.score) for h in hits] == [
            (h.entry.id, h.part, h.score) for h in again
        ]


def test_metadata_named_regions_survive_an_older_export(
    base: KnowledgeBase, empty: Callable[..., KnowledgeBase], tmp_path: Path
) -> None:
    """Exports from before regions have such metadata as a key of the row; it was dropped."""
    base.add([Entry("old", None, ("text",), {"regions": ["Asia", "Peru"], "year": 1990})])
    base.export_to(tmp_path / "out")
    file = tmp_path / "out" / "entries.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows = [row.pop("metadata", {}) | row for row in rows]  # as they were written
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    copy = empty()
    assert copy.import_from(tmp_path / "out").added == 8
    assert copy.get("old")[0].metadata == {"regions": ["Asia", "Peru"], "year": 1990}


def test_an_export_can_be_read_as_a_source(base: KnowledgeBase, tmp_path: Path) -> None:
    base.export_to(tmp_path / "export")
    entries = {entry.id: entry for entry in read_entries(tmp_path / "export" / "entries.jsonl")}
    assert entries["flag"].texts == ("a red flag", "it is blue too")
    assert entries["red"].metadata == {"split": "train", "year": 1990, "group": "walls"}
    assert Path(str(entries["disc"].image)).is_file()


def test_import_into_a_base_of_another_encoder(
    base: KnowledgeBase, empty: Callable[..., KnowledgeBase], tmp_path: Path
) -> None:
    base.export_to(tmp_path / "with given")
    target = empty(FakeEncoder("other", seed=5))
    with pytest.raises(Mismatch, match='of the encoder "fake", but this base uses "other"'):
        target.import_from(tmp_path / "with given")
    base.remove(["given"])
    base.export_to(tmp_path / "without")
    assert target.import_from(tmp_path / "without").added == 6
    assert target.verify().sound


def test_export_lists_missing_images(base: KnowledgeBase, tmp_path: Path, pictures: Path) -> None:
    (pictures / "red.png").unlink()
    assert base.export_to(tmp_path / "export").missing == (str(pictures / "red.png"),)
    with pytest.raises(InvalidInput, match="exists already"):
        base.export_to(tmp_path / "export")


def test_import_takes_only_what_export_wrote(
    base: KnowledgeBase, tmp_path: Path, pictures: Path
) -> None:
    with pytest.raises(NotFound, match="There is no folder"):
        base.import_from(tmp_path / "nothing")
    with pytest.raises(InvalidInput, match="use add"):
        base.import_from(pictures)
    base.export_to(tmp_path / "export")
    lines = (tmp_path / "export" / "parts.jsonl").read_text().splitlines()
    (tmp_path / "export" / "parts.jsonl").write_text("\n".join(lines[1:]) + "\n")
    with pytest.raises(BrokenData, match="export again"):
        base.import_from(tmp_path / "export")
    manifest = json.loads((tmp_path / "export" / "manifest.json").read_text())
    (tmp_path / "export" / "manifest.json").write_text(json.dumps({**manifest, "format": 9}))
    with pytest.raises(Mismatch, match="format 9"):
        base.import_from(tmp_path / "export")
    assert base.verify().sound
