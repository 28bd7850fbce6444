"""Conformance of regions: pages and print on photos are stored, searched and located."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.export import ExportForm
from ravlm.records import Entry
from ravlm.regions import Region
from ravlm.search.options import SearchOptions
from tests.helpers.fakes import FakeEncoder
from tests.knowledge.conformance_fixtures import ConformanceFixtures, ids

KEYWORD, HYBRID = SearchOptions("keyword"), SearchOptions("hybrid")
TITLE = Region("Maintenance of the pump", (0.1, 0.05, 0.6, 0.1), 3, "title")
FIRST = Region("Check the gasket every " + "day and " * 40, (0.1, 0.12, 0.9, 0.5), 3, "paragraph")
SECOND = Region("Oil pressure: 4.5 bar", (0.1, 0.6, 0.5, 0.62), 3, "line", 0.97)
DOUBTFUL = Region("Serial number: QX7731", (0.1, 0.7, 0.5, 0.72), 3, "line", 0.4)


def page_entry(pictures: Path) -> Entry:
    """A page whose text does not fit one passage."""
    return Entry(
        "manual.pdf#page=3",
        pictures / "green.png",
        (),
        {"file": "manual.pdf", "page": 3},
        (TITLE, FIRST, SECOND, DOUBTFUL),
    )


def tile_entry(pictures: Path) -> Entry:
    """A photo with a caption, print on it, and two tiles of the image."""
    tiles = [Region("", (x, 0, x + 0.5, 1), None, "tile") for x in (0, 0.5)]
    label = Region("GALA PREMIUM", (0.25, 0.5, 0.75, 0.6))
    return Entry("crate", pictures / "disc.jpg", ("a crate",), {}, (*tiles, label))


class RegionConformance(ConformanceFixtures):
    """Regions of pages and photos."""

    @pytest.fixture
    def pages(self, base: KnowledgeBase, pictures: Path) -> KnowledgeBase:
        report = base.add([page_entry(pictures), tile_entry(pictures)])
        assert (report.added, report.quarantined) == (2, ())
        return base

    def test_regions_are_kept(self, pages: KnowledgeBase, pictures: Path) -> None:
        page, photo = pages.get(["manual.pdf#page=3", "crate"])
        assert page.regions == page_entry(pictures).regions
        assert photo.regions == tile_entry(pictures).regions
        assert [e.regions for e in pages.page(99).entries if e.id == page.id] == [page.regions]
        again = pages.add([page_entry(pictures)])
        assert again.unchanged == 1
        moved = replace(page, regions=(TITLE, SECOND))
        assert pages.add([moved]).updated == 1
        assert pages.get(page.id)[0].regions == (TITLE, SECOND)
        assert pages.verify().findings == ()

    def test_words_of_a_page_are_found_with_their_box(
        self, pages: KnowledgeBase, has_keywords: bool
    ) -> None:
        """Text parts and the image of a page are one hit."""
        methods = [SearchOptions()] + [KEYWORD, HYBRID] * has_keywords
        for options in methods:
            hits = pages.search(text="Oil pressure: 4.5 bar", options=options)
            assert hits[0].entry.id == "manual.pdf#page=3", options
            assert ids(hits).count("manual.pdf#page=3") == 1
            part = hits[0].part
            assert (part.index, part.page) == (0, 3)
            assert part.box == (0.1, 0.6, 0.5, 0.72)
            assert part.text == "Oil pressure: 4.5 bar\nSerial number: QX7731"
        if has_keywords:
            (hit,) = pages.search(text="QX7731", options=KEYWORD)  # doubtful, but searchable
            assert hit.part.box == (0.1, 0.6, 0.5, 0.72)
            (hit, *_) = pages.search(text="maintenance bar", options=KEYWORD)  # title and passage
            assert hit.part.box == (0.1, 0.6, 0.5, 0.72)

    def test_the_image_of_a_page_has_its_number(self, pages: KnowledgeBase) -> None:
        hit = pages.search(text="green", modality="image", k=1)[0]
        assert hit.entry.id in ("green", "manual.pdf#page=3")
        hits = pages.search(text="green", modality="image")
        (page,) = [hit for hit in hits if hit.entry.id == "manual.pdf#page=3"]
        assert (page.part.box, page.part.page) == (None, 3)

    def test_a_photo_shows_what_is_printed_on_it(
        self, pages: KnowledgeBase, has_keywords: bool, pictures: Path
    ) -> None:
        if has_keywords:
            (hit,) = pages.search(text="gala", options=KEYWORD)
            assert (hit.entry.id, hit.part.index, hit.part.text) == ("crate", 1, "GALA PREMIUM")
            assert hit.part.box == (0.25, 0.5, 0.75, 0.6)
            (hit,) = pages.search(text="crate", options=KEYWORD)
            assert (hit.part.text, hit.part.box) == ("a crate", None)
        assert pages.info().parts["image"] == 4 + 1 + 3
        sample = {part.box for e, part, _ in pages.sample(99, "image") if e.id == "crate"}
        assert sample == {None, (0, 0, 0.5, 1), (0.5, 0, 1, 1)}
        whole = FakeEncoder().encode_images([pictures / "disc.jpg"])[0]
        vector = pages.image_vectors(["crate"])["crate"]  # of the whole image, not of a tile
        assert vector @ whole == 1 or abs(vector @ whole - 1) < 2e-3

    @pytest.mark.parametrize("form", ["files", "webdataset"])
    def test_regions_are_exported_and_imported(
        self,
        pages: KnowledgeBase,
        empty: Callable[[FakeEncoder], KnowledgeBase],
        tmp_path: Path,
        form: ExportForm,
        has_keywords: bool,
    ) -> None:
        pages.add([Entry("metadata", None, ("x",), {"regions": ["Asia", "Peru"]})])
        pages.export_to(tmp_path / "out", form)
        names = ["manual.pdf#page=3", "crate", "metadata"]
        copies = [empty(FakeEncoder()), empty(FakeEncoder("other", seed=3))]
        for copy in copies:
            assert copy.import_from(tmp_path / "out").added == 9
            assert [e.regions for e in copy.get(names)] == [e.regions for e in pages.get(names)]
            assert copy.get("metadata")[0].metadata == {"regions": ["Asia", "Peru"]}
            assert copy.verify().findings == ()
            if has_keywords:
                (hit, *_) = copy.search(text="maintenance bar", options=KEYWORD)
                assert hit.part.box == (0.1, 0.6, 0.5, 0.72)

    def test_regions_survive_another_encoder(self, pages: KnowledgeBase) -> None:
        pages.reencode(FakeEncoder("other", seed=3))
        assert pages.info().parts["image"] == 8
        hits = pages.search(text="Oil pressure: 4.5 bar")
        (page,) = [hit for hit in hits if hit.entry.id == "manual.pdf#page=3"]
        assert page.part.page == 3
        assert pages.verify().findings == ()

    def test_pages_of_a_scanned_text_are_no_duplicates(self, base: KnowledgeBase) -> None:
        """Entries without image and texts had equal texts: none."""
        entries = [Entry(f"page {n}", regions=[Region(f"line {n}", page=n)]) for n in (1, 2)]
        assert base.add(entries, deduplicate="exact").added == 2
        copy = replace(entries[0], id="copy")
        assert base.add([copy], deduplicate="exact").duplicates == (("copy", "page 1"),)
        assert base.add([Entry("blank", regions=[Region(" ")])]).quarantined[0].reason == (
            "It has neither an image nor a text."
        )
