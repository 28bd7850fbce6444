"""An ONNX graph under construction: each call adds a node and names its output. Knows no
network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class Graph:
    """Nodes and weights; needs the package onnx."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._weights: list[Any] = []

    def constant(self, values: np.ndarray) -> str:
        """Keep an array; its name."""
        from onnx import numpy_helper

        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def __call__(
        self, kind: str, *inputs: str | np.ndarray, name: str = "", **attributes: Any
    ) -> str:
        """Add a node of the ONNX operator `kind`; arrays become constants. Its output is `name`, or
        a new name."""
        from onnx import helper

        names = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        output = name or f"x{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, names, [output], **attributes))
        return output

    def model(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> bytes:
        """The whole as a serialised model; `inputs` and `outputs` are value infos."""
        from onnx import helper

        graph = helper.make_graph(self._nodes, name, inputs, outputs, self._weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
        return bytes(model.SerializeToString())
