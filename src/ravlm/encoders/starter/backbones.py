"""The starter's two backbones, run by ONNX Runtime: pixels and texts to pooled features.

The graphs are built once from the packages' weights and cached in the user's cache folder. Nothing
here needs torch. ONNX Runtime was 3.2 times as fast as plain PyTorch on a slow machine, with equal
output.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

import numpy as np

from ravlm import runtime
from ravlm.data.text import check_unicode
from ravlm.encoders.chunking import split_passages
from ravlm.encoders.starter import efficientnet, minilm
from ravlm.encoders.vector_cache import store_file, undamaged_files
from ravlm.errors import MissingExtra

GRAPH_VERSION = "5"
"""Raise it whenever the graphs change, so that no old graph in a cache is used."""
StageWeights = Mapping[str, np.ndarray]
"""Arrays of a backbone's last stage, trained by ravlm."""
_MAX_LENGTH_RATIO = 1.25
_EFFICIENT_BATCH = 16
"""Texts with which a batch is as fast per text as a larger one. 640 captions took 11 % less time in
batches of one length than with 6 % padding."""


class ImageBackbone:
    """EfficientNet-Lite2: uint8 pixels (n, size, size, 3) to pooled features (n, 1280).

    `stages`: trained last stages (arrays of `efficientnet_torch.LastStage`), computed in addition.
    """

    source = "efficientnet-lite2 9656183eaeafe8cb"

    def __init__(self, stages: Sequence[StageWeights] = ()) -> None:
        self.stages = stages

    @cached_property
    def session(self) -> Any:
        """The ONNX Runtime session: input "pixels", outputs as in `efficientnet.onnx_bytes`."""

        def build() -> bytes:
            weights = efficientnet.load_weights(efficientnet.weights_file())
            return efficientnet.onnx_bytes(weights, self.stages)

        return cached_session(self.source, self.stages, build)

    def pooled(self, pixels: np.ndarray) -> np.ndarray:
        """Return the mean of the last grid, float32 (n, 1280)."""
        return self.session.run(["pooled"], {"pixels": pixels})[0]

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs of `features`."""
        return _output_names(self.stages)

    def features(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Return the pooled features, then those of each trained stage, (n, 1280) each."""
        return self.session.run(self.outputs, {"pixels": pixels})


class TextBackbone:
    """all-MiniLM-L6-v2: texts to pooled features (n, 384).

    `stages`: trained last layers, computed in addition.
    """

    source = f"all-minilm-l6-v2 {minilm.WEIGHTS_SHA256[:16]}"

    def __init__(self, stages: Sequence[StageWeights] = ()) -> None:
        self.stages = stages

    @cached_property
    def session(self) -> Any:
        """The ONNX Runtime session: inputs and outputs as in `minilm.onnx_bytes`."""

        def build() -> bytes:
            return minilm.onnx_bytes(minilm.load_weights(minilm.model_folder()), self.stages)

        return cached_session(self.source, self.stages, build)

    @cached_property
    def _tokenizer(self) -> Any:
        return minilm.load_tokenizer(minilm.model_folder())

    @property
    def ranks(self) -> dict[str, int]:
        """Frequency rank of each word of the vocabulary; common words come first."""
        return self._tokenizer.get_vocab()

    def pooled(self, texts: Sequence[str], batch_size: int = 64) -> np.ndarray:
        """Return the mean of the last token states, float32 (n, 384)."""
        return self.features(texts, batch_size)[0]

    def features(self, texts: Sequence[str], batch_size: int = 64) -> list[np.ndarray]:
        """Return the pooled features, then those of each trained stage, (n, 384) each."""
        names = _output_names(self.stages)
        return _gather(self.run(texts, names, batch_size), len(texts), len(names))

    def embedded_features(
        self, embeddings: Sequence[np.ndarray], batch_size: int = 64
    ) -> list[np.ndarray]:
        """Return what `features` does, of sequences of embeddings (tokens + 2, 384).

        They are added to those of the first special token, of padding, and of the last one.
        """
        names = _output_names(self.stages)
        token_ids = [minilm.special_ids(len(rows) - 2) for rows in embeddings]
        batches = self._run_ids(token_ids, names, batch_size, embeddings)
        return _gather(batches, len(embeddings), len(names))

    def run(
        self, texts: Sequence[str], outputs: Sequence[str], batch_size: int = 64
    ) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """Yield batches of texts of similar length: row numbers of `texts` (n,), and the network's
        `outputs` for them. Raises InvalidInput for a text that is not valid Unicode."""
        for text in texts:
            check_unicode(text)
        token_ids = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        yield from self._run_ids(token_ids, outputs, batch_size)

    def _run_ids(
        self,
        token_ids: Sequence[Sequence[int]],
        outputs: Sequence[str],
        batch_size: int,
        embeddings: Sequence[np.ndarray] | None = None,
    ) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """Yield what `run` does for token ids, whose `embeddings` (tokens, 384) are added."""
        lengths = np.array([len(ids) for ids in token_ids], np.int64)
        for rows in batches_by_length(lengths, batch_size):
            ids, mask = minilm.pad([token_ids[row] for row in rows])
            added = np.zeros((1, 1, minilm.WIDTH), np.float32)
            if embeddings is not None:
                added = np.zeros((*ids.shape, minilm.WIDTH), np.float32)
                for sequence, row in zip(added, rows, strict=True):
                    sequence[: lengths[row]] = embeddings[row]
            inputs = {"ids": ids, "mask": mask, "embeddings": added}
            yield rows, self.session.run(list(outputs), inputs)

    def num_truncated(self, texts: Sequence[str]) -> int:
        """Return how many of the texts are longer than the model reads."""
        encodings = self._tokenizer.encode_batch(list(texts))
        return sum(bool(encoding.overflowing) for encoding in encodings)

    def lengths(self, texts: Sequence[str]) -> np.ndarray:
        """Return the number of tokens of each text, (n,), including special tokens."""
        encodings = self._tokenizer.encode_batch(list(texts))
        return np.array([len(encoding.ids) for encoding in encodings])

    def passages(self, text: str, gloss: Callable[[str], str]) -> list[str]:
        """Split `text` into passages that fit after glossing."""
        return split_passages(text, lambda passage: self._fits(gloss(passage)))

    def _fits(self, text: str) -> bool:
        return not self._tokenizer.encode(text).overflowing


def _gather(
    batches: Iterator[tuple[np.ndarray, list[np.ndarray]]], num_texts: int, num_outputs: int
) -> list[np.ndarray]:
    """Put the outputs of batches (row numbers, arrays of shape (rows, 384)) in the texts' order."""
    features = [np.zeros((num_texts, minilm.WIDTH), np.float32) for _ in range(num_outputs)]
    for rows, outputs in batches:
        for array, output in zip(features, outputs, strict=True):
            array[rows] = output
    return features


def batches_by_length(lengths: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Yield row numbers in length-sorted batches.

    A batch is of one length if there are enough such texts. Otherwise the longest is at most 1.25
    times the shortest, which keeps padding small.
    """
    order = np.argsort(lengths, kind="stable")
    while len(order):
        candidates = lengths[order[:batch_size]]
        same, similar = np.searchsorted(
            candidates, [candidates[0], _MAX_LENGTH_RATIO * candidates[0]], side="right"
        ).tolist()
        size = min(similar, max(same, _EFFICIENT_BATCH))
        yield order[:size]
        order = order[size:]


def _output_names(stages: Sequence[StageWeights]) -> list[str]:
    return ["pooled", *(f"stage{i}" for i in range(len(stages)))]


def cached_session(source: str, stages: Sequence[StageWeights], build: Callable[[], bytes]) -> Any:
    """Open an ONNX Runtime session over the cached graph; build the graph if it is not cached.

    A graph that is damaged, or that this ONNX Runtime cannot read, is built again.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtra("onnxruntime", "search", 'The encoder "starter"') from None
    state = onnxruntime.capi.onnxruntime_pybind11_state
    unreadable = (
        state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf,
        state.NoSuchFile, state.NotImplemented, state.RuntimeException,
    )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = runtime.cpu_count()
    options.log_severity_level = 3

    def open_session(graph: str | bytes) -> Any:
        providers = ["CPUExecutionProvider"]
        return onnxruntime.InferenceSession(graph, options, providers=providers)

    name = _graph_name(source, stages)
    for path in undamaged_files(name, ".onnx"):
        with suppress(*unreadable):
            return open_session(str(path))
    graph = build()
    stored = store_file(name, ".onnx", graph)
    return open_session(graph if stored is None else str(stored))


def _graph_name(source: str, stages: Sequence[StageWeights]) -> str:
    name = f"{source.replace(' ', '-')}-{GRAPH_VERSION}"
    if not stages:
        return name
    digest = hashlib.sha256()
    for weights in stages:
        for key in sorted(weights):
            digest.update(key.encode() + np.ascontiguousarray(weights[key]).tobytes())
    return f"{name}-{digest.hexdigest()[:16]}"
