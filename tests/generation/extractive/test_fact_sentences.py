"""Facts as sentences, for keys of every form."""

from __future__ import annotations

import pytest

from ravlm.data.facts import Fact
from ravlm.generation.extractive.chinese_fact_sentences import chinese_fact_sentence
from ravlm.generation.extractive.fact_sentences import (
    StorySubject,
    fact_sentence,
    join_list,
    value_kind,
    yes_no_summary,
)
from ravlm.generation.extractive.provenance import is_provenance

IT = StorySubject("Vasa", "It", is_mentioned=True)
SHE = StorySubject("Amrita Sol", "She", is_mentioned=True)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("Length", "69 m", "Its length is 69 m"),
        ("Wheel Size", "24 in", "Its wheel size is 24 in"),
        ("RAM", "8 GB", "Its RAM is 8 GB"),
        ("Width (cm)", "54", "Its width is 54 cm"),
        ("area km2", "180", "Its area is 180 km2"),
        ("Masts", "3", "It has 3 masts"),
        ("Books", "41,000", "It has 41,000 books"),
        ("Built", "1627", "It was built in 1627"),
        ("Released", "12 May 2006", "It was released on 12 May 2006"),
        ("Sank", "10 August 1628", "It sank on 10 August 1628"),
        ("Starts", "10:00", "It starts at 10:00"),
        ("Made in", "Portugal", "It is made in Portugal"),
        ("Designed by", "Piero Anselmi", "It was designed by Piero Anselmi"),
        ("Native to", "Peru", "It is native to Peru"),
        ("Feeds on", "worms", "It feeds on worms"),
        ("Serves", "4", "It serves 4"),
        ("Tame", "no", "It is not tame"),
        ("Open to visitors", "yes", "It is open to visitors"),
        ("Lights included", "no", "Lights are not included"),
        ("Prescription required", "no", "No prescription is required"),
        ("Allergens", "none", "It has no allergens"),
        ("Can float", "no", "It cannot float"),
        ("Colours", "white, grey", "Its colours are white and grey"),
        ("Material", "steel, glass", "Its material is steel, glass"),
        ("Barks", "rarely", 'Under "Barks" it says: rarely'),
        ("When", "Tuesday, 19:30", 'Under "When" it says: Tuesday, 19:30'),
        ("Present", "Ines, Tom", 'Under "Present" it says: Ines, Tom'),
        ("Ines", "I will ask the council.", 'Under "Ines" it says: "I will ask the council."'),
        ("10", "30 Opening", ""),
    ],
)
def test_english_sentences(key: str, value: str, sentence: str) -> None:
    assert fact_sentence(Fact(key, value), IT) == sentence


def test_the_subject_is_named_where_no_pronoun_fits() -> None:
    assert fact_sentence(Fact("Born", "1951"), SHE) == "She was born in 1951"
    assert fact_sentence(Fact("Age", "73"), SHE) == "Her age is 73"
    unknown = StorySubject("J. Okoro", "", is_mentioned=True)
    assert fact_sentence(Fact("Children", "3"), unknown) == "J. Okoro has 3 children"
    assert fact_sentence(Fact("Length", "69 m"), StorySubject()) == "The length is 69 m"


def test_yes_no_facts_that_are_no_sentences_share_one() -> None:
    facts = [Fact("Garage", "no"), Fact("Lift", "no"), Fact("Balcony", "yes"), Fact("Tame", "no")]
    assert yes_no_summary(facts) == (
        'The entry says "no" under "Garage" and "Lift", and "yes" under "Balcony"'
    )


@pytest.mark.parametrize(
    ("value", "joined"),
    [
        ("white, grey", "white and grey"),
        ("Igbo, English, French", "Igbo, English and French"),
        ("DSCOVR, satellite operator", "DSCOVR, satellite operator"),
        ("rye flour, plums, 3 eggs", "rye flour, plums, 3 eggs"),
        ("black, white and red", "black, white and red"),
        ("Mon 9-17; Tue closed", "Mon 9-17; Tue closed"),
    ],
)
def test_only_lists_get_an_and(value: str, joined: str) -> None:
    assert join_list(value) == joined


def test_kinds_of_values() -> None:
    values = ["no", "1627", "3 May 2024", "2015-02-11", "69 m", "Let it cool well.", "oil on wood"]
    kinds = ["yes/no", "date", "date", "date", "number", "sentence", "phrase"]
    assert [value_kind(value) for value in values] == kinds


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("长度", "69米", "它的长度是69米"),
        ("修复", "2009年", "它于2009年修复"),
        ("建成时间", "1627年", "它的建成时间是1627年"),
        ("发现于", "方铅矿脉", "它发现于方铅矿脉"),
        ("磁性", "无", "它没有磁性"),
        ("能否航行", "否", "它不能航行"),
        ("是否辣", "否", "它不辣"),
        ("防水", "是", "“防水”一项写的是“是”"),
        ("出席", "王芳、李强", "出席的有王芳、李强"),
    ],
)
def test_chinese_sentences(key: str, value: str, sentence: str) -> None:
    subject = StorySubject("瓦萨号", "它", is_mentioned=True)
    assert chinese_fact_sentence(Fact(key, value), subject) == sentence


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("Photo credit", "Ana Ruiz", True),
        ("License", "CC BY 4.0", True),
        ("Image source", "archive", True),
        ("see also", "https://x.example/a", True),
        ("checksum", "9f86d081884c7d65", True),
        ("scan", "box_12/page-003.tif", True),
        ("record", "TR-0024551", True),
        ("图片来源", "某图库", True),
        ("Light source", "a kerosene lamp", False),
        ("Energy source", "wind", False),
        ("Population", "3,412", False),
        ("来源地", "葡萄牙", False),
    ],
)
def test_provenance_is_told_from_facts(key: str, value: str, expected: bool) -> None:
    assert is_provenance(Fact(key, value)) == expected
