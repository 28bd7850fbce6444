"""The English network reads the multilingual network's tokens."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from ravlm.encoders.auto import DualEncoder
from ravlm.encoders.starter import minilm
from ravlm.encoders.starter.backbones import TextBackbone
from ravlm.encoders.starter.encoder import StarterEncoder
from ravlm.encoders.starter.token_adapter import adapt, adapter_shapes, gelu

HIDDEN = 8


@pytest.fixture(scope="module")
def starter() -> StarterEncoder:
    encoder = DualEncoder.load("starter")
    assert isinstance(encoder, StarterEncoder)
    return encoder


def random_adapter(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = adapter_shapes(HIDDEN).items()
    arrays = {name: rng.normal(scale=0.05, size=shape).astype(np.float32) for name, shape in shapes}
    return {
        **arrays,
        "adapter.deviation": np.ones(512, np.float32),
        "adapter.least_shares": np.array([0.15, 0.8, 0.5], np.float32),
    }


def test_gelu_is_close_to_the_exact_one() -> None:
    x = np.linspace(-5, 5, 1001)
    exact = np.array([0.5 * value * (1 + math.erf(value / math.sqrt(2))) for value in x])
    assert np.abs(gelu(x) - exact).max() < 0.0005


def test_embeddings_of_words_are_read_as_the_words() -> None:
    """Whoever gives the network the embeddings that it has itself gets its own features."""
    texts = ["a dog runs", "two children play in the snow at night"]
    table = minilm.load_weights(minilm.model_folder())["embeddings.word_embeddings.weight"]
    tokenizer = minilm.load_tokenizer(minilm.model_folder())
    embeddings = []
    for text in texts:
        words = table[tokenizer.encode(text).ids[1:-1]] - table[0]
        embeddings.append(np.pad(words, ((1, 1), (0, 0))))
    backbone = TextBackbone()
    (expected,), (features,) = backbone.features(texts), backbone.embedded_features(embeddings)
    assert np.abs(features - expected).max() < 1e-5


def test_the_adapter_maps_tokens_and_adds_the_edges() -> None:
    weights = random_adapter(0)
    tokens = np.random.default_rng(1).normal(size=(2, 3, 512)).astype(np.float32)
    words = adapt(tokens, weights)
    assert words.shape == (2, 5, 384)
    assert np.allclose(words[:, 0], weights["adapter.edges"][0])
    assert np.allclose(words[:, -1], weights["adapter.edges"][1])
    x = tokens[1, 2] - weights["adapter.mean"]
    inner = gelu(x @ weights["adapter.inner"] + weights["adapter.inner_bias"])
    expected = x @ weights["adapter.linear"] + inner @ weights["adapter.outer"]
    assert np.allclose(words[1, 3], expected + weights["adapter.outer_bias"], atol=1e-4)


def test_only_what_the_english_network_does_not_read_is_read_again(
    starter: StarterEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(starter.config, adapter_hidden_dim=HIDDEN)
    encoder = StarterEncoder(config, {**starter.weights, **random_adapter(2)})
    read: list[str] = []
    features = encoder._adapted_features

    def remember(texts: list[str]) -> list[np.ndarray]:
        read.extend(texts)
        return features(texts)

    monkeypatch.setattr(encoder, "_adapted_features", remember)
    texts = ["a dog runs on the beach", "ein Hund rennt am Strand", "狗在沙滩上跑", "🙂", ""]
    vectors = encoder.encode_texts(texts)
    assert read[:2] == ["ein Hund rennt am Strand", "狗在沙滩上跑"]
    assert "a dog runs on the beach" not in read
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    read.clear()
    as_query = encoder.encode_texts(texts[:1], role="query")
    assert read == texts[:1]
    assert encoder.asymmetric == ("text",)
    assert 0.5 < float(as_query[0] @ vectors[0]) < 0.999
    alone = np.concatenate([encoder.encode_texts([text]) for text in texts])
    assert np.abs(vectors - alone).max() < 2e-5


def test_many_texts_are_read_a_part_at_a_time(
    starter: StarterEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embeddings of 100,000 captions would take gigabytes."""
    texts = ["ein Hund", "eine rote Tasse", "zwei Kinder am Strand"]
    expected = starter.encode_texts(texts)
    monkeypatch.setattr("ravlm.encoders.starter.encoder._TEXTS_AT_ONCE", 2)
    assert np.abs(starter.encode_texts(texts) - expected).max() < 2e-5
