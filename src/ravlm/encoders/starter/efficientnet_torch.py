"""EfficientNet-Lite2, the starter's image backbone, in PyTorch, for training.

Encoding needs none of this: `efficientnet.onnx_bytes` builds the graph that ONNX Runtime runs.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ravlm.encoders.starter.efficientnet import (
    CHANNELS,
    CLASSES,
    STAGES,
    load_weights,
    weights_file,
)


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


def load_network() -> EfficientNetLite2:
    """Load the network with the package's weights, batch norms folded in; in evaluation mode."""
    weights = load_weights(weights_file())
    network = EfficientNetLite2()
    network.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    return network.eval().requires_grad_(False)


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
