"""Multi-vector models of sentence-transformers give the vectors of their own package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ravlm.encoders.auto import DualEncoder
from ravlm.encoders.sentence_multi_vector import SentenceMultiVectorEncoder
from ravlm.errors import Mismatch
from tests.encoders.conformance import draw_image
from tests.encoders.test_colpali import QUERIES
from tests.helpers import encoder_checkpoints
from tests.helpers.multi_vector_checkpoints import colpali

sentence_transformers = pytest.importorskip(
    "sentence_transformers", reason="sentence-transformers is not installed"
)
IMAGES = [draw_image(60, 90, 1).convert("RGB"), draw_image(40, 40, 2).convert("RGB")]


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / lengths)


def test_vectors_are_those_of_the_package(tmp_path: Path) -> None:
    """And, for a model that Transformers has a class for, those of `ColPaliEncoder`."""
    folder = colpali(tmp_path / "colpali")
    model = sentence_transformers.MultiVectorEncoder(str(folder))
    model.save(str(tmp_path / "model"), create_model_card=False)
    encoder = DualEncoder.load(tmp_path / "model")
    assert isinstance(encoder, SentenceMultiVectorEncoder)
    assert (encoder.dim, encoder.token_pooling, encoder.is_asymmetric) == (16, 1, True)
    queries = encoder.encode_text_tokens(QUERIES, role="query")
    pages = encoder.encode_image_tokens(IMAGES)
    bare = DualEncoder.load(folder)
    for tokens, expected, again in (
        (queries, model.encode_query(QUERIES, convert_to_numpy=True),
         bare.encode_text_tokens(QUERIES, role="query")),
        (pages, model.encode_document(IMAGES, convert_to_numpy=True),
         bare.encode_image_tokens(IMAGES)),
    ):  # fmt: skip
        for row in range(2):
            assert tokens[row].shape == expected[row].shape == again[row].shape
            assert cosines(tokens[row], np.asarray(expected[row], np.float32)).min() > 0.999
            assert cosines(tokens[row], again[row]).min() > 0.999
    encoder.save(tmp_path / "copy")
    assert DualEncoder.load(tmp_path / "copy").fingerprint == encoder.fingerprint


def test_a_model_that_reads_texts_only(tmp_path: Path) -> None:
    model = sentence_transformers.MultiVectorEncoder(str(encoder_checkpoints.bert(tmp_path / "b")))
    model.save(str(tmp_path / "model"), create_model_card=False)
    with pytest.raises(Mismatch, match="reads text only"):
        DualEncoder.load(tmp_path / "model")


def test_a_model_without_pooling_is_no_dual_encoder(tmp_path: Path) -> None:
    """It was a KeyError: its vectors are those of tokens, and nothing says how to compare them."""
    from sentence_transformers.base.modules import Transformer

    inner = Transformer(str(colpali(tmp_path / "colpali")), transformer_task="retrieval")
    model = sentence_transformers.SentenceTransformer(modules=[inner])
    model.save(str(tmp_path / "model"), create_model_card=False)
    with pytest.raises(Mismatch, match="several vectors for a text"):
        DualEncoder.load(tmp_path / "model")
