"""Images that came as bytes: a base keeps the only copy, wherever its folder is moved."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image

from ravlm.errors import Busy
from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.local import maintenance, readers
from ravlm.records import Entry
from tests.helpers.fakes import FakeEncoder

COLORS = {"GIF": (250, 120, 0), "WEBP": (90, 0, 160), "TIFF": (0, 90, 90)}


def encoded(form: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (24, 36), COLORS[form]).save(buffer, form)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A base of three images given as bytes, one of which is in two entries."""
    entries = [Entry(form, encoded(form), (form,)) for form in COLORS]
    entries.append(Entry("copy", encoded("GIF"), ("the same",)))
    KnowledgeBase.build(tmp_path / "kb", entries, encoder=FakeEncoder()).close()
    return tmp_path / "kb"


def reopened(folder: Path, way: str) -> KnowledgeBase:
    """Open the base from where its stored paths do not lead, or lead by another name."""
    other = folder.with_name(way)
    if way == "moved":
        folder.rename(other)
    elif way == "linked":
        other.symlink_to(folder)
    else:
        other = folder
    return KnowledgeBase.open(other, FakeEncoder())


def contents(base: KnowledgeBase) -> dict[str, bytes]:
    return {e.id: Path(str(e.image)).read_bytes() for e in base.get([*COLORS, "copy"])}


@pytest.mark.parametrize("way", ["moved", "linked", "same"])
@pytest.mark.parametrize("read_through_link", [False, True])
def test_compact_keeps_the_only_copy(folder: Path, way: str, read_through_link: bool) -> None:
    """An entry that was read and added again stored the absolute path of the base's own image.

    After the folder was moved, or opened through a link, no entry seemed to refer to the file."""
    link = folder.with_name("reader")
    link.symlink_to(folder)
    with KnowledgeBase.open(link if read_through_link else folder, FakeEncoder()) as base:
        for form in ("WEBP", "TIFF"):
            (entry,) = base.get([form])
            report = base.add([Entry(form, entry.image, (form, "more"))])
            assert report.updated == 1
            assert base.add(base.get([form])).unchanged == 1
        base.remove(["GIF"])  # its image is in "copy", too
    with reopened(folder, way) as base:
        base.compact()
        expected = {form: encoded(form) for form in COLORS if form != "GIF"}
        assert contents(base) == {**expected, "copy": encoded("GIF")}
        assert base.verify().sound
        base.remove(["copy"])
        base.compact()
        assert len(list((base.path / "pictures").glob("*/*"))) == 2


@pytest.mark.parametrize("way", ["moved", "linked", "same"])
def test_compact_makes_stored_absolute_paths_relative(folder: Path, way: str) -> None:
    """Bases of earlier versions have them."""
    with sqlite3.connect(folder / "store.sqlite") as db:
        db.execute("UPDATE entry SET image = ? || '/' || image", (str(folder),))
    db.close()
    with reopened(folder, way) as base:
        base.optimize()
        base.compact()
        assert contents(base)["TIFF"] == encoded("TIFF")
        assert base.verify().sound
        hit = base.search(text="TIFF", k=1)[0]
        assert Path(str(hit.entry.image)).is_relative_to(base.path)


def test_an_entry_of_another_base_brings_its_image(folder: Path) -> None:
    """The other base referred to the file of the first one, which removed it."""
    with KnowledgeBase.open(folder, FakeEncoder()) as base:
        other = KnowledgeBase.build(folder.with_name("kb2"), base.get(COLORS), FakeEncoder())
        base.remove(list(COLORS))
        base.remove(["copy"])
        base.compact()
        base.close()
    assert {e.id: Path(str(e.image)).read_bytes() for e in other.get(COLORS)} == {
        form: encoded(form) for form in COLORS
    }
    other.close()


def test_a_file_that_is_not_named_by_its_content_is_referred_to(tmp_path: Path) -> None:
    """An image of the user in a folder of the same form is not copied."""
    folder = tmp_path / "pictures" / "ab"
    folder.mkdir(parents=True)
    path = folder / f"ab{'0' * 62}.tiff"
    path.write_bytes(encoded("TIFF"))
    with KnowledgeBase.build(tmp_path / "kb", [Entry("a", path)], FakeEncoder()) as base:
        assert base.get("a")[0].image == str(path)
        base.compact()
    assert path.exists()


def test_an_image_is_written_again_if_it_was_removed_meanwhile(folder: Path) -> None:
    """It is read before another process removes its last entry, and stored afterwards."""

    class Removing(FakeEncoder):
        def encode_images(self, images, batch_size=32, role="document"):  # type: ignore[no-untyped-def]
            with KnowledgeBase.open(folder) as other:
                other.remove(["TIFF"])
                other.compact()
            return super().encode_images(images, batch_size)

    with KnowledgeBase.open(folder, FakeEncoder()) as base:
        (entry,) = base.get(["TIFF"])
        base._guard.trust(Removing())
        base.add([Entry("again", entry.image, ("again",))])
        (again,) = base.get(["again"])
        assert Path(str(again.image)).read_bytes() == encoded("TIFF")


def test_files_of_the_user_are_not_deleted(folder: Path) -> None:
    """`compact` removed every file in the folder of images that no entry refers to."""
    notes = folder / "pictures" / "notes.txt"
    notes.write_text("mine")
    with KnowledgeBase.open(folder, FakeEncoder()) as base:
        base.remove(list(COLORS))
        base.compact()
    assert notes.read_text() == "mine"
    assert len(list((folder / "pictures").glob("*/*"))) == 1


def test_images_are_removed_after_the_commit_of_compact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process was killed while it committed entries with images. Nobody saw them, `compact`
    removed their images and was killed before its own commit; when the base was opened again the
    entries were there, without their images (found by tests/helpers/soak.py)."""
    image = encoded("GIF")
    with KnowledgeBase.build(tmp_path / "kb", [Entry("a", image)], FakeEncoder()) as base:
        remove, change = maintenance.remove_unreferenced, base.change

        def remove_late(folder: Path, references: Iterable[str]) -> None:
            with KnowledgeBase.open(folder, FakeEncoder()) as other:
                assert other.change == change + 1  # the commit is seen by others
                with monkeypatch.context() as patch:
                    patch.setattr(readers, "WAIT_SECONDS", 0.05)
                    with pytest.raises(Busy, match="adding or removing images"):
                        other.add([Entry("b", image)])
                    other.add([Entry("c", None, ("without an image",))])
            remove(folder, references)

        monkeypatch.setattr(maintenance, "remove_unreferenced", remove_late)
        base.compact()
        assert {entry.id for entry in base.get(["a", "b", "c"])} == {"a", "c"}
        assert base.verify().sound
