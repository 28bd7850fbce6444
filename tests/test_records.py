"""The records and their JSON forms."""

from __future__ import annotations

import copy
import doctest
import inspect
import json
import pickle
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ravlm import records
from ravlm.records import Answer, Edit, Entry, Evidence, Hit, Part, Source

CAT = Entry("cat", "cat.jpg", ("a tabby cat", "Eyes: green"), {"year": 2011})
NOTE = Entry("note", None, ("a note",))
HITS = (
    Hit(CAT, np.float32(0.12345678), Part("text", 1, "Eyes: green")),
    Hit(NOTE, 0.1, Part("text", 0, "a note")),
)


def test_docstring_examples() -> None:
    results = doctest.testmod(records)
    assert results.attempted >= 5
    assert results.failed == 0


def test_one_form_of_an_entry_everywhere() -> None:
    form = CAT.to_dict()
    assert form == {
        "id": "cat",
        "texts": ["a tabby cat", "Eyes: green"],
        "metadata": {"year": 2011},
        "image_url": "cat.jpg",
    }
    assert HITS[0].to_dict().items() >= form.items()
    assert HITS[0].to_dict()["part"] == {"modality": "text", "index": 1, "text": "Eyes: green"}
    source = Source("cat", Part("text", 1, "Eyes: green"), 6, 11)
    answer = Answer(
        "green",
        HITS,
        citations=("cat",),
        sources=(source,),
        confidence=np.float32(0.987654321),
        trace={"seconds": 0.1},
    )
    assert answer.to_dict()["sources"] == [
        {
            "entry_id": "cat",
            "part": {"modality": "text", "index": 1, "text": "Eyes: green"},
            "start": 6,
            "end": 11,
        }
    ]
    assert answer.to_dict()["evidence"] == [hit.to_dict() for hit in HITS]
    edit = Edit(Image.new("RGB", (4, 2)), np.eye(2, 4, dtype=bool), HITS, "Make it blue.")
    assert edit.to_dict() == {
        "understood": "Make it blue.",
        "changed": 0.25,
        "evidence": [hit.to_dict() for hit in HITS],
    }
    for value in (answer.to_dict(), edit.to_dict()):
        assert json.loads(json.dumps(value)) == value


def test_numbers_have_six_decimal_places() -> None:
    assert HITS[0].to_dict()["score"] == 0.123457
    assert Answer("", confidence=1 / 3).to_dict()["confidence"] == 0.333333


def test_image_urls_are_up_to_the_caller() -> None:
    assert CAT.to_dict(lambda entry: f"entry:{entry.id}")["image_url"] == "entry:cat"
    assert NOTE.to_dict(lambda entry: f"entry:{entry.id}")["image_url"] is None
    assert Entry("x", b"bytes").to_dict()["image_url"] is None


@pytest.mark.parametrize(("support", "sufficient"), [(0.3, False), (0.4, True)])
def test_evidence_below_the_threshold_is_not_sufficient(support: float, sufficient: bool) -> None:
    assert Evidence(HITS, support=support, min_support=0.4).sufficient is sufficient
    assert not Evidence((), support=support).sufficient


@pytest.mark.parametrize("record", [Part, Hit])
def test_fields_that_are_set_at_once_are_those_of_the_record(record: Any) -> None:
    """A search makes a hit and a part for each result. Setting their frozen fields one by one took
    a tenth of a search, so their `__init__` is written out: it must not drift from the fields."""
    parameters = list(inspect.signature(record).parameters.values())
    assert [p.name for p in parameters] == [f.name for f in fields(record)]
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    assert defaults == {f.name: vars(record)[f.name] for f in fields(record) if f.name in defaults}
    values = [f"value {i}" for i in range(len(parameters))]
    one = record(*values)
    assert [getattr(one, f.name) for f in fields(record)] == values
    for other in (record(*values), copy.copy(one), pickle.loads(pickle.dumps(one))):
        assert other == one
        assert hash(other) == hash(one)
    assert getattr(replace(one, **{parameters[1].name: "new"}), parameters[1].name) == "new"
    with pytest.raises(FrozenInstanceError):
        setattr(one, parameters[0].name, "new")
