"""Load text recognizers by name. Each implementation is imported on first use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from weakref import WeakValueDictionary

from ravlm.ocr.base import DEFAULT_ENGINE, TextRecognizer


def _rapidocr() -> TextRecognizer:
    from ravlm.ocr.rapidocr import RapidOcrRecognizer

    return RapidOcrRecognizer()


ENGINES: dict[str, Callable[[], TextRecognizer]] = {DEFAULT_ENGINE: _rapidocr}
"""Name -> recognizer. Any other name is that of a Transformers model."""
_IN_USE: WeakValueDictionary[str, TextRecognizer] = WeakValueDictionary()
"""Engines in use: a second one of the same name would load the same networks again."""
_LOCK = threading.Lock()


def load_recognizer(name: str = DEFAULT_ENGINE) -> TextRecognizer:
    """Return the recognizer of that name: "rapidocr", or a folder or hub name of a model.

        regions = load_recognizer().recognize([load_image("receipt.jpg")])[0]

    Raises MissingExtra if its packages are not installed, NotFound or BrokenData for a model.
    """
    if name in ENGINES:
        with _LOCK:
            recognizer = _IN_USE.get(name)
            if recognizer is None:
                recognizer = _IN_USE[name] = ENGINES[name]()
            return recognizer
    from ravlm.ocr.transformers import TransformersRecognizer

    return TransformersRecognizer(name)
