"""Interface of the text recognizers. Knows no engine and no knowledge base."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from ravlm.errors import InvalidInput, did_you_mean
from ravlm.regions import Region

if TYPE_CHECKING:
    from PIL import Image

OcrMode: TypeAlias = Literal["auto", "always", "never"]
OCR_MODES: tuple[OcrMode, ...] = get_args(OcrMode)
DEFAULT_ENGINE = "rapidocr"


class TextRecognizer(ABC):
    """Reads what is written on images. Methods may be called by several threads."""

    name: str
    """Name of the engine, or of the model."""
    fingerprint: str
    """Changes with everything that changes the result: results are cached under it."""

    @abstractmethod
    def recognize(self, images: Sequence[Image.Image]) -> list[list[Region]]:
        """Return the regions of each image (RGB, upright), in reading order.

        A block is followed by its lines; a line whose words were not read with the same confidence
        is given by its words. Confidences are probabilities, 0 to 1. Images may differ in size.
        """


@dataclass(frozen=True)
class OcrOptions:
    """When text is recognized, and by which engine.

    >>> OcrOptions("always")
    OcrOptions(mode='always', engine='rapidocr')
    """

    mode: OcrMode = "auto"
    """"auto" recognizes pages without a usable text layer, and images that are scanned pages;
    "always" all images and pages; "never" nothing."""
    engine: str = DEFAULT_ENGINE
    """A name of `ocr.auto.ENGINES`, or a folder or hub name of a Transformers model."""

    def __post_init__(self) -> None:
        if self.mode not in OCR_MODES:
            raise InvalidInput(
                f'ocr is "{self.mode}"; allowed: {", ".join(OCR_MODES)}.'
                f"{did_you_mean(str(self.mode), OCR_MODES)}"
            )

    @staticmethod
    def of(value: OcrMode | OcrOptions) -> OcrOptions:
        """Return `value` as options; it may be a mode alone."""
        return value if isinstance(value, OcrOptions) else OcrOptions(value)
