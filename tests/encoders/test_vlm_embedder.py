"""Vision-language embedders of sentence-transformers: Qwen3-VL-Embedding and similar models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ravlm.encoders.auto import DualEncoder
from ravlm.encoders.base import Role
from ravlm.encoders.sentence_transformer import SentenceTransformerEncoder
from ravlm.errors import Mismatch
from tests.encoders.conformance import TEXTS, cosines, draw_image
from tests.helpers.embedder_checkpoints import (
    INSTRUCTIONS,
    jina_clip,
    last_token_states,
    qwen3_vl_embedding,
)

pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
IMAGES = [draw_image(60, 40, 1), draw_image(33, 90, 2), draw_image(16, 16, 3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return qwen3_vl_embedding(tmp_path_factory.mktemp("vlm") / "model")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> SentenceTransformerEncoder:
    encoder = DualEncoder.load(folder)
    assert isinstance(encoder, SentenceTransformerEncoder)
    return encoder


@pytest.mark.parametrize("role", INSTRUCTIONS)
def test_numbers_are_those_of_transformers(
    role: Role, folder: Path, encoder: SentenceTransformerEncoder
) -> None:
    """Every model with a video processor was refused: "requested pil backend is not available"."""
    assert encoder.dim == 32
    assert encoder.is_asymmetric
    contents: list[Any] = [*TEXTS, *IMAGES]
    expected = last_token_states(folder, contents, INSTRUCTIONS[role])
    texts = encoder.encode_texts(TEXTS, role=role)
    images = encoder.encode_images(IMAGES, role=role)
    assert cosines(np.concatenate([texts, images]), expected).min() > 0.999
    assert np.abs(np.triu(expected @ expected.T, 1))[[1, 6, 7]].max() < 0.99  # inputs differ


def test_passages_leave_room_for_prompt_and_template(encoder: SentenceTransformerEncoder) -> None:
    """A passage that filled the tower lost its end to the chat template."""
    passage = encoder.passages("word " * 300)[0]
    added = encoder._num_added_tokens()
    assert added > 50
    inputs = encoder._model.preprocess([passage], prompt="", task="document")
    assert 200 < inputs["input_ids"].shape[1] <= 400


def test_a_missing_weight(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = qwen3_vl_embedding(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    name = next(key for key in weights if key.endswith("layers.1.mlp.up_proj.weight"))
    del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Mismatch, match=r"missing: .*layers\.1\.mlp\.up_proj"):
        DualEncoder.load(folder)


def test_a_processor_that_needs_torchvision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images of some models are prepared by torchvision only; the message says so."""
    from transformers.models.auto import image_processing_auto

    names = image_processing_auto.IMAGE_PROCESSOR_MAPPING_NAMES
    monkeypatch.setitem(names, "qwen3_vl", {"torchvision": "Qwen2VLImageProcessor"})
    monkeypatch.setattr("transformers.utils.is_torchvision_available", lambda: False)
    with pytest.raises(Mismatch, match='"qwen3_vl" model, needs the package "torchvision"'):
        DualEncoder.load(qwen3_vl_embedding(tmp_path / "model"))


def test_custom_code_is_not_run(tmp_path: Path) -> None:
    """Jina-CLIP was refused with a sentence of Transformers on `trust_remote_code`."""
    folder = jina_clip(tmp_path / "jina")
    with pytest.raises(Mismatch, match=r"needs custom code, which is not run .*JinaCLIPConfig"):
        DualEncoder.load(folder)
    modules = [{"idx": 0, "name": "0", "path": "", "type": "custom_st.Transformer"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(Mismatch, match=r"needs custom code, which is not run \(custom_st"):
        DualEncoder.load(folder)
