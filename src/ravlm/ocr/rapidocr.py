"""Text recognition by RapidOCR: PP-OCRv6 on ONNX Runtime, English and Chinese.

The models come with the package; nothing is downloaded. https://github.com/RapidAI/RapidOCR
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from functools import cached_property
from importlib import metadata
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ravlm.data.page_text import MIN_CONFIDENCE
from ravlm.errors import MissingExtra
from ravlm.ocr.base import TextRecognizer
from ravlm.ocr.cell_gaps import split_cells
from ravlm.ocr.ink import measure_ink
from ravlm.ocr.lines import RecognizedLine, RecognizedWord, line_regions
from ravlm.regions import Region
from ravlm.runtime import cpu_count, has_packages

PACKAGES = ("rapidocr", "onnxruntime")
_MIN_SIDE = 640
"""Smaller images are enlarged, at most by _MAX_SCALE: print on a photo is then large enough."""
_MAX_SCALE = 3.0
_MAX_TALL_RATIO, _MAX_FLAT_RATIO = 8, 50
"""Maximum ratios of height to width and of width to height. RapidOCR pads flat images itself, but
not the flattest."""
_MAX_THREADS = 8
_MIN_TURN = 0.9
"""Probability from which a line is taken to be upside down."""
_USUAL_DIRECTION = 0.2
"""Confidence that a line has to gain to be read the other way than most lines of its image."""
_WORD = re.compile(r"\S+")
_VERSION = 3
"""Of the code in this package that changes results."""


class LineReading(NamedTuple):
    """What a line says, if it is read upright or (`is_turned`) from the other end."""

    text: str
    confidence: float
    is_turned: bool
    words: tuple[RecognizedWord, ...]


class RapidOcrRecognizer(TextRecognizer):
    """RapidOCR with the models of its package, loaded on first use.

    Raises MissingExtra if it is not installed.
    """

    name = "rapidocr"

    def __init__(self, threads: int | None = None) -> None:
        """`threads` of each network; by default one per core, at most 8."""
        if not has_packages(*PACKAGES):
            raise MissingExtra("rapidocr", "ocr", "Recognizing text")
        self.fingerprint = f"rapidocr {metadata.version('rapidocr')} {_VERSION}"
        self.threads = threads or min(cpu_count(), _MAX_THREADS)
        self._lock = threading.Lock()

    def recognize(self, images: Sequence[Image.Image]) -> list[list[Region]]:
        """Return the regions of each image; the lines of all of them are read together."""
        with self._lock:
            detections = [self.detect_lines(image) for image in images]
            readings = self.read_lines([crops for crops, _ in detections])
        results = []
        for image, (crops, corners), of_image in zip(images, detections, readings, strict=True):
            lines = [
                RecognizedLine(text, quad, confidence, is_turned, words, measure_ink(crop))
                for quad, crop, (text, confidence, is_turned, words) in zip(
                    corners, crops, of_image, strict=True
                )
            ]
            results.append(line_regions(lines, image.width, image.height))
        return results

    def detect_lines(self, image: Image.Image) -> tuple[list[np.ndarray], np.ndarray]:
        """Return the crops of the lines on an image, and their corners (n, 4, 2) in its pixels."""
        from rapidocr.main import RapidOCRError
        from rapidocr.utils.process_img import map_boxes_to_original

        enlarged = _enlarged(image)
        pixels = np.asarray(_padded(enlarged))[:, :, ::-1]  # (h, w, 3), blue first
        height, width = pixels.shape[:2]
        prepared, steps = self._engine.preprocess_img(np.ascontiguousarray(pixels))
        try:
            crops, detection = self._engine.detect_and_crop(prepared, steps)
        except RapidOCRError:  # there is no text
            return [], np.empty((0, 4, 2))
        boxes = map_boxes_to_original(detection.boxes, steps, height, width)
        boxes = boxes * (image.width / enlarged.width, image.height / enlarged.height)
        return split_cells(crops, boxes, image.width, image.height)

    def read_lines(self, crops: Sequence[Sequence[np.ndarray]]) -> list[list[LineReading]]:
        """Read the crops of the lines of each image.

        Which lines are upside down is a guess, which is wrong for a few of a page: those that stand
        another way than most of their image, and those that make little sense, are read both ways.
        """
        flat = [crop for of_image in crops for crop in of_image]
        readings = iter(self._read(flat, self._are_turned(flat)))
        by_image = [list(islice(readings, len(of_image))) for of_image in crops]
        usual = [_are_mostly_turned(of_image) for of_image in by_image]
        doubtful = [
            (number, row)
            for number, of_image in enumerate(by_image)
            for row, reading in enumerate(of_image)
            if reading.is_turned != usual[number]
            or (reading.is_turned and reading.confidence < MIN_CONFIDENCE)
        ]
        directions = [not by_image[number][row].is_turned for number, row in doubtful]
        others = self._read([crops[number][row] for number, row in doubtful], directions)
        for (number, row), other in zip(doubtful, others, strict=True):
            gain = other.confidence - by_image[number][row].confidence
            is_usual = other.is_turned == usual[number]
            if gain > (-_USUAL_DIRECTION if is_usual else _USUAL_DIRECTION):
                by_image[number][row] = other
        return by_image

    def _are_turned(self, crops: Sequence[np.ndarray]) -> list[bool]:
        """Return whether each line is upside down, as the classifier guesses."""
        if not crops:
            return []
        _, turns = self._engine.cls_and_rotate(list(crops))
        return [label == "180" and certainty > _MIN_TURN for label, certainty in turns.cls_res]

    def _read(self, crops: Sequence[np.ndarray], turned: Sequence[bool]) -> list[LineReading]:
        """Read each crop of a line, those that are `turned` from the other end."""
        if not crops:
            return []
        upright = [
            np.ascontiguousarray(crop[::-1, ::-1]) if is_turned else crop
            for crop, is_turned in zip(crops, turned, strict=True)
        ]
        output = self._engine.recognize_txt(upright)
        return [
            LineReading(text, float(score), is_turned, _words(text, details))
            for text, score, details, is_turned in zip(
                output.txts, output.scores, output.word_results, turned, strict=True
            )
        ]

    @cached_property
    def _engine(self) -> Any:
        import cv2
        from rapidocr import RapidOCR

        cv2.setNumThreads(self.threads)
        return RapidOCR(
            params={
                "Global.log_level": "error",
                "Global.return_word_box": True,
                "Cls.cls_thresh": _MIN_TURN,
                "EngineConfig.onnxruntime.intra_op_num_threads": self.threads,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )


def _are_mostly_turned(readings: Sequence[LineReading]) -> bool:
    """Return whether most of the text of an image is upside down."""
    return sum((1 if r.is_turned else -1) * len(r.text) for r in readings) > 0


def _enlarged(image: Image.Image) -> Image.Image:
    """Return an RGB image, a small one enlarged."""
    image = image.convert("RGB")
    scale = min(_MAX_SCALE, _MIN_SIDE / max(1, min(image.size)))
    if scale <= 1:
        return image
    size = round(image.width * scale), round(image.height * scale)
    return image.resize(size, Image.Resampling.BICUBIC)


def _padded(image: Image.Image) -> Image.Image:
    """Pad a very narrow image with white on the right, a very flat one with white at the bottom.

    The detector scales the shorter side to 736 pixels: an image of 6 x 1,500 took a gigabyte.
    """
    width = max(image.width, image.height // _MAX_TALL_RATIO)
    height = max(image.height, image.width // _MAX_FLAT_RATIO)
    if (width, height) == image.size:
        return image
    canvas = Image.new("RGB", (width, height), "white")
    canvas.paste(image)
    return canvas


def _words(text: str, details: Any) -> tuple[RecognizedWord, ...]:
    """Return the words of a line between spaces, with the mean probability of their characters.

    `details` has the probability of each character, and the column of the network's output of each
    one that is no space.
    """
    columns = [column for word in details.word_cols for column in word]
    width = details.line_txt_len
    if len(details.confs) != len(text) or not width:
        return ()
    words = []
    num_letters = 0
    for match in _WORD.finditer(text):
        length = len(match[0])
        word_columns = columns[num_letters : num_letters + length]
        if len(word_columns) < length:
            return ()
        num_letters += length
        confidence = sum(details.confs[match.start() : match.end()]) / length
        start, end = (word_columns[0] - 0.5) / width, (word_columns[-1] + 1.5) / width
        start, end = max(0.0, start), min(1.0, max(start, end))
        words.append(RecognizedWord(match[0], start, end, confidence))
    return tuple(words)
