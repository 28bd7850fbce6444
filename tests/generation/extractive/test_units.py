"""Numbers with units."""

from __future__ import annotations

import pytest

from ravlm.generation.extractive.units import Units


@pytest.mark.parametrize(
    ("text", "quantities"),
    [
        ('3 1/2-4" (89-102 mm). Very large', [('3 1/2-4"', "in"), ("89-102 mm", "mm")]),
        ("energi ca 40 kilokalori", [("40 kilokalori", "kcal")]),
        ("ca 1.01kg, 500 g", [("1.01kg", "kg"), ("500 g", "g")]),
        ("12 square kilometres, 5 sq m", [("12 km2", "km2"), ("5 m2", "m2")]),
        ("高41 米，重3公斤", [("41 米", "m"), ("3公斤", "kg")]),
        ("3,474 km and 60 km/h", [("3,474 km", "km"), ("60 km/h", "km/h")]),
        ("4 gulls in 1999", []),
        ("5 minty leaves", []),
    ],
)
def test_quantities_in_texts(text: str, quantities: list[tuple[str, str]]) -> None:
    assert [(q.text, q.unit) for q in Units().find(text)] == quantities


@pytest.mark.parametrize(
    ("question", "unit"),
    [
        ("How wide are its wings, in mm?", "mm"),
        ("How many kilocalories per 100 grams or millilitres does it have?", "kcal"),
        ("Energy per hundred grams, in kilocalories?", "kcal"),
        ("每100克含有多少千卡？", "kcal"),
        ("What is its area in square kilometres?", "km2"),
        ("How many grams of protein does it have?", "g"),
        ("What is in it?", ""),
        ("Is it 12 cm long?", ""),
    ],
)
def test_the_unit_that_is_asked_for(question: str, unit: str) -> None:
    """The base of a rate ("per 100 g") and a stated quantity are not what is asked for."""
    assert Units().requested(question)[0] == unit
