"""The starter's two networks, run by ONNX Runtime: pixels and words to pooled features.

The graphs are made once from the packages' weights and kept in the user's cache folder; torch is
needed only for that. ONNX Runtime was 3.2 times plain PyTorch on a slow machine, with equal output.
Knows nothing of heads and vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ravlm import runtime
from ravlm.encoders.chunking import passages
from ravlm.encoders.starter import minilm
from ravlm.errors import MissingExtra
from ravlm.files import atomic_write

GRAPHS = "3"
"""Version of the graphs' construction: raised with every change, so that no old graph is used."""
Arrays = Mapping[str, np.ndarray]


class ImageBackbone:
    """EfficientNet-Lite2: uint8 pixels (n, size, size, 3) to pooled features (n, 1280).

    `opened`: trained last stages (arrays of `efficientnet.LastStage`), whose features are had
    beside its own."""

    source = "efficientnet-lite2 9656183eaeafe8cb"

    def __init__(self, opened: Sequence[Arrays] = ()) -> None:
        self.opened = opened

    @cached_property
    def session(self) -> Any:
        """The ONNX Runtime session: input "pixels"; outputs as `efficientnet.onnx_bytes` says."""

        def build() -> bytes:
            from ravlm.encoders.starter import efficientnet

            return efficientnet.onnx_bytes(
                efficientnet.load_network(efficientnet.weights_file()), self.opened
            )

        return _session(self.source, self.opened, build)

    def pooled(self, pixels: np.ndarray) -> np.ndarray:
        """The mean of the last grid, float32 (n, 1280)."""
        return self.session.run(["pooled"], {"pixels": pixels})[0]

    def features(self, pixels: np.ndarray) -> list[np.ndarray]:
        """The pooled features and those of each opened stage, (n, 1280) each."""
        return self.session.run(_names(self.opened), {"pixels": pixels})


class TextBackbone:
    """all-MiniLM-L6-v2: texts to pooled features (n, 384). `opened`: trained last layers, as for
    images."""

    source = f"all-minilm-l6-v2 {minilm.WEIGHTS_SHA256[:16]}"

    def __init__(self, opened: Sequence[Arrays] = ()) -> None:
        self.opened = opened

    @cached_property
    def session(self) -> Any:
        """The ONNX Runtime session: inputs "ids" and "mask"; outputs as `minilm.onnx_bytes`
        says."""

        def build() -> bytes:
            return minilm.onnx_bytes(minilm.load_weights(minilm.model_folder()), self.opened)

        return _session(self.source, self.opened, build)

    @cached_property
    def _tokenizer(self) -> Any:
        return minilm.load_tokenizer(minilm.model_folder())

    @property
    def ranks(self) -> dict[str, int]:
        """Rank of each word of the vocabulary: common words come first."""
        return self._tokenizer.get_vocab()

    def pooled(self, texts: Sequence[str], batch_size: int = 64) -> np.ndarray:
        """The mean of the last token states, float32 (n, 384)."""
        return self.features(texts, batch_size)[0]

    def features(self, texts: Sequence[str], batch_size: int = 64) -> list[np.ndarray]:
        """The pooled features and those of each opened pair of layers, (n, 384) each."""
        found = [
            np.zeros((len(texts), minilm.WIDTH), np.float32) for _ in range(1 + len(self.opened))
        ]
        for rows, values in self.run(texts, _names(self.opened), batch_size):
            for array, value in zip(found, values, strict=True):
                array[rows] = value
        return found

    def run(
        self, texts: Sequence[str], outputs: Sequence[str], batch_size: int = 64
    ) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """Batches of texts of like length: which rows of `texts` (n,), and the network's outputs
        for them."""
        pieces = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        for rows in alike(np.array([len(p) for p in pieces], np.int64), batch_size):
            ids, mask = minilm.pad([pieces[row] for row in rows])
            yield rows, self.session.run(list(outputs), {"ids": ids, "mask": mask})

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        """Word pieces of each text, special ones included, as `run` reads them: (n,)."""
        return np.array(
            [len(encoding.ids) for encoding in self._tokenizer.encode_batch(list(texts))]
        )

    def passages(self, text: str, gloss: Callable[[str], str]) -> list[str]:
        """`text` in pieces that fit when glossed: whole sentences where they fit, else whole
        words."""
        return passages(text, lambda piece: self._fits(gloss(piece)))

    def _fits(self, text: str) -> bool:
        return not self._tokenizer.encode(text).overflowing


def alike(lengths: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Rows (n,) in batches, short ones first; none is a quarter longer than its batch's shortest:
    what is padded is computed too, and one long text among short ones once made all of them
    dear."""
    order = np.argsort(lengths, kind="stable")
    while len(order):
        fit = np.searchsorted(lengths[order[:batch_size]], 1.25 * lengths[order[0]], side="right")
        yield order[:fit]
        order = order[fit:]


def _names(opened: Sequence[Arrays]) -> list[str]:
    return ["pooled", *(f"opened{i}" for i in range(len(opened)))]


def _session(source: str, opened: Sequence[Arrays], build: Callable[[], bytes]) -> Any:
    """An ONNX Runtime session over the graph of `source`, built into the cache folder when it is
    not there."""
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtra("onnxruntime", "starter", 'The encoder "starter"') from None
    name = f"{source.replace(' ', '-')}-{GRAPHS}"
    if opened:
        digest = hashlib.sha256()
        for arrays in opened:
            for key in sorted(arrays):
                digest.update(key.encode() + np.ascontiguousarray(arrays[key]).tobytes())
        name += f"-{digest.hexdigest()[:16]}"
    path = runtime.cache_folder() / f"{name}.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = runtime.cpu_count()
    options.log_severity_level = 3
    if path.is_file():
        try:
            return onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except onnxruntime.capi.onnxruntime_pybind11_state.InvalidProtobuf:
            path.unlink()  # a damaged cache costs a rebuild, nothing else
    graph = build()
    with atomic_write(path) as aside:
        aside.write_bytes(graph)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
