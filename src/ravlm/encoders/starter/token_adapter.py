"""Read other languages with the English network: the multilingual network's tokens become words.

A small map turns the features of each token into a word embedding of all-MiniLM-L6-v2, whose layers
stay as they are. Words that translate each other have similar features, so languages without
training data are read, too. Source: Artetxe, Ruder and Yogatama 2020 (arXiv:1910.11856: new word
embeddings under a frozen English network).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ravlm.encoders.starter import minilm, multilingual

MAX_TOKENS = minilm.MAX_TOKENS - 2
"""Tokens of a text that count."""


def adapter_shapes(hidden_dim: int) -> dict[str, tuple[int, ...]]:
    """Return name and shape of an adapter's arrays.

    `adapter.edges` are added to the embeddings of the two special tokens. `adapter.least_shares`:
    the least share of the multilingual reading of a document, of one that was glossed, and of a
    query; there are fewer queries, so both networks read them.
    """
    return {
        "adapter.mean": (multilingual.WIDTH,),
        "adapter.deviation": (multilingual.WIDTH,),
        "adapter.linear": (multilingual.WIDTH, minilm.WIDTH),
        "adapter.inner": (multilingual.WIDTH, hidden_dim),
        "adapter.inner_bias": (hidden_dim,),
        "adapter.outer": (hidden_dim, minilm.WIDTH),
        "adapter.outer_bias": (minilm.WIDTH,),
        "adapter.edges": (2, minilm.WIDTH),
        "adapter.least_shares": (3,),
    }


def gelu(x: np.ndarray) -> np.ndarray:
    """Return the GELU of x in its tanh form, which is within 0.0005 of the exact one."""
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def adapt(tokens: np.ndarray, weights: Mapping[str, np.ndarray]) -> np.ndarray:
    """Map token features (n, tokens, 512) to word embeddings (n, tokens + 2, 384) of sentences,
    with those of the special tokens around them."""
    x = (tokens - weights["adapter.mean"]) / weights["adapter.deviation"]
    inner = gelu(x @ weights["adapter.inner"] + weights["adapter.inner_bias"])
    words = x @ weights["adapter.linear"] + inner @ weights["adapter.outer"]
    words += weights["adapter.outer_bias"]
    first, last = (
        np.broadcast_to(edge, (len(tokens), 1, minilm.WIDTH)) for edge in weights["adapter.edges"]
    )
    return np.concatenate([first, words, last], axis=1)
