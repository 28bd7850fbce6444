"""Load text recognizers by name. Each implementation is imported on first use."""

from __future__ import annotations

from collections.abc import Callable

from ravlm.ocr.base import DEFAULT_ENGINE, TextRecognizer


def _rapidocr() -> TextRecognizer:
    from ravlm.ocr.rapidocr import RapidOcrRecognizer

    return RapidOcrRecognizer()


ENGINES: dict[str, Callable[[], TextRecognizer]] = {DEFAULT_ENGINE: _rapidocr}
"""Name -> recognizer. Any other name is that of a Transformers model."""


def load_recognizer(name: str = DEFAULT_ENGINE) -> TextRecognizer:
    """Return the recognizer of that name: "rapidocr", or a folder or hub name of a model.

        regions = load_recognizer().recognize([load_image("receipt.jpg")])[0]

    Raises MissingExtra if its packages are not installed, NotFound or BrokenData for a model.
    """
    if name in ENGINES:
        return ENGINES[name]()
    from ravlm.ocr.transformers import TransformersRecognizer

    return TransformersRecognizer(name)
