"""Build an ONNX graph: each call adds a node and returns the name of its output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

OPSET = 20
IR_VERSION = 9


class GraphBuilder:
    """Collects nodes and weights. Needs the package onnx."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._weights: list[Any] = []

    def constant(self, values: np.ndarray) -> str:
        """Add a constant array; return its name."""
        from onnx import numpy_helper

        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name

    def __call__(
        self, operator: str, *inputs: str | np.ndarray, name: str = "", **attributes: Any
    ) -> str:
        """Add a node of the ONNX operator and return its output, named `name` or automatically.
        Arrays become constants."""
        from onnx import helper

        names = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        output = name or f"x{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, names, [output], **attributes))
        return output

    def serialize(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> bytes:
        """Return the graph as a serialized model. `inputs` and `outputs` are value infos."""
        from onnx import helper

        graph = helper.make_graph(self._nodes, name, inputs, outputs, self._weights)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
        return bytes(model.SerializeToString())
