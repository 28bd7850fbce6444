"""The benchmark of photos from other sources: its matching, its outcomes and its annotation."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.foreign_photos import (
    Output,
    Photo,
    choose_photos,
    intervals,
    is_invented,
    is_named,
    measure,
    outcome_items,
    read_annotation,
)


@pytest.mark.parametrize(
    ("text", "accepted", "expected"),
    [
        ("A cat sits on a chair .", ["armchair", "chair"], True),
        ("Two berries and a knife", ["knife", "loaf"], True),
        ("loaves on wooden shelves", ["shelf"], True),
        ("ripe tomatoes and cherries", ["cherry"], True),
        ("A Granny-Smith on a plate", ["granny smith"], True),
        ("three firemen", ["fireman"], True),
        ("A pineapple", ["apple"], False),
        ("A man in an orange shirt", ["oranges"], False),
        ("A snowboarder on a rail", ["board", "metal rail"], False),
        ("", ["chair"], False),
    ],
)
def test_an_accepted_noun_is_found_as_a_word(
    text: str, accepted: list[str], expected: bool
) -> None:
    assert is_named(text, accepted) is expected


def test_a_chinese_text_is_compared_with_the_chinese_words() -> None:
    assert is_named("一只猫坐在椅子上。", ["dog"], ["狗", "猫"])
    assert not is_named("一只猫坐在椅子上。", ["cat"], ["狗"])


def test_a_person_who_is_not_in_the_photo_is_invented() -> None:
    bowl = Photo("a.jpg", ("bowl",), ("碗",))
    held = Photo("b.jpg", ("milk",), ("牛奶",), ("person",))
    assert is_invented("A baby is taking a bath in a bowl", bowl)
    assert is_invented("Two women and a carton of milk", held)
    assert is_invented("一个男孩和一只碗", bowl)
    assert not is_invented("A white bowl on a table", bowl)
    assert not is_invented("A person holds milk", held)
    assert not is_invented("A cat", Photo("c.jpg", ("cat",), ("猫",)))


def test_outcomes_exclude_each_other() -> None:
    photos = [Photo("daquar/a.jpg", ("bed",), ("床",)), Photo("package:p/b.png", ("cup",), ("杯",))]
    outputs = [
        Output("a bed in a room", False, False),
        Output("not in the base", True, False),
    ]
    items = outcome_items(photos * 2, [*outputs, Output("a dog", False, True), outputs[0]])
    assert items["right"] == [1, 0, 0, 0]
    assert items["declined"] == [0, 1, 0, 0]
    assert items["right or declined"] == [1, 1, 0, 0]
    assert items["wrong"] == [0, 0, 1, 1]
    assert items["invented"] == [0, 0, 1, 0]
    assert items["marked"] == [0, 0, 1, 0]
    share = intervals(items)["right or declined"]
    assert (share.score, share.low, share.high) == (0.5, 0.0, 1.0)
    rows = measure(photos, outputs, outputs[1:])
    assert list(rows) == ["all", "daquar", "packages", "flickr8k dev"]
    assert rows["packages"]["declined"] == [1, 1, 1]


def test_the_annotation_names_the_chosen_photos(shared_data: Path) -> None:
    photos = read_annotation()
    assert [photo.location for photo in photos] == list(choose_photos(shared_data))
    assert len({photo.location for photo in photos}) == 300
    assert all(photo.path(shared_data).is_file() for photo in photos)
    assert all(photo.accepted and len(photo.accepted_zh) > 1 for photo in photos)
    halves = [*read_annotation("odd"), *read_annotation("even")]
    assert sorted(halves, key=lambda photo: photo.location) == sorted(
        photos, key=lambda photo: photo.location
    )
