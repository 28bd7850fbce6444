"""Sentences judged by hand against evidence: supported, or not and why."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from ravlm.generation.support import SupportChecker, is_supported, unsupported_words

SHIP = (
    "Name: Vasa\nType: warship\nLength: 69 m\nHeight: 52.5 m\nMasts: 3\nLaunched: 1627\nAfloat: no"
)
ROSE = "Name: Mary Rose\nType: carrack\nLength: 32 m\nSank: 19 July 1545"
BATTLE = (
    "Sweden fought Poland in the Baltic. Henrik Hybertsson designed the Vasa, and he died in 1627. "
    "The ship carried 64 guns on two decks. It does not float today, but it stands in a museum."
)
CAKE = (
    "Plum cake\nServes: 8\nIngredients: rye flour, plums, brown sugar\nOven: 180 °C\n"
    "Bake the cake for 40 minutes without fan. Let it cool before cutting."
)
PILL = (
    "Name: Dolorin\nActive substance: ibuprofen\nForm: film-coated tablet\nStrength: 400 mg\n"
    "Prescription required: no\nDo not take it with alcohol. Adults take one tablet twice a day."
)
ROCKET = "Name: Falcon 9\npayload: DSCOVR, satellite operator\nlaunch date: 2015-02-11"
LEASE = (
    "The tenant pays the rent on the first day of the month. The landlord repairs the roof. "
    "Pets are not allowed. The deposit is 1,200 euros and is returned within 30 days."
)
GAME = (
    "Anna Berg beat Lucie Moreau 6-3, 7-5 in the final. Moreau served nine aces. "
    "Berg will play in Oslo in May."
)
STONE = (
    "Mineral: fluorite\nHardness: 4\nColour: purple, green, colourless\nStreak: white\nMagnetic: no"
)
NOTES = (
    "Meeting of the garden club, 3 March\nPresent: Ines, Tom, Odile\n"
    "Tom will order the seeds. Odile was absent last time. The next meeting is on 7 April."
)
DOG = "A brown dog runs along the beach. A dog is running near the sea with a stick."

SUPPORTED = [
    (SHIP, "The Vasa is a warship."),
    (SHIP, "Its length is 69 m, and its height is 52.5 m."),
    (SHIP, "The Vasa is 69 metres long and has three masts."),
    (SHIP, "It was launched in 1627."),
    (SHIP, "It is not afloat."),
    (ROSE, "The Mary Rose, a carrack, sank on 19 July 1545."),
    (BATTLE, "The Vasa was designed by Henrik Hybertsson."),
    (BATTLE, "The ship carried 64 guns."),
    (BATTLE, "It stands in a museum."),
    (BATTLE, "It does not float."),
    (CAKE, "The plum cake serves 8."),
    (CAKE, "Its ingredients are rye flour, plums and brown sugar."),
    (CAKE, "It is baked for 40 minutes."),
    (CAKE, "It cools before it is cut."),
    (PILL, "Dolorin is a film-coated tablet with 400 mg of ibuprofen."),
    (PILL, "The active substance of Dolorin is ibuprofen."),
    (PILL, "A prescription is not required."),
    (PILL, "Adults take one tablet twice a day, and it must not be taken with alcohol."),
    (ROCKET, "Its payload is DSCOVR, satellite operator."),
    (ROCKET, "The launch date of Falcon 9 is 11 February 2015."),
    (LEASE, "The rent is paid by the tenant on the first day of the month."),
    (LEASE, "The landlord repairs the roof."),
    (LEASE, "The deposit is 1200 euros."),
    (GAME, "Lucie Moreau was beaten by Anna Berg in the final."),
    (GAME, "Moreau served 9 aces."),
    (STONE, "Fluorite is purple, green or colourless, and its streak is white."),
    (STONE, "It isn't magnetic."),
    (NOTES, "Ines, Tom and Odile were present."),
    (NOTES, "The next meeting is on 7 April."),
    (DOG, "A dog is running along the beach."),
    ("名称：瓦萨号\n类型：战舰\n长度：69米\n高度：52.5米\n能否航行：否", "瓦萨号是一艘战舰。"),
    ("名称：瓦萨号\n类型：战舰\n长度：69米\n高度：52.5米", "它的长度是69米，高度是52.5米。"),
    ("名称：瓦萨号\n长度：69米\n高度：52.5米", "瓦萨号长69米。"),
    ("青霉素由弗莱明于1928年发现。它不能治疗病毒感染。", "青霉素于1928年被弗莱明发现。"),
    ("青霉素由弗莱明于1928年发现。它不能治疗病毒感染。", "它不能治疗病毒感染。"),
    ("菜名：红烧肉\n原料：五花肉、冰糖、酱油\n时间：90分钟", "红烧肉的原料是五花肉、冰糖和酱油。"),
    ("菜名：红烧肉\n原料：五花肉、冰糖、酱油\n时间：90分钟", "它的时间为90分钟。"),
    ("承租人每月一日支付租金。出租人负责维修屋顶。", "租金由承租人每月一日支付。"),
    ("矿物：萤石\n硬度：4\n颜色：紫色、绿色\n磁性：无", "萤石的硬度是4，颜色有紫色和绿色。"),
    ("不锈钢保温杯，容量500毫升。", "这是一个不锈钢保温杯，容量是500毫升。"),
]
UNSUPPORTED = [
    (SHIP, "The Vasa is a famous warship.", "an invented adjective"),
    (SHIP, "Its length is 52.5 m.", "the value of another key"),
    (SHIP, "The Vasa is 69 feet long.", "another unit"),
    (SHIP, "The Vasa has four masts.", "another number"),
    (SHIP, "It is afloat.", "no negation"),
    (SHIP, "It was launched in 1628.", "another year"),
    (SHIP, "The Vasa was launched in Stockholm in 1627.", "an invented place"),
    (ROSE, "The Mary Rose was launched on 19 July 1545.", "another event"),
    (BATTLE, "The Vasa died in 1627.", "the fact of a person told of the ship"),
    (BATTLE, "Poland designed the Vasa.", "another subject"),
    (BATTLE, "The ship carried two guns on 64 decks.", "numbers exchanged"),
    (BATTLE, "It floats today.", "the negation is lost"),
    (BATTLE, "Henrik Hybertsson stands in a museum.", "a fact of the ship told of a person"),
    (CAKE, "Its ingredients are wheat flour and plums.", "an invented ingredient"),
    (CAKE, "Bake the cake for 180 minutes.", "the number of another line"),
    (CAKE, "Bake it with fan.", "without became with"),
    (CAKE, "The plum cake is delicious.", "praise"),
    (PILL, "A prescription is required.", "the negation is lost"),
    (PILL, "Take it with alcohol.", "the negation is lost"),
    (PILL, "Children take one tablet twice a day.", "another group"),
    (PILL, "Adults take two tablets a day.", "another number"),
    (PILL, "Dolorin helps against headaches.", "an invented use"),
    (ROCKET, "Its payload is DSCOVR and a satellite.", "a value cut short"),
    (ROCKET, "The launch date is 2 November 2015.", "day and month exchanged"),
    (LEASE, "The tenant repairs the roof.", "another subject"),
    (LEASE, "Pets are allowed.", "the negation is lost"),
    (LEASE, "The deposit is 30 euros.", "another number"),
    (GAME, "Lucie Moreau beat Anna Berg in the final.", "roles exchanged"),
    (GAME, "Anna Moreau served nine aces.", "names mixed"),
    (GAME, "Berg never plays in Oslo in May.", "an invented negation"),
    (STONE, "Fluorite is magnetic.", "the negation is lost"),
    (STONE, "Its hardness is white.", "the value of another key"),
    (NOTES, "Odile will order the seeds.", "another subject"),
    (NOTES, "Ines, Tom and Clara were present.", "an invented name"),
    (DOG, "A brown dog runs along the beach in winter.", "an invented season"),
    ("名称：瓦萨号\n类型：战舰\n长度：69米\n高度：52.5米", "瓦萨号长52.5米。", "另一项的数值"),
    ("名称：瓦萨号\n类型：战舰\n长度：69米\n高度：52.5米", "瓦萨号是一艘商船。", "编造的类型"),
    ("名称：瓦萨号\n类型：战舰\n长度：69米", "瓦萨号长96米。", "数字不对"),
    ("青霉素由弗莱明于1928年发现。它不能治疗病毒感染。", "它能治疗病毒感染。", "丢了否定"),
    ("青霉素由弗莱明于1928年发现。", "青霉素由巴斯德于1928年发现。", "编造的人名"),
    ("菜名：红烧肉\n原料：五花肉、冰糖、酱油", "红烧肉的原料是五花肉和料酒。", "编造的原料"),
    ("承租人每月一日支付租金。出租人负责维修屋顶。", "承租人负责维修屋顶。", "主语不对"),
    ("矿物：萤石\n硬度：4\n颜色：紫色、绿色", "萤石的颜色是4。", "另一项的数值"),
    ("允许携带宠物：否\n押金：1200元", "允许携带宠物。", "丢了否定"),
]


PAIRS = [
    json.loads(line)
    for line in Path(__file__).with_name("support_pairs.jsonl").read_text("utf-8").splitlines()
]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair["sentence"][:40])
def test_pairs_that_were_written_later(pair: dict[str, object]) -> None:
    """Written after the first version, which judged 97 of these 105 right."""
    assert is_supported(str(pair["sentence"]), [str(pair["text"])]) == pair["supported"]


@pytest.mark.parametrize(("text", "sentence"), SUPPORTED)
def test_supported(text: str, sentence: str) -> None:
    assert unsupported_words(sentence, [text]) == ()
    assert is_supported(sentence, [text])


@pytest.mark.parametrize(("text", "sentence", "reason"), UNSUPPORTED)
def test_unsupported(text: str, sentence: str, reason: str) -> None:
    assert not is_supported(sentence, [text]), reason
    assert unsupported_words(sentence, [text])


@pytest.mark.parametrize(
    ("sentence", "supported"),
    [
        ("The Mary Rose is 32 m long.", True),
        ("The Mary Rose is 69 m long.", False),
        ("The Vasa sank on 19 July 1545.", False),
        ("The Vasa is 69 m long, and the Mary Rose is 32 m long.", True),
        ("The Vasa is 32 m long, and the Mary Rose is 69 m long.", False),
    ],
)
def test_a_fact_of_one_entry_is_not_told_of_another(sentence: str, supported: bool) -> None:
    assert is_supported(sentence, [SHIP, ROSE]) == supported


def test_pronouns_stand_for_the_subject() -> None:
    assert is_supported("It is 69 m long.", [SHIP, ROSE], subject="Vasa")
    assert not is_supported("It is 69 m long.", [SHIP, ROSE], subject="Mary Rose")


def test_words_of_the_request_are_allowed_but_not_its_names() -> None:
    """A story about the Titanic was once told with the facts of the nearest ship."""
    assert not is_supported("This wooden warship was launched in 1627.", [SHIP])
    assert is_supported("This wooden warship was launched in 1627.", [SHIP], "a wooden ship")
    assert not is_supported("The Titanic was launched in 1627.", [SHIP], "Tell of the Titanic")


def test_the_words_that_lack_support_are_named() -> None:
    assert unsupported_words("The Vasa is a famous warship.", [SHIP]) == ("famous",)
    assert unsupported_words("瓦萨号是一艘商船。", ["名称：瓦萨号\n类型：战舰"]) == ("商船",)


@pytest.mark.parametrize("sentence", ["", "...", "It is.", "[1]", "🙂"])
def test_a_sentence_without_words_is_not_supported(sentence: str) -> None:
    assert not is_supported(sentence, [SHIP])


@pytest.mark.parametrize("text", ["", "<p></p>", "ᚠᚢᚦ ᚨᚱᚲ", "\x00", "a" * 100_000])
def test_any_text_is_judged(text: str) -> None:
    assert not is_supported("The Vasa is a warship.", [text])
    assert not is_supported("瓦萨号是战舰。", [text])


def test_a_sentence_is_judged_in_milliseconds() -> None:
    """The bound is generous, for slow machines: a hundred take 0.2 s."""
    text = " ".join(f"Ship number {n} was built in {1500 + n} by Jan Smit." for n in range(300))
    checker = SupportChecker([text])
    start = time.process_time()
    for n in range(100):
        assert checker.is_supported(f"Ship number {n} was built in {1500 + n}.")
    assert time.process_time() - start < 20
