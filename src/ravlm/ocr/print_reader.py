"""Read the words on photos that are asked about."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable

from ravlm.data.images import load_image
from ravlm.ocr.auto import load_recognizer
from ravlm.ocr.base import DEFAULT_ENGINE, OcrOptions, TextRecognizer
from ravlm.ocr.rapidocr import PACKAGES
from ravlm.records import ImageSource
from ravlm.regions import Region
from ravlm.runtime import has_packages

_MAX_SIDE = 1280
"""Longer side in pixels at which a photo is read."""
_CACHE_SIZE = 64


class PrintReader:
    """Reads photos and caches the regions of the last ones.

    In the mode "auto" it reads nothing if the packages of the default engine are missing.
    """

    def __init__(
        self,
        options: OcrOptions = OcrOptions(),  # noqa: B008 - frozen
        load: Callable[[str], TextRecognizer] = load_recognizer,
    ) -> None:
        self._options = options
        self._load = load
        self._recognizer: TextRecognizer | None = None
        self._cache: OrderedDict[bytes, tuple[Region, ...]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def reads_all(self) -> bool:
        """Whether photos are read even if the image alone leaves no doubt."""
        return self._options.mode == "always"

    @property
    def is_available(self) -> bool:
        """Whether photos are read at all."""
        if self._options.mode != "auto" or self._options.engine != DEFAULT_ENGINE:
            return self._options.mode != "never"
        return has_packages(*PACKAGES)

    def read(self, image: ImageSource) -> tuple[Region, ...]:
        """Return the regions of a photo, in reading order.

        Raises MissingExtra for an engine or the mode "always" without its packages.
        """
        if not self.is_available:
            return ()
        pixels = load_image(image, edge=_MAX_SIDE).convert("RGB")
        pixels.thumbnail((_MAX_SIDE, _MAX_SIDE))
        key = hashlib.sha256(f"{pixels.size}".encode() + pixels.tobytes()).digest()
        with self._lock:
            if key not in self._cache:
                if self._recognizer is None:
                    self._recognizer = self._load(self._options.engine)
                self._cache[key] = tuple(self._recognizer.recognize([pixels])[0])
                while len(self._cache) > _CACHE_SIZE:
                    self._cache.popitem(last=False)
            return self._cache[key]
