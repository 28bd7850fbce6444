"""Regions of pages and photos: their checks, their JSON form, and boxes around several."""

from __future__ import annotations

import doctest
import json
import math
from typing import Any

import pytest

from ravlm import regions
from ravlm.errors import InvalidInput
from ravlm.records import Entry, Hit, Part
from ravlm.regions import Region, enclosing_box, relative_box

LINE = Region("Total: 12.50", (0.1, 0.8, 0.4, 0.82), 1, "line", 0.9)
TITLE = Region("Receipt", [0.1, 0.1, 0.9, 0.2], 1, "title")  # type: ignore[arg-type]


def test_docstring_examples() -> None:
    results = doctest.testmod(regions)
    assert results.attempted >= 3
    assert results.failed == 0


def test_regions_and_boxes_in_json() -> None:
    entry = Entry("receipt", "receipt.png", regions=[TITLE, LINE])
    form = entry.to_dict()["regions"]
    assert form == [
        {"text": "Receipt", "box": [0.1, 0.1, 0.9, 0.2], "page": 1, "kind": "title"},
        {
            "text": "Total: 12.50",
            "box": [0.1, 0.8, 0.4, 0.82],
            "page": 1,
            "kind": "line",
            "confidence": 0.9,
        },
    ]
    assert json.loads(json.dumps(form)) == form
    assert Region("only text").to_dict() == {"text": "only text", "kind": "line"}
    assert Part("text", 0, "12.50", (0, 0, 1, 1 / 3), 2).to_dict() == {
        "modality": "text",
        "index": 0,
        "text": "12.50",
        "box": [0, 0, 1, 0.333333],
        "page": 2,
    }
    assert "regions" not in Entry("x").to_dict()
    assert "regions" not in entry.to_dict(regions=False)
    assert "regions" not in Hit(entry, 1.0, Part("image")).to_dict()
    assert TITLE.box == (0.1, 0.1, 0.9, 0.2)  # a tuple, so that the region is hashable
    assert len({TITLE, LINE}) == 2


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"box": (10, 20, 300, 400)}, "relative_box"),
        ({"box": (0.4, 0.1, 0.3, 0.2)}, "left, top, right, bottom"),
        ({"box": (0.1, 0.2, math.nan, 0.4)}, "left, top, right, bottom"),
        ({"box": (0.1, 0.2, 0.3)}, "left, top, right, bottom"),
        ({"page": 0}, "from 1"),
        ({"page": True}, "from 1"),
        ({"kind": "paragraf"}, 'Did you mean "paragraph"'),
        ({"confidence": 1.5}, "give 0 to 1"),
        ({"confidence": math.nan}, "give 0 to 1"),
    ],
)
def test_what_is_no_region_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        Region("x", **values)


def test_boxes_in_pixels_are_cut_at_the_edge_and_turned_upright() -> None:
    assert relative_box((-5, 10, 50, 120), 100, 100) == (0.0, 0.1, 0.5, 1.0)
    assert relative_box((50, 40, 10, 20), 100, 200) == (0.1, 0.1, 0.5, 0.2)  # PDF counts from below
    assert enclosing_box([None, None]) is None
    assert enclosing_box([TITLE.box, LINE.box]) == (0.1, 0.1, 0.9, 0.82)
