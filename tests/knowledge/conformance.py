"""The conformance test of all knowledge-base backends.

A backend subclasses `Conformance` and provides locations for its bases.

Vectors of the fake encoder can be read: red pictures and the word "red" lie together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ravlm.errors import InvalidInput, Mismatch, NotFound
from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.encoder_guard import EncoderGuard
from ravlm.knowledge.export import ExportForm
from ravlm.records import Entry, Hit
from ravlm.search.options import SearchOptions
from tests.helpers.fakes import FakeEncoder

Build = Callable[[Iterable[Entry]], KnowledgeBase]


def ids(hits: list[Hit]) -> list[str]:
    return [hit.entry.id for hit in hits]


def color_entries(pictures: Path) -> list[Entry]:
    """Two entries with image and text, two with an image, two with texts."""
    return [
        Entry(
            "red",
            pictures / "red.png",
            ("a red wall",),
            {"split": "train", "year": 1990, "group": "walls"},
        ),
        Entry(
            "green",
            pictures / "green.png",
            ("a green meadow", "grass"),
            {"split": "test", "year": 2001},
        ),
        Entry("blue", str(pictures / "blue.png"), (), {"split": "train", "group": "walls"}),
        Entry("disc", (pictures / "disc.jpg").read_bytes(), (), {"split": "test"}),
        Entry(
            "flag",
            None,
            ("a red flag", "it is blue too"),
            {"split": "train", "tags": ["cloth", "sign"]},
        ),
        Entry("橘猫", None, ("一只毛茸茸的橘猫",), {"split": "zh"}),
    ]


class Conformance:
    """Subclasses provide the fixture `places`, and `has_keywords` if a server may lack it."""

    @pytest.fixture
    def places(self) -> Callable[[], Path | str]:
        """Return a function that returns unused locations."""
        raise NotImplementedError

    @pytest.fixture
    def has_keywords(self) -> bool:
        return True

    @pytest.fixture
    def home(self, places: Callable[[], Path | str]) -> Path | str:
        return places()

    @pytest.fixture
    def handles(self) -> Iterator[list[KnowledgeBase]]:
        bases: list[KnowledgeBase] = []
        yield bases
        for base in bases:
            base.close()

    @pytest.fixture
    def build(
        self, home: Path | str, handles: list[KnowledgeBase], fake_encoder: FakeEncoder
    ) -> Build:
        def make(entries: Iterable[Entry]) -> KnowledgeBase:
            handles.append(KnowledgeBase.build(home, entries, encoder=fake_encoder))
            return handles[-1]

        return make

    @pytest.fixture
    def reopen(self, home: Path | str, handles: list[KnowledgeBase]) -> Callable[[], KnowledgeBase]:
        def again() -> KnowledgeBase:
            handles.append(KnowledgeBase.open(home, FakeEncoder()))
            return handles[-1]

        return again

    @pytest.fixture
    def empty(
        self, places: Callable[[], Path | str], handles: list[KnowledgeBase]
    ) -> Callable[[FakeEncoder], KnowledgeBase]:
        def make(encoder: FakeEncoder) -> KnowledgeBase:
            handles.append(KnowledgeBase.build(places(), [], encoder=encoder))
            return handles[-1]

        return make

    @pytest.fixture
    def base(self, build: Build, pictures: Path) -> KnowledgeBase:
        return build(color_entries(pictures))

    # search in every direction

    def test_text_to_image(self, base: KnowledgeBase) -> None:
        for colour in ("red", "green", "blue"):
            hit = base.search(text=colour, modality="image", k=1)[0]
            assert (hit.entry.id, hit.part.modality, hit.part.text) == (colour, "image", "")

    def test_image_to_text(self, base: KnowledgeBase, pictures: Path) -> None:
        hits = base.search(image=pictures / "red.png", modality="text", k=2)
        assert ids(hits) == ["red", "flag"]
        assert (hits[1].part.text, hits[1].part.index) == ("a red flag", 0)

    def test_image_to_image(self, base: KnowledgeBase, pictures: Path) -> None:
        hits = base.search(image=pictures / "disc.jpg", modality="image", k=4)
        assert hits[0].entry.id == "disc"
        assert hits[0].score == pytest.approx(1.0, abs=2e-3)
        assert sorted(ids(hits)) == ["blue", "disc", "green", "red"]

    def test_text_to_text_shows_the_matched_text(self, base: KnowledgeBase) -> None:
        hit = base.search(text="it is blue too", modality="text", k=1)[0]
        assert (hit.entry.id, hit.part.index, hit.part.text) == ("flag", 1, "it is blue too")
        assert hit.score == pytest.approx(1.0, abs=2e-3)

    def test_image_and_text_together(self, build: Build, pictures: Path) -> None:
        """Neither image nor text alone ranks the entry first that has something of both."""
        base = build([
            Entry("both", pictures / "red.png", ("a flag on a wall",)),
            Entry("picture", pictures / "red.png", ("grass",)),
            Entry("words", pictures / "green.png", ("flag wall",)),
            Entry("neither", pictures / "blue.png", ("water",)),
        ])  # fmt: skip
        picture = base.search(image=pictures / "red.png", text="a red meadow", modality="image")
        assert {picture[0].entry.id, picture[1].entry.id} == {"both", "picture"}
        green = base.search(image=pictures / "red.png", text="green green", modality="image")
        assert ids(green)[-1] == "neither"

    def test_vector(self, base: KnowledgeBase, fake_encoder: FakeEncoder) -> None:
        vector = fake_encoder.encode_texts(["a green meadow"])[0]
        assert ids(base.search(vector=7 * vector, k=1)) == ["green"]
        assert base.search(vector=vector.tolist(), k=1)[0].score == pytest.approx(1.0, abs=2e-3)

    def test_scores_descend_and_entries_are_unique(self, base: KnowledgeBase) -> None:
        hits = base.search(text="red flag", k=100)
        assert sorted(ids(hits)) == sorted(["red", "green", "blue", "disc", "flag", "橘猫"])
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)

    def test_dense_score_is_the_cosine(
        self, base: KnowledgeBase, fake_encoder: FakeEncoder
    ) -> None:
        query, entry = fake_encoder.encode_texts(["red sea", "a red wall"])
        hit = next(h for h in base.search(text="red sea", modality="text") if h.entry.id == "red")
        assert hit.score == pytest.approx(float(query @ entry), abs=2e-3)

    def test_a_batch_gives_the_same_hits_as_single_queries(
        self, base: KnowledgeBase, pictures: Path
    ) -> None:
        image_and_text = {"text": "grass", "image": pictures / "green.png"}
        queries = [{"text": "red"}, {"image": pictures / "blue.png"}, image_and_text]
        together = base.search_many(queries, k=3)
        assert [ids(hits) for hits in together] == [
            ids(base.search(**query, k=3)) for query in queries
        ]
        assert base.search_many([]) == []

    def test_a_batch_may_have_one_option_set_per_query(self, base: KnowledgeBase) -> None:
        keyword, dense = SearchOptions("keyword"), SearchOptions("dense")
        queries = [{"text": "red"}, {"text": "sea"}, {"text": "red"}]
        together = base.search_many(queries, 3, "text", options=[keyword, dense, dense])
        alone = [
            base.search(text="red", k=3, modality="text", options=keyword),
            base.search(text="sea", k=3, modality="text", options=dense),
            base.search(text="red", k=3, modality="text", options=dense),
        ]
        assert [[(hit.entry.id, hit.score) for hit in hits] for hits in together] == [
            [(hit.entry.id, pytest.approx(hit.score)) for hit in hits] for hits in alone
        ]
        with pytest.raises(InvalidInput, match="3 queries and 2 options"):
            base.search_many(queries, 3, "text", options=[keyword, dense])

    def test_neither_modality_always_wins(self, build: Build) -> None:
        """Cosines of texts with texts were about 0.6 and with images 0.2, so no image was ever
        found by a text."""
        rng = np.random.default_rng(5)
        texts, pictures, topic = (rng.standard_normal((n, 64)) for n in (40, 40, 1))
        texts, pictures = texts + 6 * np.eye(64)[0], pictures + 6 * np.eye(64)[1]
        texts[:3] += 1.2 * topic
        pictures[:3] += 1.2 * topic
        base = build([])
        base.add([Entry(f"t{i}", None, (f"text {i}",)) for i in range(40)], vectors={"text": texts})
        base.add([Entry(f"p{i}") for i in range(40)], vectors={"image": pictures})

        class Topical(FakeEncoder):
            def encode_texts(self, texts: object, batch_size: int = 64) -> np.ndarray:
                vector = (6 * np.eye(64)[0] + 1.5 * topic[0]).astype(np.float32)
                return vector[None] / np.linalg.norm(vector)

        base._guard.trust(Topical())
        assert set(ids(base.search(text="the topic", k=6))) == {"t0", "t1", "t2", "p0", "p1", "p2"}

    # options

    def test_where(self, base: KnowledgeBase) -> None:
        assert sorted(ids(base.search(text="red", where={"split": "train"}))) == [
            "blue",
            "flag",
            "red",
        ]
        assert ids(base.search(text="red", where="year >= 1990 and year < 2000")) == ["red"]
        assert ids(base.search(text="blue", where='tags = "cloth"', k=1)) == ["flag"]
        assert base.search(text="red", where="colour = 3") == []
        assert base.count("split in ['train', 'test']") == 5
        assert base.count({"group": "walls"}) == 2

    def test_exclusion(self, base: KnowledgeBase, pictures: Path) -> None:
        assert "red" not in ids(
            base.search(text="red", options=SearchOptions(exclude_ids=("red", "unknown")))
        )
        hit_ids = ids(base.search(text="red", options=SearchOptions(exclude_groups=("walls",))))
        assert sorted(hit_ids) == sorted(["green", "disc", "flag", "橘猫"])
        near = SearchOptions(near_duplicate=0.98)
        assert "red" not in ids(base.search(image=pictures / "red.png", options=near))
        assert "red" not in ids(
            base.search(image=pictures / "red.png", modality="text", options=near)
        )
        assert "flag" not in ids(base.search(text="a red flag", options=near))

    def test_threshold_pages_and_groups(self, base: KnowledgeBase) -> None:
        everything = ids(base.search(text="red"))
        assert ids(base.search(text="red", k=2, options=SearchOptions(offset=2))) == everything[2:4]
        assert base.search(text="red", options=SearchOptions(offset=99)) == []
        scores = [h.score for h in base.search(text="red", options=SearchOptions(min_score=0.3))]
        assert scores
        assert min(scores) >= 0.3
        grouped = ids(base.search(text="red", options=SearchOptions(group_by="split")))
        assert len(grouped) == 3
        assert grouped[0] == everything[0]

    def test_keywords(self, base: KnowledgeBase, has_keywords: bool) -> None:
        keyword = SearchOptions(method="keyword")
        if not has_keywords:
            for method in (keyword, SearchOptions(method="hybrid")):
                with pytest.raises(InvalidInput, match='use method="dense"'):
                    base.search(text="flag", options=method)
            return
        assert ids(base.search(text="FLAGS!", options=keyword)) == ["flag"]
        assert ids(base.search(text="橘猫在哪里？", options=keyword)) == ["橘猫"]
        assert ids(base.search(text="猫", options=keyword)) == ["橘猫"]
        assert base.search(text="?!", options=keyword) == []
        assert ids(base.search(text="red", where={"split": "test"}, options=keyword)) == []
        assert sorted(ids(base.search(text='red" OR grass NOT (wall*', options=keyword))) == [
            "flag",
            "green",
            "red",
        ]

    def test_hybrid_takes_from_both_rankings(self, base: KnowledgeBase, has_keywords: bool) -> None:
        if not has_keywords:
            pytest.skip("the server has no keyword search; its error is tested above")
        hits = base.search(text="grass", options=SearchOptions(method="hybrid"))
        assert hits[0].entry.id == "green"
        assert len(hits) == 6
        assert hits[0].score == pytest.approx(2 / 61, rel=1e-3)

    def test_diversity_drops_a_copy(self, build: Build, pictures: Path) -> None:
        texts = ("a red wall", "a red wall", "a wall")
        base = build(Entry(f"{at}", None, (text,)) for at, text in enumerate(texts, 1))
        assert ids(base.search(text="a red wall", k=2)) == ["1", "2"]
        assert ids(base.search(text="a red wall", k=2, options=SearchOptions(diversity=0.6))) == [
            "1",
            "3",
        ]

    def test_filtered_and_excluded_searches_still_find_k(self, build: Build) -> None:
        """The best 500 of 600 are filtered out, and entries have several parts: all k must come."""
        vectors = np.eye(64)[0] + np.linspace(0, 1, 600)[:, None] * np.eye(64)[1]
        base = build([])
        base.add(
            [Entry(f"e{i}", None, ("x",), {"i": i}) for i in range(600)], vectors={"text": vectors}
        )
        assert ids(base.search(vector=np.eye(64)[0], k=5, where="i >= 500")) == [
            f"e{i}" for i in range(500, 505)
        ]
        away = SearchOptions(exclude_ids=tuple(f"e{i}" for i in range(500)))
        assert ids(base.search(vector=np.eye(64)[0], k=3, options=away)) == ["e500", "e501", "e502"]
        assert len(base.search(vector=np.eye(64)[0], k=600)) == 600

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
        assert base.count("tags = 'cloth'") == 0

    def test_get_keeps_the_order_asked(self, base: KnowledgeBase, pictures: Path) -> None:
        entries = base.get(["flag", "nothing", "red", "flag"])
        assert [entry.id for entry in entries] == ["flag", "red", "flag"]
        assert entries[0] == color_entries(pictures)[4]
        assert entries[1].image == str(pictures / "red.png")

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

    def test_an_empty_build_is_discarded(self, build: Build, home: Path | str) -> None:
        def broken() -> Iterator[Entry]:
            raise NotFound("the source is gone")
            yield

        with pytest.raises(NotFound, match="the source is gone"):
            build(broken())
        assert not KnowledgeBase.exists(home)
        assert build([]).discard()
        assert not KnowledgeBase.exists(home)
        with pytest.raises(NotFound, match="ravlm build"):
            KnowledgeBase.open(home)

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
            def encode_texts(self, texts: object, batch_size: int = 64) -> np.ndarray:
                return super().encode_texts([f"{text} drift" for text in texts])  # type: ignore[attr-defined]

        base._guard = EncoderGuard(base._backend, Drifted())
        assert not base.verify().sound
        with pytest.raises(Mismatch, match="canary"):
            base.search(text="red")

    def test_another_encoder_is_refused(self, base: KnowledgeBase, home: Path | str) -> None:
        with pytest.raises(Mismatch, match=r'"fake".*"other".*ravlm reencode'):
            KnowledgeBase.open(home, FakeEncoder("other", seed=1))

    def test_reencode_swaps_all_at_once(
        self, base: KnowledgeBase, reopen: Callable[[], KnowledgeBase], home: Path | str
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
        with KnowledgeBase.open(home, new_encoder) as again:
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

    # refusals

    @pytest.mark.parametrize("k", [0, -1, 2.5, True, "3"])
    def test_k_below_one_is_refused(self, base: KnowledgeBase, k: int) -> None:
        with pytest.raises(InvalidInput, match="at least 1"):
            base.search(text="red", k=k)

    def test_queries_that_are_refused(self, base: KnowledgeBase, pictures: Path) -> None:
        for query, message in [
            ({}, "no query"),
            ({"vector": None}, "no query"),
            ({"text": "  "}, "empty"),
            ({"text": 3}, "give a string"),
            ({"vector": np.ones(64), "text": "red"}, "cannot be combined"),
            ({"vector": np.zeros(64)}, "no direction"),
            ({"vector": np.full(64, np.nan)}, "no direction"),
        ]:
            with pytest.raises(InvalidInput, match=message):
                base.search(**query)  # type: ignore[arg-type]
        with pytest.raises(Mismatch, match=r"\(64,\)"):
            base.search(vector=np.ones(63))
        with pytest.raises(InvalidInput, match='Did you mean "text"'):
            base.search_many([{"texts": "red"}])
        with pytest.raises(InvalidInput, match="allowed: any, image, text"):
            base.search(text="red", modality="audio")  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="give text= too"):
            base.search(image=pictures / "red.png", options=SearchOptions(method="hybrid"))
        with pytest.raises(InvalidInput, match="excludes them"):
            base.search(text="red", modality="image", options=SearchOptions(method="keyword"))
        with pytest.raises(InvalidInput, match="compares no vectors"):
            base.search(text="red", options=SearchOptions(method="keyword", near_duplicate=0.9))
        with pytest.raises(InvalidInput, match="position 7"):
            base.search(text="red", where="split ! 3")

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
