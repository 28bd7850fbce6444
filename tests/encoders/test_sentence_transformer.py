"""Models of sentence-transformers give the vectors of their own package."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from ravlm.encoders.auto import DualEncoder
from ravlm.encoders.base import Encoder
from ravlm.encoders.clip import ClipEncoder
from ravlm.encoders.sentence_transformer import SentenceTransformerEncoder
from ravlm.errors import BrokenData, Mismatch, MissingExtra
from tests.encoders.conformance import TEXTS, cosines, draw_image
from tests.helpers import encoder_checkpoints

IMAGES = [draw_image(150, 100, 1), draw_image(70, 200, 2), draw_image(32, 32, 3)]

sentence_transformers = pytest.importorskip(
    "sentence_transformers", reason="sentence-transformers is not installed"
)


def compare(encoder: Encoder, folder: Path) -> None:
    model = sentence_transformers.SentenceTransformer(str(folder))
    model.max_seq_length = 24
    for vectors, expected in (
        (encoder.encode_images(IMAGES), model.encode(IMAGES, normalize_embeddings=True)),
        (encoder.encode_texts(TEXTS), model.encode(list(TEXTS), normalize_embeddings=True)),
    ):
        assert vectors.shape == expected.shape
        assert cosines(vectors, expected).min() >= 0.999


def test_a_model_of_several_modules(tmp_path: Path) -> None:
    folder = encoder_checkpoints.sentence(tmp_path / "model")
    encoder = DualEncoder.load(folder)
    assert isinstance(encoder, SentenceTransformerEncoder)
    assert encoder.dim == 12
    compare(encoder, folder)


@pytest.mark.parametrize("place", ["", "0_CLIPModel"])
def test_a_plain_clip_model_runs_as_clip_encoder(place: str, tmp_path: Path) -> None:
    """Models from before 2026 keep their CLIP in a subfolder."""
    from sentence_transformers import SentenceTransformer

    SentenceTransformer(str(encoder_checkpoints.clip(tmp_path / "clip"))).save(
        str(tmp_path / "model"), create_model_card=False
    )
    if place:
        (tmp_path / "model" / place).mkdir()
        for path in encoder_checkpoints.clip(tmp_path / "clip").iterdir():
            (tmp_path / "model" / path.name).unlink()
            shutil.copy(path, tmp_path / "model" / place)
        modules = json.loads((tmp_path / "model" / "modules.json").read_text())
        modules[0] |= {"path": place, "type": "sentence_transformers.models.CLIPModel"}
        (tmp_path / "model" / "modules.json").write_text(json.dumps(modules))
    encoder = DualEncoder.load(tmp_path / "model")
    assert isinstance(encoder, ClipEncoder)
    compare(encoder, tmp_path / "model")
    encoder.save(tmp_path / "copy")
    assert DualEncoder.load(tmp_path / "copy").fingerprint == encoder.fingerprint


def test_a_model_that_reads_texts_only(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    text_model = Transformer(str(encoder_checkpoints.bert(tmp_path / "bert")))
    SentenceTransformer(modules=[text_model, Pooling(32)]).save(
        str(tmp_path / "model"), create_model_card=False
    )
    with pytest.raises(Mismatch, match="reads text only"):
        DualEncoder.load(tmp_path / "model")


def test_a_missing_weight(tmp_path: Path) -> None:
    """sentence-transformers itself continues with random weights."""
    from safetensors.torch import load_file, save_file

    folder = encoder_checkpoints.sentence(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Mismatch, match=r"missing: text_projection\.weight"):
        DualEncoder.load(folder)


def test_damaged_modules(tmp_path: Path) -> None:
    folder = encoder_checkpoints.sentence(tmp_path / "model")
    (folder / "1_Dense" / "model.safetensors").unlink()
    with pytest.raises(Mismatch, match="can't be loaded by sentence-transformers"):
        DualEncoder.load(folder)
    (folder / "modules.json").write_text("[]")
    with pytest.raises(BrokenData, match="not a valid list of modules"):
        DualEncoder.load(folder)


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = encoder_checkpoints.sentence(tmp_path / "model")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(
        MissingExtra, match=r'needs the package "sentence-transformers".*"ravlm\[hub\]"'
    ):
        DualEncoder.load(folder)


PROMPTS = {"query": "find: ", "document": "text: "}


def with_prompts(folder: Path, prompts: dict[str, str], default: str | None = None) -> Path:
    """Write a model with prompts, as the authors of a model do."""
    encoder_checkpoints.sentence(folder)
    path = folder / "config_sentence_transformers.json"
    config = json.loads(path.read_text()) | {"prompts": prompts, "default_prompt_name": default}
    path.write_text(json.dumps(config))
    return folder


def test_queries_and_documents_have_their_prompts(tmp_path: Path) -> None:
    """Prompts were ignored: questions and passages were encoded alike."""
    folder = with_prompts(tmp_path / "model", PROMPTS)
    encoder = DualEncoder.load(folder)
    assert encoder.is_asymmetric
    model = sentence_transformers.SentenceTransformer(str(folder))
    model.max_seq_length = 24
    texts = list(TEXTS)
    for role, expected in (
        ("query", model.encode_query(texts, normalize_embeddings=True)),
        ("document", model.encode_document(texts, normalize_embeddings=True)),
    ):
        assert cosines(encoder.encode_texts(texts, role=role), expected).min() >= 0.9995
    query, document = (encoder.encode_texts(["a cat"], role=role) for role in PROMPTS)
    assert cosines(query, document)[0] < 0.998


@pytest.mark.parametrize(
    ("prompts", "default", "query", "document"),
    [
        ({}, None, "", ""),
        ({"query": "q: ", "passage": "p: "}, None, "q: ", "p: "),
        ({"query": "q: ", "document": ""}, "query", "q: ", ""),
        ({"clustering": "c: "}, "clustering", "c: ", "c: "),
    ],
)
def test_which_prompt_a_role_has(
    prompts: dict[str, str], default: str | None, query: str, document: str, tmp_path: Path
) -> None:
    """A base that was built without roles keeps its encoder if documents have the same vectors."""
    encoder = DualEncoder.load(with_prompts(tmp_path / "model", prompts, default))
    assert isinstance(encoder, SentenceTransformerEncoder)
    assert encoder._prompts == {"query": query, "document": document}
    assert encoder.is_asymmetric is (query != document)
    former = encoder._model.encode(["a cat"]).astype(np.float32)
    former /= np.linalg.norm(former)
    is_same = bool(cosines(encoder.encode_texts(["a cat"]), former)[0] > 0.9999)
    encoder._prompts["document"] = prompts.get(default or "", "")
    assert (encoder.fingerprint == DualEncoder.load(tmp_path / "model").fingerprint) is is_same


def test_a_plain_clip_model_with_prompts(tmp_path: Path) -> None:
    """It ran as `ClipEncoder`, which has no prompts. A base built with that keeps it."""
    from sentence_transformers import SentenceTransformer

    clip = encoder_checkpoints.clip(tmp_path / "clip")
    SentenceTransformer(str(clip), prompts={"query": "find: "}).save(
        str(tmp_path / "model"), create_model_card=False
    )
    encoder = DualEncoder.load(tmp_path / "model")
    assert isinstance(encoder, SentenceTransformerEncoder)
    query, document = (encoder.encode_texts(["a cat"], role=role) for role in PROMPTS)
    assert cosines(query, document)[0] < 0.998
    expected = encoder._model.encode_query(["a cat"]).astype(np.float32)
    assert cosines(query, expected / np.linalg.norm(expected))[0] > 0.9995
    earlier = ClipEncoder(tmp_path / "model", str(tmp_path / "model"))
    assert isinstance(encoder.former(earlier.fingerprint), ClipEncoder)
    assert encoder.former("of another model") is None
