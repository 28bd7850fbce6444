"""The starter's two networks, run by ONNX Runtime: pixels and words to pooled features.

The graphs are made once from the packages' weights and kept in the user's cache folder; torch is needed only for that.
ONNX Runtime was 3.2 times plain PyTorch on a slow machine, with equal output. Knows nothing of heads and vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ravlm import runtime
from ravlm.checkpoint import written_aside
from ravlm.encoders import minilm
from ravlm.encoders.passages import passages
from ravlm.errors import MissingExtra

GRAPHS = "1"
"""Version of the graphs' construction: raised with every change, so that no old graph is used."""


class ImageBackbone:
    """EfficientNet-Lite2: uint8 pixels (n, size, size, 3) to pooled features (n, 1280)."""

    source = "efficientnet-lite2 9656183eaeafe8cb"

    @cached_property
    def _session(self) -> Any:
        def build() -> bytes:
            from ravlm.encoders import efficientnet

            return efficientnet.onnx_bytes(efficientnet.load_network(efficientnet.weights_file()))

        return _session(self.source, build)

    def pooled(self, pixels: np.ndarray) -> np.ndarray:
        """The mean of the last grid, float32 (n, 1280)."""
        return self._session.run(["pooled"], {"pixels": pixels})[0]


class TextBackbone:
    """all-MiniLM-L6-v2: texts to pooled features (n, 384)."""

    source = f"all-minilm-l6-v2 {minilm.WEIGHTS_SHA256[:16]}"

    @cached_property
    def _session(self) -> Any:
        return _session(self.source, lambda: minilm.onnx_bytes(minilm.load_weights(minilm.model_folder())))

    @cached_property
    def _tokenizer(self) -> Any:
        return minilm.load_tokenizer(minilm.model_folder())

    @property
    def ranks(self) -> dict[str, int]:
        """Rank of each word of the vocabulary: common words come first."""
        return self._tokenizer.get_vocab()

    def pooled(self, texts: Sequence[str], batch_size: int = 64) -> np.ndarray:
        """The mean of the last token states, float32 (n, 384); batches hold texts of like length."""
        pieces = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        result = np.zeros((len(pieces), minilm.WIDTH), np.float32)
        order = np.argsort([len(p) for p in pieces], kind="stable")
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            ids, mask = minilm.pad([pieces[row] for row in rows])
            result[rows] = self._session.run(["pooled"], {"ids": ids, "mask": mask})[0]
        return result

    def passages(self, text: str, gloss: Callable[[str], str]) -> list[str]:
        """`text` in pieces that fit when glossed: whole sentences where they fit, else whole words."""
        return passages(text, lambda piece: self._fits(gloss(piece)))

    def _fits(self, text: str) -> bool:
        return not self._tokenizer.encode(text).overflowing


def _session(source: str, build: Callable[[], bytes]) -> Any:
    """An ONNX Runtime session over the graph of `source`, built into the cache folder when it is not there."""
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtra("onnxruntime", "starter", 'The encoder "starter"') from None
    path = runtime.cache_folder() / f"{source.replace(' ', '-')}-{GRAPHS}.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = runtime.cpu_count()
    options.log_severity_level = 3
    if path.is_file():
        try:
            return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except onnxruntime.capi.onnxruntime_pybind11_state.InvalidProtobuf:
            path.unlink()  # a damaged cache costs a rebuild, nothing else
    _keep(path, build())
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _keep(path: Path, graph: bytes) -> None:
    with written_aside(path) as aside:
        aside.write_bytes(graph)
