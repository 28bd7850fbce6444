"""JSON objects become frozen dataclasses strictly: a wrong key or type is named in the error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from ravlm.config import from_mapping, to_mapping
from ravlm.errors import InvalidInput


@dataclass(frozen=True)
class Layer:
    size: int
    dropout: float = 0.0


@dataclass(frozen=True)
class Settings:
    name: str
    kind: Literal["big", "small"] = "small"
    layers: tuple[Layer, ...] = ()
    span: tuple[int, str] = (0, "a")
    seed: int | None = None
    anything: Any = None


def test_round_trip() -> None:
    settings = Settings("x", "big", (Layer(1), Layer(2, 0.5)), (3, "b"), 7, {"a": [1]})
    assert from_mapping(Settings, to_mapping(settings)) == settings
    assert from_mapping(Settings, {"name": "y"}) == Settings("y")


def test_integers_are_floats_but_booleans_are_no_numbers() -> None:
    layer = from_mapping(Layer, {"size": 1, "dropout": 1})
    assert isinstance(layer.dropout, float)
    with pytest.raises(InvalidInput, match=r"configuration\.size is True"):
        from_mapping(Layer, {"size": True})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, 'lacks the key "name"; add it'),
        ({"nam": "x"}, r'unknown key "nam"\. Did you mean "name"\? Allowed: name, kind'),
        ({"name": 3}, r"settings\.name is 3; it must be of type str"),
        (
            {"name": "x", "kind": "bigg"},
            r"'bigg'; allowed: 'big', 'small'\. Did you mean \"big\"\?",
        ),
        ({"name": "x", "layers": 1}, r"settings\.layers is 1; it must be a list"),
        ({"name": "x", "layers": [{"size": 1}, {"size": "b"}]}, r"layers\[1\]\.size is 'b'"),
        ({"name": "x", "span": [1, "b", 2]}, r"settings\.span has 3 values; it must have 2"),
        ({"name": "x", "seed": "y"}, r"settings\.seed is 'y'; it must be of type int"),
        ([], "settings must be a JSON object, not list"),
    ],
)
def test_wrong_values_are_named(values: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        from_mapping(Settings, values, "settings")
