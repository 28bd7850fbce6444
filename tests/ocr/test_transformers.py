"""Text recognition by tiny checkpoints of Transformers: what they read is nonsense, in due form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("transformers", reason="transformers is not installed")

from ravlm.ocr import transformers as engine
from ravlm.ocr.auto import load_recognizer
from ravlm.ocr.rapidocr import RapidOcrRecognizer
from tests.helpers.chat_checkpoints import llava, seeded, tokenizer

WORDS = ("a", "cat", "sat", "total", "of", "ten")


def trocr(folder: Path) -> Path:
    """Write a ViT with a TrOCR decoder, two layers of 16 numbers."""
    from transformers import (
        TrOCRConfig,
        TrOCRForCausalLM,
        TrOCRProcessor,
        VisionEncoderDecoderModel,
        ViTConfig,
        ViTImageProcessorPil,
        ViTModel,
    )

    words = tokenizer(["<pad>", "<s>", "</s>"], WORDS, bos_token="<s>")
    size = {"height": 32, "width": 32}
    encoder = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        image_size=32, patch_size=16,
    )  # fmt: skip
    decoder = TrOCRConfig(
        vocab_size=len(words), d_model=16, decoder_layers=1, decoder_attention_heads=2,
        decoder_ffn_dim=32, max_position_embeddings=64, cross_attention_hidden_size=16,
        pad_token_id=words.pad_token_id, bos_token_id=words.bos_token_id, eos_token_id=None,
    )  # fmt: skip
    model = seeded(
        lambda: VisionEncoderDecoderModel(
            encoder=ViTModel(encoder, add_pooling_layer=False), decoder=TrOCRForCausalLM(decoder)
        )
    )
    model.config.decoder_start_token_id = words.bos_token_id
    model.generation_config.decoder_start_token_id = words.bos_token_id
    model.config.pad_token_id = model.generation_config.pad_token_id = words.pad_token_id
    model.save_pretrained(folder)
    processor = TrOCRProcessor(image_processor=ViTImageProcessorPil(size=size), tokenizer=words)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def _detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two lines on each image, the lower one first."""

    def detect(self: RapidOcrRecognizer, image: Image.Image) -> tuple[list[np.ndarray], np.ndarray]:
        boxes = [(10, 60, 90, 80), (10, 20, 60, 40)]
        corners = np.array([[(a, b), (c, b), (c, d), (a, d)] for a, b, c, d in boxes], float)
        pixels = np.asarray(image)[:, :, ::-1]
        return [pixels[top:bottom, left:right] for left, top, right, bottom in boxes], corners

    monkeypatch.setattr(RapidOcrRecognizer, "__init__", lambda self: None)
    monkeypatch.setattr(RapidOcrRecognizer, "detect_lines", detect)
    monkeypatch.setattr(engine, "_MAX_LINE_TOKENS", 5)
    monkeypatch.setattr(engine, "_MAX_PAGE_TOKENS", 5)
    monkeypatch.setattr("ravlm.ocr.lines._MIN_LINE_CONFIDENCE", 0.0)


def picture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (100, 100, 3), np.uint8)
    return Image.fromarray(pixels)


def test_a_model_of_lines_reads_what_the_detector_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = engine._TokenReader.write
    monkeypatch.setattr(  # the model may write blanks only
        engine._TokenReader, "write", lambda *args: [(f"x{t}", p) for t, p in write(*args)]
    )
    recognizer = load_recognizer(str(trocr(tmp_path / "model")))
    first, second = recognizer.recognize([picture(0), picture(1)])
    for regions in (first, second):
        lines = [region for region in regions if region.text]
        boxes = [line.box for line in lines]
        assert boxes == [(0.1, 0.2, 0.6, 0.4), (0.1, 0.6, 0.9, 0.8)]  # from top to bottom
        assert all(0 < line.confidence < 1 for line in lines)
    assert recognizer.recognize([picture(1)]) == [second]
    same = load_recognizer(str(tmp_path / "model")).fingerprint
    assert same == recognizer.fingerprint
    (tmp_path / "model" / "notes.txt").write_text("another state of the folder")
    assert load_recognizer(str(tmp_path / "model")).fingerprint != same


def test_a_model_of_pages_gives_lines_without_boxes(tmp_path: Path) -> None:
    recognizer = load_recognizer(str(llava(tmp_path, WORDS)))
    (regions,) = recognizer.recognize([picture(0)])
    assert regions
    assert all(region.box is None and region.kind == "line" for region in regions)
    assert all(0 < region.confidence < 1 for region in regions)
