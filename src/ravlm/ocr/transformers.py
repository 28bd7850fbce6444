"""Text recognition by models of Transformers: of lines (TrOCR, PP-OCR) or of whole pages.

A model of lines reads crops, which RapidOCR's detector finds. A model of pages (GOT-OCR 2,
PaddleOCR-VL, LightOnOCR, any image-text-to-text model) writes the text of an image without its
position: the regions have no box.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ravlm.errors import MissingExtra, NotFound
from ravlm.ocr.base import TextRecognizer
from ravlm.ocr.ink import measure_ink
from ravlm.ocr.lines import RecognizedLine, line_regions
from ravlm.regions import Region
from ravlm.runtime import device, has_packages

PROMPT = "Transcribe all text in this image. Keep the line breaks."
_BATCH_SIZE = 16
_MAX_LINE_TOKENS = 128
_MAX_PAGE_TOKENS = 4096
_VERSION = 3
_LOAD_ERRORS = (OSError, ValueError, KeyError, AttributeError, ImportError, RuntimeError, TypeError)
"""What Transformers raises for a checkpoint that is not one, or that it does not know."""


class TransformersRecognizer(TextRecognizer):
    """A checkpoint of Transformers, by folder or hub name.

    Raises NotFound if there is none of that name or Transformers can't load it, and MissingExtra
    for a model of lines without RapidOCR.
    """

    def __init__(self, name: str) -> None:
        if not has_packages("torch", "transformers"):
            raise MissingExtra("transformers", "torch", f'The text recognizer "{name}"')
        self.name = name
        self._lock = threading.Lock()
        config = _load_config(name)
        self.fingerprint = f"{name} {_content(name, config)} {_VERSION}"
        self._reader = _reader(name, config)

    def recognize(self, images: Sequence[Image.Image]) -> list[list[Region]]:
        """Return the regions of each image, in reading order."""
        with self._lock:
            return self._reader.recognize([image.convert("RGB") for image in images])


class _LineModel:
    """Reads crops of lines, which RapidOCR's detector finds."""

    def __init__(self) -> None:
        from ravlm.ocr.rapidocr import RapidOcrRecognizer

        self.detector = RapidOcrRecognizer()

    def recognize(self, images: Sequence[Image.Image]) -> list[list[Region]]:
        results = []
        for image in images:
            crops, corners = self.detector.detect_lines(image)
            lines = [Image.fromarray(np.ascontiguousarray(crop[:, :, ::-1])) for crop in crops]
            texts: list[tuple[str, float]] = []
            for start in range(0, len(lines), _BATCH_SIZE):
                texts += self.read(lines[start : start + _BATCH_SIZE])
            recognized = [
                RecognizedLine(text, quad, confidence, ink=measure_ink(crop))
                for quad, crop, (text, confidence) in zip(corners, crops, texts, strict=True)
            ]
            results.append(line_regions(recognized, image.width, image.height))
        return results

    def read(self, lines: Sequence[Image.Image]) -> list[tuple[str, float]]:
        """Return text and confidence of each line."""
        raise NotImplementedError


class _CtcModel(_LineModel):
    """Text recognition models (PP-OCR), whose processor decodes their output."""

    def __init__(self, name: str) -> None:
        super().__init__()
        from transformers import AutoImageProcessor

        self.processor = _load_processor(AutoImageProcessor, name)
        self.model = _load_model("AutoModelForTextRecognition", name)

    def read(self, lines: Sequence[Image.Image]) -> list[tuple[str, float]]:
        import torch

        texts = []
        for line in lines:  # each with its own width
            inputs = self.processor(images=line, return_tensors="pt").to(device())
            with torch.inference_mode():
                outputs = self.model(**inputs)
            (result,) = self.processor.post_process_text_recognition(outputs)
            score = float(result["score"])
            texts.append((str(result["text"]), 0.0 if math.isnan(score) else score))  # NaN: no text
        return texts


class _TokenReader:
    """A model that writes text about an image, token by token."""

    def __init__(self, name: str, auto_class: str) -> None:
        from transformers import AutoProcessor

        self.processor = _load_processor(AutoProcessor, name, backend="pil")
        self.model = _load_model(auto_class, name)

    def write(self, images: Sequence[Image.Image], max_tokens: int) -> list[tuple[str, float]]:
        """Return the text that the model writes about each image, and the mean probability of its
        tokens."""
        import torch

        inputs = self._inputs(images).to(device())
        with torch.inference_mode():
            output = self.model.generate(
                **inputs,
                max_new_tokens=max_tokens,
                do_sample=False,
                num_beams=1,
                return_dict_in_generate=True,
                output_scores=True,
            )
        scores = self.model.compute_transition_scores(
            output.sequences, output.scores, normalize_logits=True
        )  # (n, tokens)
        written = output.sequences[:, -scores.shape[1] :]
        texts = self.processor.batch_decode(written, skip_special_tokens=True)
        pad = getattr(self.model.generation_config, "pad_token_id", None)
        is_token = torch.isfinite(scores) & (written != (-1 if pad is None else pad))
        log_probs = scores.masked_fill(~is_token, 0.0)
        means = log_probs.sum(dim=1) / is_token.sum(dim=1).clamp(min=1)
        return [(text.strip(), float(p)) for text, p in zip(texts, means.exp(), strict=True)]

    def _inputs(self, images: Sequence[Image.Image]) -> Any:
        if not getattr(self.processor, "chat_template", None):
            return self.processor(images=list(images), return_tensors="pt")
        content = [{"type": "image"}, {"type": "text", "text": PROMPT}]
        prompt = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        prompts = [prompt] * len(images)
        return self.processor(images=[[image] for image in images], text=prompts, padding=True,
                              return_tensors="pt")  # fmt: skip


class _WritingLineModel(_LineModel):
    """TrOCR: an image encoder and a decoder that writes one line."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.writer = _TokenReader(name, "AutoModelForImageTextToText")

    def read(self, lines: Sequence[Image.Image]) -> list[tuple[str, float]]:
        return self.writer.write(lines, _MAX_LINE_TOKENS)


class _PageModel:
    """A model that writes the text of a whole image."""

    def __init__(self, name: str) -> None:
        self.writer = _TokenReader(name, "AutoModelForImageTextToText")

    def recognize(self, images: Sequence[Image.Image]) -> list[list[Region]]:
        results = []
        for image in images:
            ((text, confidence),) = self.writer.write([image], _MAX_PAGE_TOKENS)
            lines = [line.strip() for line in text.splitlines()]
            results.append([Region(line, None, None, "line", confidence) for line in lines if line])
        return results


def _reader(name: str, config: Any) -> _LineModel | _PageModel:
    """Return the reader for a model, by the type of its configuration."""
    from transformers.models.auto import modeling_auto

    if config.model_type in getattr(modeling_auto, "MODEL_FOR_TEXT_RECOGNITION_MAPPING_NAMES", ()):
        return _CtcModel(name)
    if getattr(getattr(config, "decoder", None), "model_type", "") == "trocr":
        return _WritingLineModel(name)
    return _PageModel(name)


def _load_config(name: str) -> Any:
    """Load the configuration of a checkpoint; code from it is not run. Raises NotFound."""
    from transformers import AutoConfig

    with _readable_errors(name):
        return AutoConfig.from_pretrained(name, trust_remote_code=False, local_files_only=True)


def _load_processor(auto_processor: Any, name: str, **options: Any) -> Any:
    """Load the processor of a checkpoint; code from it is not run. Raises NotFound."""
    with _readable_errors(name):
        return auto_processor.from_pretrained(
            name, trust_remote_code=False, local_files_only=True, **options
        )


def _load_model(auto_class: str, name: str) -> Any:
    """Load the weights of a checkpoint; code from it is not run. Raises NotFound."""
    import transformers

    with _readable_errors(name):
        model = getattr(transformers, auto_class).from_pretrained(
            name, trust_remote_code=False, local_files_only=True, use_safetensors=True
        )
    return model.eval().to(device())


@contextmanager
def _readable_errors(name: str) -> Iterator[None]:
    """Raise NotFound, which names the checkpoint, if Transformers can't load it."""
    try:
        yield
    except _LOAD_ERRORS as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise NotFound(
            f'The text recognizer "{name}" can\'t be loaded: {lines[0][:300].rstrip(".")}. Give '
            '"rapidocr", or a folder of a model of Transformers that reads text, or the hub name '
            f"of one that was downloaded (hf download {name})."
        ) from None


def _content(name: str, config: Any) -> str:
    """Return the commit of a checkpoint, or a hash of the sizes and times of its files."""
    commit = getattr(config, "_commit_hash", None)
    if commit:
        return str(commit)
    states = [
        f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}"
        for path in sorted(Path(name).expanduser().glob("*"))
        if path.is_file()
    ]
    return hashlib.sha256("\n".join(states).encode()).hexdigest()[:16]
