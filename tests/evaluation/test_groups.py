"""Groups of examples that are resampled together."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from ravlm.evaluation.groups import example_group
from ravlm.records import Example
from ravlm.tasks.retrieval import Retrieval


def test_examples_of_one_picture_belong_together(tmp_path: Path, pictures: Path) -> None:
    """Resampling treated six captions of one photo as six photos."""
    path = pictures / "red.png"
    link = tmp_path / "link.png"
    link.symlink_to(path)
    data = path.read_bytes()
    assert example_group(Example("a", str(path))) == example_group(Example("b", link))
    assert example_group(Example("a", data)) == example_group(Example("b", bytes(data)))
    assert example_group(Example("a", str(path))) != example_group(
        Example("b", str(pictures / "blue.png"))
    )
    image = Image.new("RGB", (2, 2))
    assert example_group(Example("a", image)) == example_group(Example("b", image))
    assert example_group(Example("a")) != example_group(Example("b"))


def test_the_group_of_the_metadata_comes_first() -> None:
    one = Example("a", "one.png", metadata={"group": 7})
    two = Example("b", "two.png", metadata={"group": 7})
    assert example_group(one) == example_group(two)
    assert example_group(Example("c", metadata={"group": ["x"]})) == ("example", "c")


def test_captions_and_photo_of_a_retrieval_row_belong_together(
    tmp_path: Path, pictures: Path
) -> None:
    rows = [
        {
            "id": color,
            "image": str(pictures / f"{color}.png"),
            "texts": [f"{color} 1", f"{color} 2"],
        }
        for color in ("red", "blue")
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    groups = [example_group(example) for example in Retrieval(path).examples()]
    assert groups == [("group", "red")] * 3 + [("group", "blue")] * 3
