"""Conformance of search: modalities, options, filters and refused queries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ravlm.errors import InvalidInput, Mismatch
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Entry
from ravlm.search.options import SearchOptions
from tests.helpers.fakes import FakeEncoder
from tests.knowledge.conformance_fixtures import Build, ConformanceFixtures, ids


class SearchConformance(ConformanceFixtures):
    """Searching."""

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

    def test_a_batch_may_have_one_option_set_per_query(
        self, base: KnowledgeBase, has_keywords: bool
    ) -> None:
        dense = SearchOptions("dense")
        keyword = (
            SearchOptions("keyword") if has_keywords else SearchOptions("dense", min_score=0.3)
        )
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
        base = half_pictures_half_texts(build)
        assert set(ids(base.search(text="the topic", k=6))) == {"t0", "t1", "t2", "p0", "p1", "p2"}

    def test_hybrid_keeps_pictures(self, build: Build, has_keywords: bool) -> None:
        """A picture has no words, so it had half of a fused score and came after all 40 texts,
        each of which has the word "text". Of the first ten hits, none was a picture."""
        if not has_keywords:
            pytest.skip("the server has no keyword search")
        base = half_pictures_half_texts(build)
        dense = ids(base.search(text="the text", k=20))
        hybrid = ids(base.search(text="the text", k=20, options=SearchOptions(method="hybrid")))
        assert {"p0", "p1", "p2"} <= set(hybrid[:6])
        pictures = [(place, id_) for place, id_ in enumerate(dense) if id_.startswith("p")]
        assert pictures == [(place, hybrid[place]) for place, _ in pictures]
        exact = ids(base.search(text="33", k=4, options=SearchOptions(method="hybrid")))
        assert "t33" in exact[:2]  # the word decides among the texts
        scores = [h.score for h in base.search(text="33", options=SearchOptions(method="hybrid"))]
        assert scores == sorted(scores, reverse=True)

    # options

    def test_where(self, base: KnowledgeBase) -> None:
        assert sorted(ids(base.search(text="red", where={"split": "train"}))) == [
            "blue",
            "flag",
            "red",
        ]
        assert ids(base.search(text="red", where="year >= 1990 and year < 2000")) == ["red"]
        assert ids(base.search(text="blue", where='tags = "cloth"', k=1)) == ["flag"]
        assert base.search(text="red", where="year = 3") == []
        assert base.count("split in ['train', 'test']") == 5
        assert base.count({"group": "walls"}) == 2

    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            ({"year": {"$gte": 1990, "$lt": 2001}}, ["red"]),
            ({"year": {"$in": [2001, 7]}}, ["green"]),
            ({"split": {"$nin": ["train", "zh"]}}, ["disc", "green"]),
            ({"split": {"$ne": "train"}, "year": {"$exists": False}}, ["disc", "橘猫"]),
            ({"$or": [{"year": {"$eq": 1990}}, {"tags": "sign"}]}, ["flag", "red"]),
            ({"$nor": [{"split": "train"}, {"split": "test"}]}, ["橘猫"]),
            ({"year": {"$not": {"$lte": 1990}}, "split": "test"}, ["disc", "green"]),
            ({"nowhere": {"$exists": True}}, []),
        ],
    )
    def test_operators_of_other_stores(
        self, base: KnowledgeBase, where: dict[str, object], expected: list[str]
    ) -> None:
        """{"year": {"$gte": 1990}} was taken for a nested key, and matched nothing, silently."""
        assert sorted(ids(base.search(text="red", where=where))) == expected
        assert base.count(where) == len(expected)
        assert sorted(entry.id for entry in base.page(where=where).entries) == expected

    def test_a_key_that_no_entry_has_is_named(
        self, base: KnowledgeBase, empty: Callable[[FakeEncoder], KnowledgeBase]
    ) -> None:
        """A misspelled key matched nothing, silently."""
        with pytest.raises(InvalidInput, match=r'key "yaer"\. Did you mean "year"') as error:
            base.search(text="red", where="yaer >= 1990")
        assert "Keys: group, split, tags, year." in str(error.value)
        with pytest.raises(InvalidInput, match=r'{"year": {"\$gte": ...}}'):
            base.count({"year": {"gte": 1990}})
        with pytest.raises(InvalidInput, match='"=>" is not an operator; allowed: = =='):
            base.page(where={"year": {"=>": 1990}})
        base.remove(["red", "green"])  # the only ones with a year
        with pytest.raises(InvalidInput, match='key "year"'):
            base.count("year = 1990")
        assert empty(FakeEncoder()).search(text="red", where={"year": 3}) == []

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
        assert 1 < hits[0].score < 2  # best by words, and above random parts by its vector

    def test_relevance_is_one_number_for_all_searches(
        self, build: Build, has_keywords: bool
    ) -> None:
        """A picture had the score 0.248 or 0.088, depending on `modality`, and a text 14.71 by
        its words next to cosines."""
        base = half_pictures_half_texts(build)
        shown: dict[str, set[float]] = {}
        for modality in ("any", "image", "text"):
            for method in ("dense", "keyword", "hybrid"):
                if method != "dense" and (modality == "image" or not has_keywords):
                    continue
                options = SearchOptions(method=method, relevance=True)
                for hit in base.search(text="text 2", k=50, modality=modality, options=options):
                    assert hit.relevance is not None
                    shown.setdefault(hit.entry.id, set()).add(round(hit.relevance, 4))
        assert len(shown) == 80
        assert all(len(values) == 1 for values in shown.values())
        values = {id_: value for id_, (value,) in shown.items()}
        related = ("t0", "t1", "t2", "p0", "p1", "p2")
        assert min(values[id_] for id_ in related) > max(
            value for id_, value in values.items() if id_ not in related
        )
        assert base.search(text="text 2")[0].relevance is None
        assert "relevance" not in base.search(text="text 2")[0].to_dict()

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


def half_pictures_half_texts(build: Build) -> KnowledgeBase:
    """Return a base of 40 pictures without words and 40 texts; three of each are on the topic of
    any query."""
    rng = np.random.default_rng(5)
    texts, pictures, topic = (rng.standard_normal((n, 64)) for n in (40, 40, 1))
    texts, pictures = texts + 6 * np.eye(64)[0], pictures + 6 * np.eye(64)[1]
    texts[:3] += 1.2 * topic
    pictures[:3] += 1.2 * topic
    base = build([])
    base.add([Entry(f"t{i}", None, (f"text {i}",)) for i in range(40)], vectors={"text": texts})
    base.add([Entry(f"p{i}") for i in range(40)], vectors={"image": pictures})

    class Topical(FakeEncoder):
        def encode_texts(
            self, texts: object, batch_size: int = 64, role: str = "document"
        ) -> np.ndarray:
            vector = (6 * np.eye(64)[0] + 1.5 * topic[0]).astype(np.float32)
            return vector[None] / np.linalg.norm(vector)

    base._guard.trust(Topical())
    return base
