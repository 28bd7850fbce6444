"""Recognize the text of images while they are added: which of them, in batches, from the cache.

Pages of documents bring the text that their file contains. A page without it is a scan, and so is
an image as large as a sheet of paper; whether a photo is read is for the caller to decide.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from PIL import Image

from ravlm.data.carried_context import with_carried_context
from ravlm.data.images import load_image
from ravlm.data.parallel import batched, parallel_map
from ravlm.data.pdf import DPI, page_path, split_page_path
from ravlm.data.rows import Quarantined
from ravlm.data.scanned_pages import is_scanned_page
from ravlm.errors import MissingExtra, RavlmError
from ravlm.ocr.auto import load_recognizer
from ravlm.ocr.base import DEFAULT_ENGINE, OcrOptions, TextRecognizer
from ravlm.ocr.cache import RecognitionCache
from ravlm.records import Entry, PdfPage
from ravlm.regions import IMAGE_KINDS, Box, Region

if TYPE_CHECKING:
    from ravlm.knowledge.embed import IngestItem

BATCH_SIZE = 4
"""Images that are read together: a page at 200 dpi takes 12 MB."""
MIN_LAYER_TEXT = 64
"""Characters of a page's text layer from which it is taken for its text; a stamp on a scan has
fewer."""
_MIN_TRUST = 0.5
"""Confidence of text in a file; text in a font that does not map to characters has less."""
_MAX_DOCUMENTS = 16
"""Documents whose last page is kept for the page that follows it."""
_MAX_OVERLAP = 0.3
"""Share of a line that may be covered by text that is known already."""


class Recognition:
    """The text recognition of one ingestion. The recognizer is loaded for the first image."""

    def __init__(
        self, options: OcrOptions, stored_entries: Callable[[list[str]], Mapping[str, Entry]]
    ) -> None:
        """`stored_entries` returns those entries of the base that have the given ids."""
        self.options = options
        self._stored_entries = stored_entries
        self._last_pages: OrderedDict[str, Entry] = OrderedDict()  # document -> its last page
        self.count = 0
        """Images and pages that were read, from the cache too."""
        self.missing: MissingExtra | None = None
        self.num_skipped = 0
        """Pages without text that were not read, because packages are missing."""
        self._lock = threading.Lock()
        self._recognizer: TextRecognizer | None = None
        self._is_required = options.mode == "always" or options.engine != DEFAULT_ENGINE
        if self._is_required and options.mode != "never":
            self.recognizer()

    def recognizer(self) -> TextRecognizer | None:
        """Return the recognizer; None if its packages are missing and neither its name nor the
        mode "always" requires it."""
        with self._lock:
            if self._recognizer is None and self.missing is None:
                try:
                    self._recognizer = load_recognizer(self.options.engine)
                except MissingExtra as error:
                    if self._is_required:
                        raise
                    self.missing = error
            return self._recognizer

    def is_scan(self, item: IngestItem, data: bytes) -> bool:
        """Return whether an image, whose encoded content is `data`, is a scanned page that is read
        in the mode "auto"."""
        may_be = self.options.mode == "auto" and item.entry.image is not None and not item.vectors
        return may_be and page_of(item.entry) is None and is_scanned_page(data)

    def marker(self, item: IngestItem) -> str:
        """Return mode and recognizer for the digest of an entry; "" if its image is not read."""
        if not self._applies(item):
            return ""
        recognizer = self.recognizer()
        return "" if recognizer is None else f"{self.options.mode} {recognizer.fingerprint}"

    def recognize(self, items: Sequence[IngestItem]) -> Iterator[Quarantined]:
        """Add the text on their images to the entries of `items`, in the order of their source.

        Yield a note for an image that can't be read; its entry stays without that text.
        """
        waiting = [item for item in items if self._applies(item)]
        if waiting:
            yield from self._recognize(waiting)
        recognized = {item.entry.id for item in waiting if item.entry.regions}
        for item in items:
            document = document_of(item.entry)
            if document is None:
                continue
            if item.entry.id in recognized:
                previous = self._previous_page(document, item.entry)
                item.set_entry(with_carried_context(item.entry, previous))
            self._last_pages[document] = item.entry
            self._last_pages.move_to_end(document)
            if len(self._last_pages) > _MAX_DOCUMENTS:
                self._last_pages.popitem(last=False)

    def _previous_page(self, document: str, page: Entry) -> Entry | None:
        """Return the page before a page: the last one that was added, or the stored one if a build
        was interrupted there."""
        number = page_of(page)
        if document in self._last_pages or number is None or number == 1:
            return self._last_pages.get(document)
        id_ = page_path(page.id.removesuffix(page_path("", number)), number - 1)
        return self._stored_entries([id_]).get(id_)

    def _recognize(self, waiting: Sequence[IngestItem]) -> Iterator[Quarantined]:
        """Add the text on their images to the entries of `waiting`, from the cache where it has
        it."""
        recognizer = self.recognizer()
        if recognizer is None:
            self.num_skipped += len(waiting)
            return
        cache = RecognitionCache(f"{recognizer.fingerprint} {DPI:g} dpi")
        known = cache.get([str(item.image_hash) for item in waiting])
        self.count += sum(str(item.image_hash) in known for item in waiting)
        for item in waiting:
            if str(item.image_hash) in known:
                _add_regions(item, known[str(item.image_hash)])
        unknown = [item for item in waiting if str(item.image_hash) not in known]
        loaded = parallel_map(_load, unknown, workers=1, lookahead=BATCH_SIZE)
        for batch in batched(zip(unknown, loaded, strict=True), BATCH_SIZE):
            readable = [(item, image) for item, image in batch if isinstance(image, Image.Image)]
            results = recognizer.recognize([image for _, image in readable]) if readable else []
            results_by_hash = {}
            for (item, _), regions in zip(readable, results, strict=True):
                _add_regions(item, regions)
                results_by_hash[str(item.image_hash)] = regions
            cache.put(results_by_hash)
            self.count += len(readable)
            for item, error in batch:
                if isinstance(error, RavlmError):
                    reason = f"Its text was not recognized: {error}"
                    yield Quarantined(item.location, reason, is_note=True)

    def _applies(self, item: IngestItem) -> bool:
        """Return whether the image of an entry is to be read."""
        entry, mode = item.entry, self.options.mode
        if entry.image is None or mode == "never" or item.vectors:
            return False
        if page_of(entry) is not None:
            return mode == "always" or _text_length(entry.regions) < MIN_LAYER_TEXT
        has_text = any(region.text for region in entry.regions if region.kind not in IMAGE_KINDS)
        return (mode == "always" or item.is_scan) and not has_text

    def notes(self) -> list[Quarantined]:
        """Return the note on pages that were not read, if there are any."""
        if not self.num_skipped:
            return []
        pages = f"{self.num_skipped:,} pages have no text layer and were"
        if self.num_skipped == 1:
            pages = "One page has no text layer and was"
        reason = f"{pages} not read. {self.missing}."
        return [Quarantined("text recognition", reason, is_note=True)]


def page_of(entry: Entry) -> int | None:
    """Return the page of a document that is the image of an entry; None for other images."""
    if isinstance(entry.image, PdfPage):
        return entry.image.page
    location = split_page_path(entry.image)
    return None if location is None else location[1]


def document_of(entry: Entry) -> str | None:
    """Return the PDF that an entry is a page of, by its path or hash; None for other entries."""
    if isinstance(entry.image, PdfPage):
        return entry.image.document.sha256
    location = split_page_path(entry.image)
    return None if location is None else location[0]


def _load(item: IngestItem) -> Image.Image | RavlmError:
    source = item.entry.image if item.fetched_image is None else item.fetched_image
    assert source is not None
    try:
        return load_image(source)
    except RavlmError as error:
        return error


def _add_regions(item: IngestItem, recognized: Sequence[Region]) -> None:
    page = page_of(item.entry)
    regions = [replace(region, page=page) for region in recognized]
    item.set_entry(replace(item.entry, regions=merge_regions(item.entry.regions, regions)))


def merge_regions(
    file_regions: Sequence[Region], recognized: Sequence[Region]
) -> tuple[Region, ...]:
    """Return the regions of a file and those recognized on its image, without repeating a text.

    The text of the file is exact; recognized lines are added where it has none, such as in
    pictures. They come first if the file has little text, such as the stamp on a scan.
    """
    if not recognized:
        return tuple(file_regions)
    parts = [region for region in file_regions if region.kind in IMAGE_KINDS]
    written = [region for region in file_regions if region.kind not in IMAGE_KINDS]
    if _text_length(written) >= MIN_LAYER_TEXT:
        return (*parts, *written, *(r for r in _uncovered(recognized, written) if r.text))
    trusted = [region for region in written if region.text and region.confidence >= _MIN_TRUST]
    added = _uncovered(recognized, trusted)
    if not any(region.text for region in added):  # what is known was recognized earlier
        return tuple(file_regions)
    return (*parts, *added, *trusted)


def _uncovered(regions: Sequence[Region], others: Sequence[Region]) -> list[Region]:
    """Return `regions` without those whose text stands where one of `others` has text."""
    boxes = [other.box for other in others if other.text and other.box is not None]
    return [
        region
        for region in regions
        if not region.text
        or region.box is None
        or all(_covered(region.box, box) <= _MAX_OVERLAP for box in boxes)
    ]


def _covered(box: Box, other: Box) -> float:
    """Return the share of a box that another one covers."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    area = (box[2] - box[0]) * (box[3] - box[1])
    return max(width, 0.0) * max(height, 0.0) / area if area > 0 else 1.0


def _text_length(regions: Sequence[Region]) -> int:
    """Return the number of trusted characters, not counting blanks."""
    return sum(
        len("".join(region.text.split()))
        for region in regions
        if region.confidence >= _MIN_TRUST and region.kind not in IMAGE_KINDS
    )
