"""Conformance of entries: adding, removing, reading, maintenance, export and import."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ravlm.errors import InvalidInput, Mismatch, NotFound
from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.encoder_guard import EncoderGuard
from ravlm.knowledge.export import ExportForm
from ravlm.records import Entry
from ravlm.search.options import SearchOptions
from tests.helpers.fakes import FakeEncoder
from tests.knowledge.conformance_fixtures import Build, ConformanceFixtures, color_entries, ids


class EntryConformance(ConformanceFixtures):
    """Entries and maintenance."""

    # adding, replacing, removing

    def test_add_counts_what_it_did(
        self, base: KnowledgeBase, pictures: Path, has_keywords: bool
    ) -> None:
        again = base.add(color_entries(pictures))
        assert (again.added, again.updated, again.unchanged) == (0, 0, 6)
        changed = base.add(
            [Entry("red", None, ("now a green text",)), Entry("new", None, ("new",))]
        )
        assert (changed.added, changed.updated, changed.unchanged) == (1, 1, 0)
        assert base.count() == 7
        assert ids(base.search(text="now a green text", k=1)) == ["red"]
        assert "red" not in ids(base.search(text="red", modality="image"))
        if has_keywords:
            assert base.search(text="wall", options=SearchOptions(method="keyword")) == []
        assert base.count({"group": "walls"}) == 1

    def test_remove_means_gone_from_every_search(
        self, base: KnowledgeBase, has_keywords: bool
    ) -> None:
        assert base.remove(["flag", "green", "unknown"]) == 2
        assert base.remove("flag") == 0
        assert base.count() == 4
        assert base.get(["flag"]) == []
        assert not {"flag", "green"} & set(ids(base.search(text="red grass")))
        if has_keywords:
            assert base.search(text="grass", options=SearchOptions(method="keyword")) == []
        assert base.count({"tags": {"$exists": True}}) == 0

    def test_get_keeps_the_order_asked(self, base: KnowledgeBase, pictures: Path) -> None:
        entries = base.get(["flag", "nothing", "red", "flag"])
        assert [entry.id for entry in entries] == ["flag", "red", "flag"]
        assert entries[0] == color_entries(pictures)[4]
        assert entries[1].image == str(pictures / "red.png")

    def test_ids_are_kept_exactly(self, base: KnowledgeBase) -> None:
        """Blanks at the ends were cut on entry only: get("quay ") did not find what was added."""
        names = ["quay ", " quay", "quay", "a/b//c", "50 %?#", "港口 一"]
        report = base.add([Entry(name, None, (f"text of {name!r}",)) for name in names])
        assert report.added == 6
        assert [entry.id for entry in base.get(names)] == names
        assert [entry.text for entry in base.get("quay ")] == ["text of 'quay '"]
        assert all(name in base for name in names)
        assert "  quay" not in base
        assert base.remove("quay") == 1
        assert [name for name in names if name in base] == [n for n in names if n != "quay"]

    def test_ids_that_could_not_be_named_are_refused(self, base: KnowledgeBase) -> None:
        names = ["a\nb", "tab\t", "nul\0", "x\u2028y", "..", "a/../b", "./c", "  "]
        report = base.add([Entry(name, None, ("text",)) for name in names])
        assert report.added == 0
        reasons = [item.reason for item in report.quarantined]
        assert len(reasons) == len(names)
        assert "control character U+000A" in reasons[0]
        assert 'path segment "." or ".."' in reasons[4]
        assert "is blank" in reasons[7]

    def test_numbers_as_ids(self, base: KnowledgeBase) -> None:
        """pandas and NumPy give 7.0 and int64(8); both are the ids that were meant."""
        entries = [Entry(7.0, None, ("a",)), Entry(np.int64(8), None, ("b",))]  # type: ignore[arg-type]
        base.add(entries)
        assert [entry.text for entry in base.get([7, "8"])] == ["a", "b"]  # type: ignore[list-item]
        assert base.remove([7.0, 8.0]) == 2  # type: ignore[list-item]

    def test_length_and_membership(self, base: KnowledgeBase) -> None:
        assert len(base) == 6
        assert "red" in base
        assert "unknown" not in base
        base.remove("red")
        assert len(base) == 5
        assert "red" not in base

    def test_pages_show_every_entry_once(self, base: KnowledgeBase) -> None:
        pages = [base.page(4)]
        pages.append(base.page(4, pages[0].next))
        assert [len(page.entries) for page in pages] == [4, 2]
        assert pages[1].next == ""
        entries = [entry for page in pages for entry in page.entries]
        assert {entry.id for entry in entries} == {"red", "green", "blue", "disc", "flag", "橘猫"}
        assert base.get([entry.id for entry in entries]) == entries
        assert base.page(100).entries == tuple(entries)
        first = base.page(1, where={"split": "test"})
        second = base.page(1, first.next, {"split": "test"})
        assert {first.entries[0].id, second.entries[0].id} == {"green", "disc"}
        assert second.next == ""

    @pytest.mark.parametrize(("n", "after"), [(0, ""), (1, "nowhere"), (1, "-1"), (1, "9' OR 1=1")])
    def test_pages_that_are_refused(self, base: KnowledgeBase, n: int, after: str) -> None:
        with pytest.raises(InvalidInput):
            base.page(n, after)

    def test_a_search_by_another_handle_sees_the_change(
        self, base: KnowledgeBase, reopen: Callable[[], KnowledgeBase]
    ) -> None:
        reader = reopen()
        assert len(reader.search(text="red")) == 6
        base.add([Entry("late", None, ("a red latecomer",))])
        assert ids(reader.search(text="a red latecomer", k=1)) == ["late"]
        reader.remove(["late"])
        assert "late" not in ids(base.search(text="a red latecomer"))
        assert base.count() == 6

    def test_empty_base(self, build: Build, has_keywords: bool) -> None:
        base = build([])
        assert base.count() == 0
        assert base.search(text="red") == base.get(["x"]) == base.sample(3, "text") == []
        if has_keywords:
            assert base.search(text="red", options=SearchOptions(method="hybrid")) == []
        assert base.verify().sound

    def test_sample(self, base: KnowledgeBase, fake_encoder: FakeEncoder) -> None:
        sample = base.sample(3, "text", seed=1)
        assert len({entry.id + part.text for entry, part, _ in sample}) == 3
        for _, part, vector in sample:
            assert vector @ fake_encoder.encode_texts([part.text])[0] == pytest.approx(
                1.0, abs=2e-3
            )
        assert [e.id for e, _, _ in base.sample(3, "text", seed=1)] == [e.id for e, _, _ in sample]
        assert len(base.sample(99, "image")) == 4

    # resuming, duplicates, maintenance

    def test_build_resumes_an_existing_base(
        self, base: KnowledgeBase, build: Build, pictures: Path
    ) -> None:
        again = build(
            [
                *color_entries(pictures),
                Entry("red", None, ("not this",)),
                Entry("new", None, ("new",)),
            ]
        )
        assert (again.report.added, again.report.unchanged, len(again.quarantine)) == (1, 6, 1)
        assert base.get("red")[0].text == "a red wall"
        assert base.count() == 7

    def test_an_interrupted_build_ends_as_a_single_run(self, build: Build) -> None:
        entries = [Entry(f"e{i}", None, (f"text {i}",)) for i in range(400)]

        def interrupted() -> Iterator[Entry]:
            yield from entries[:330]
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            build(interrupted())
        base = build(entries)
        assert base.report.unchanged > 0
        assert base.report.added == 400 - base.report.unchanged
        assert [entry.id for entry in base.get([e.id for e in entries])] == [e.id for e in entries]
        assert base.verify().sound

    def test_an_empty_build_is_discarded(self, build: Build, location: Path | str) -> None:
        def broken() -> Iterator[Entry]:
            raise NotFound("the source is gone")
            yield

        with pytest.raises(NotFound, match="the source is gone"):
            build(broken())
        assert not KnowledgeBase.exists(location)
        assert build([]).discard()
        assert not KnowledgeBase.exists(location)
        with pytest.raises(NotFound, match="ravlm build"):
            KnowledgeBase.open(location)

    def test_duplicates_are_skipped(self, base: KnowledgeBase, pictures: Path) -> None:
        copy = Entry("copy", (pictures / "red.png").read_bytes())
        report = base.add(
            [copy, Entry("words", None, ("a red flag", "it is blue too"))], deduplicate="exact"
        )
        assert (report.added, dict(report.duplicates)) == (0, {"copy": "red", "words": "flag"})

    def test_optimize_and_compact_change_no_answer(self, base: KnowledgeBase) -> None:
        base.remove(["green"])
        before = [(hit.entry.id, hit.part) for hit in base.search(text="a red flag")]
        base.optimize()
        base.compact()
        assert [(hit.entry.id, hit.part) for hit in base.search(text="a red flag")] == before
        assert base.verify().sound

    def test_info(self, base: KnowledgeBase) -> None:
        info = base.info()
        assert (info.entries, info.parts, info.dim) == (6, {"image": 4, "text": 6}, 64)
        assert (info.encoder, info.change) == ("fake", base.change)
        base.remove("flag")
        assert base.change != info.change
        assert base.info().parts == {"image": 4, "text": 4}
        assert base.derived_folder.name

    def test_image_vectors(
        self, base: KnowledgeBase, pictures: Path, fake_encoder: FakeEncoder
    ) -> None:
        vectors = base.image_vectors(["red", "flag", "nobody"])
        assert list(vectors) == ["red"]
        assert vectors["red"] @ fake_encoder.encode_images([pictures / "red.png"])[
            0
        ] == pytest.approx(1.0, abs=2e-3)

    def test_verify_finds_what_differs(self, base: KnowledgeBase, pictures: Path) -> None:
        (pictures / "red.png").unlink()
        findings = base.verify().findings
        assert any('"red"' in finding and "gone" in finding for finding in findings)

        class Drifted(FakeEncoder):
            def encode_texts(
                self, texts: object, batch_size: int = 64, role: str = "document"
            ) -> np.ndarray:
                return super().encode_texts([f"{text} drift" for text in texts])  # type: ignore[attr-defined]

        base._guard = EncoderGuard(base._backend, Drifted())
        assert not base.verify().sound
        with pytest.raises(Mismatch, match="canary"):
            base.search(text="red")

    def test_another_encoder_is_refused(self, base: KnowledgeBase, location: Path | str) -> None:
        with pytest.raises(Mismatch, match=r'"fake".*"other".*ravlm reencode'):
            KnowledgeBase.open(location, FakeEncoder("other", seed=1))

    def test_reencode_swaps_all_at_once(
        self, base: KnowledgeBase, reopen: Callable[[], KnowledgeBase], location: Path | str
    ) -> None:
        new_encoder = FakeEncoder("other", seed=3)
        stale = reopen()
        before = sorted(ids(base.search(text="red")))
        calls: list[tuple[int, int]] = []
        base.reencode(new_encoder, progress=lambda *counts: calls.append(counts))
        assert calls[-1] == (6, 6)
        assert base.info().fingerprint == new_encoder.fingerprint
        assert base.verify().sound
        assert sorted(ids(base.search(text="red"))) == before
        assert ids(base.search(text="red", where="year = 1990")) == ["red"]
        for use in (
            lambda: stale.search(text="red"),
            lambda: stale.add([Entry("n", None, ("n",))]),
        ):
            with pytest.raises(Mismatch, match="Open it again"):
                use()
        with KnowledgeBase.open(location, new_encoder) as again:
            assert ids(again.search(text="red", modality="image", k=1)) == ["red"]

    def test_reencode_refuses_vectors_without_content(self, base: KnowledgeBase) -> None:
        base.add([Entry("bare")], vectors={"image": np.ones((1, 64))})
        with pytest.raises(InvalidInput, match='"bare" was precomputed'):
            base.reencode(FakeEncoder("other", seed=3))
        assert ids(base.search(text="red", modality="image", k=1)) == ["red"]

    @pytest.mark.parametrize("form", ["files", "webdataset"])
    def test_export_and_import_carry_everything_over(
        self,
        base: KnowledgeBase,
        empty: Callable[[FakeEncoder], KnowledgeBase],
        tmp_path: Path,
        form: ExportForm,
    ) -> None:
        base.add([Entry("clash", None, ("text",), {"text": "metadata of its own", "id": 3})])
        base.add([Entry("given", None, ("one", "two"))], vectors={"text": np.ones((1, 64))})
        report = base.export_to(tmp_path / "out", form, shard_size=3)
        assert (report.entries, report.parts, report.missing) == (8, 12, ())
        copy = empty(FakeEncoder())
        copy._guard = EncoderGuard(copy._backend, None)  # encoding would fail: no such encoder
        assert copy.import_from(tmp_path / "out").added == 8
        assert copy.import_from(tmp_path / "out").updated == 8
        copy._guard.trust(FakeEncoder())
        assert copy.verify().sound
        names = ["red", "green", "blue", "disc", "flag", "橘猫", "clash", "given"]
        for one, two in zip(base.get(names), copy.get(names), strict=True):
            assert (one.id, one.texts, one.metadata) == (two.id, two.texts, two.metadata)
        for query in ({"text": "red"}, {"vector": np.ones(64)}):
            hits, again = base.search(**query), copy.search(**query)  # type: ignore[arg-type]
            assert {(h.entry.id, h.part) for h in hits} == {(h.entry.id, h.part) for h in again}
            assert [h.score for h in hits] == pytest.approx([h.score for h in again], abs=1e-3)

    # precomputed vectors

    def test_given_vectors_that_are_refused(self, base: KnowledgeBase) -> None:
        entry = Entry("v", None, ("text",))
        with pytest.raises(Mismatch, match="63 dimensions"):
            base.add([entry], vectors={"text": np.ones((1, 63))})
        with pytest.raises(InvalidInput, match=r"need shape \(1, 64\)"):
            base.add([entry], vectors={"text": np.ones((2, 64))})
        with pytest.raises(InvalidInput, match="allowed: image, text"):
            base.add([entry], vectors={"texts": np.ones((1, 64))})
        with pytest.raises(InvalidInput, match="must be a list"):
            base.add(iter([entry]), vectors={"text": np.ones((1, 64))})
        report = base.add(
            [entry, Entry("w", None, ("w",))], vectors={"text": [np.ones(64), np.full(64, np.nan)]}
        )
        assert report.added == 1
        assert "no direction" in report.quarantined[0].reason
        assert base.get(["w"]) == []

    def test_given_vectors_stand_for_the_entry(
        self, base: KnowledgeBase, has_keywords: bool
    ) -> None:
        rng = np.random.default_rng(0)
        rows = rng.standard_normal((2, 64))
        base.add(
            [Entry("a", None, ("one", "two")), Entry("b", None, ("three",))], vectors={"text": rows}
        )
        hit = base.search(vector=rows[0], k=1)[0]
        assert (hit.entry.id, hit.part.index, hit.part.text) == ("a", 0, "one")
        assert hit.score == pytest.approx(1.0, abs=2e-3)
        if has_keywords:
            assert ids(base.search(text="two", options=SearchOptions(method="keyword"))) == ["a"]
        assert base.verify().sound
