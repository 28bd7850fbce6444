"""Invented things with facts: what the evidence of a training example is made of."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from recipes.fact_cards import CardMaker, read_rows, split_items
from recipes.fact_cards.values import LISTS
from recipes.grounded_dialogs.words import FOLDER, Inventor

_TYPES = "brfatcweonvppp"
_NAME_LINES = {
    "en": ("Name", "Name", "Name", "Title", "Entity", "Object", "Full name", "name"),
    "zh": ("名称", "名称", "名字", "标题"),
}
_FEMALE_CHINESE = ("芳", "娜", "敏", "静", "艳", "娟", "秀英", "子涵", "欣怡", "雨桐", "佳琪")
_PRONOUNS = {
    ("en", "it"): ("it", "its", "it"),
    ("en", "she"): ("she", "her", "her"),
    ("en", "he"): ("he", "his", "him"),
    ("zh", "it"): ("它", "它的", "它"),
    ("zh", "she"): ("她", "她的", "她"),
    ("zh", "he"): ("他", "他的", "他"),
}
_CHINESE_STORAGE = (
    "冷藏",
    "密封保存",
    "放在阴凉干燥处",
    "常温避光保存",
    "冷冻保存",
    "避免阳光直射",
)

_COUNTED = ("", " people", " months", " days", " megapixels", "人", "个月", "天")
"""Units of whole numbers."""
_SPECS = {
    "Engine": ("{n} cylinders", "two-stroke", "diesel", "electric"),
    "Power": ("{n} kW", "{n} W"),
    "Battery": ("{n}0 mAh", "lithium-ion"),
    "Range": ("{n} km",),
    "Screen": ("{n} inches", "{n}.5 inches"),
    "发动机": ("四缸", "六缸", "柴油", "电动"),
    "电池": ("{n}0毫安", "锂电池"),
    "屏幕": ("{n}.1英寸", "{n}英寸"),
    "功率": ("{n}瓦", "{n}千瓦"),
}
_CHINESE_CLOTHES = ("红色外套", "宇航服", "白衬衫和牛仔裤", "蓝裙子", "橙色制服", "黑色西装")


@dataclass(frozen=True)
class FactKind:
    """A kind of fact: for which things, its keys, its values, and sentences that tell it."""

    types: str
    keys: tuple[str, ...]
    kind: str
    verbs: tuple[str, ...]
    clauses: tuple[str, ...]
    openings: tuple[str, ...]


@dataclass(frozen=True)
class Fact:
    """A key and its value."""

    kind: FactKind
    key: str
    value: str


@dataclass(frozen=True)
class Thing:
    """An invented thing or person."""

    language: str
    type: str
    name: str
    noun: str
    gender: str
    facts: tuple[Fact, ...]

    @property
    def pronouns(self) -> tuple[str, str, str]:
        """Subject, possessive and object pronoun."""
        return _PRONOUNS[self.language, self.gender]

    @property
    def noun_is_known(self) -> bool:
        """Whether the name or a fact has the noun."""
        has_fact = any(fact.kind.kind in ("thing", "animal") for fact in self.facts)
        return self.noun.lower() in self.name.lower() or has_fact


class World:
    """Makes things in one language ("en" or "zh"); all randomness is `rng`'s."""

    def __init__(self, language: str, rng: random.Random) -> None:
        self.language = language
        self.chinese = language == "zh"
        self.rng = rng
        self.inventor = Inventor(language, rng)
        self.words = self.inventor.words
        self.cards = CardMaker(language, rng)
        self.kinds = _read_kinds(language)
        self._generic = _fact_kind("*", (), "invented", self.words["generic"])
        self._makers = self._value_makers()

    def thing(self, num_facts: int, type: str = "", noun: str = "") -> Thing:
        """Return a thing with facts of different kinds, about one in five with an invented key."""
        type = type or self.rng.choice(_TYPES)
        noun = noun or self.noun(type)
        name, gender = self._name(type, noun)
        fitting = [k for k in self.kinds if type in k.types or (k.types == "*" and type != "p")]
        facts: list[Fact] = []
        kinds = self.rng.sample(fitting, min(num_facts, len(fitting)))
        for kind in kinds:
            if self.rng.random() < 0.2:
                kind = replace(self._generic, keys=(self.inventor.key(type),))
            key = self.rng.choice(kind.keys)
            repeats_key = any(f.key == key for f in facts)
            repeats_noun = kind.kind == "animal" and any(f.kind.kind == "thing" for f in facts)
            if not repeats_key and not repeats_noun:
                facts.append(Fact(kind, key, self.value(kind.kind, noun, key)))
        return Thing(self.language, type, name, noun, gender, tuple(facts))

    def twin(self, thing: Thing) -> Thing:
        """Return a thing with another name, the same keys and other values."""
        name, gender = self._name(thing.type, thing.noun)
        facts = tuple(replace(f, value=self._other_value(f, thing.noun)) for f in thing.facts)
        return replace(thing, name=name, gender=gender, facts=facts)

    def _other_value(self, fact: Fact, noun: str) -> str:
        for _ in range(4):
            value = self.value(fact.kind.kind, noun, fact.key)
            if value != fact.value:
                break
        return value

    def noun(self, type: str) -> str:
        """Return a noun for a type of things: "bridge"; empty for persons."""
        nouns: list[str] = self.words["things"].get(type, [""])
        return self.rng.choice(nouns)

    def value(self, kind: str, noun: str = "", key: str = "") -> str:
        """Return a value of a kind."""
        if kind in ("thing", "animal") and noun:
            return noun
        if kind == "invented":
            return self._free(key)
        if kind == "spec":
            return self.rng.choice(_SPECS[key]).format(n=self.rng.randint(2, 900))
        maker = self._makers.get(kind)
        return maker() if maker else self.cards.value(kind)

    def card_text(self, thing: Thing, facts: Sequence[Fact], metadata: float = 0.35) -> str:
        """Return a `key: value` text of facts, with lines of metadata now and then."""
        rng = self.rng
        separator = rng.choice(("：", "：", ": ")) if self.chinese else ": "
        lower = rng.random() < 0.15
        lines = [
            f"{f.key.lower() if lower else f.key}{separator}{f.value}"
            for f in rng.sample(facts, len(facts))
        ]
        while rng.random() < metadata:
            key, value = self.metadata()
            lines.insert(rng.randint(0, len(lines)), f"{key}{separator}{value}")
        name_line = f"{rng.choice(_NAME_LINES[self.language])}{separator}{thing.name}"
        if rng.random() < 0.15:
            name_line = thing.name
        lines.insert(0 if rng.random() < 0.9 else len(lines) // 2, name_line)
        between = "\n" if rng.random() < 0.85 else ("；" if self.chinese else "; ")
        return between.join(lines)

    def metadata(self) -> tuple[str, str]:
        """Return the key and the value of a line that no story tells."""
        rng = self.rng
        key, value = rng.choice(self.words["metadata"])
        word = self.inventor.name()
        low = word.lower() if not self.chinese else self.inventor.word()
        number, year, day = rng.randint(100, 99_999), rng.randint(1990, 2025), rng.randint(10, 28)
        values: dict[str, Any] = {
            "word": word,
            "low": low,
            "number": number,
            "year": year,
            "day": day,
            "code": self.cards.value("code"),
            "person": self.cards.value("person"),
        }
        return key, value.format(**values)

    def _name(self, type: str, noun: str) -> tuple[str, str]:
        choice, invent = self.rng.choice, self.inventor.name
        if type == "p":
            return self._person()
        if type == "w":
            return self.inventor.title(), "it"
        if self.chinese:
            styles = (f"{invent()}{noun}", f"{invent()}{noun}", invent())
            return choice(styles), "it"
        title, adjective = noun.title(), choice(self.words["adjectives"])
        if type in "at":
            return choice((f"{invent()} {noun}", f"{invent()} {noun}", invent())), "it"
        english_styles = (
            f"{invent()} {title}",
            f"{invent()} {title}",
            f"{adjective} {invent()} {title}" if type in "benov" else f"{adjective} {title}",
            invent(),
            f"{invent()} {self.cards.value('code')}" if type in "rv" else f"{invent()} {invent()}",
        )
        return choice(english_styles), "it"

    def _person(self, gender: str = "") -> tuple[str, str]:
        """Return the name and the pronoun of a person."""
        choice, words = self.rng.choice, self.cards.words
        gender = gender or choice(("she", "he"))
        if self.chinese:
            is_female = gender == "she"
            names = [n for n in words["given_names"] if (n in _FEMALE_CHINESE) == is_female]
            given = choice(names)
            return f"{choice(words['family_names'])}{given}", gender
        given = choice(self.words["female" if gender == "she" else "male"])
        family = self.inventor.name() if self.rng.random() < 0.6 else choice(words["family_names"])
        return f"{given} {family}", gender

    def _list(self, source: str) -> str:
        items = self.rng.sample(self.cards.words[source], self.rng.randint(2, 4))
        if self.chinese:
            return "、".join(items)
        if self.rng.random() < 0.5:
            return f"{', '.join(items[:-1])} and {items[-1]}"
        return ", ".join(items)

    def _length(self, units: str) -> str:
        number = self.rng.randint(2, 900)
        fraction = f".{self.rng.randint(1, 9)}" if self.rng.random() < 0.3 else ""
        return f"{number}{fraction}{self.rng.choice(units.split('|'))}"

    def _free(self, key: str) -> str:
        """Return a value for a rare or an invented key."""
        rng, cards = self.rng, self.cards
        unit = self.words["plain_keys"].get(key)
        if unit is None:
            unit = rng.choice(("", "", "", "%", "#", "@"))
        if unit == "#":
            return cards.value("code")
        if unit == "@":
            return self.inventor.name()
        whole = unit in _COUNTED and key in self.words["plain_keys"]
        if whole or rng.random() < 0.6:
            return f"{rng.randint(2, rng.choice((12, 99, 950, 9999)))}{unit}"
        return f"{rng.uniform(0, 99):.1f}{unit}"

    def _value_makers(self) -> dict[str, Callable[[], str]]:
        rng, cards = self.rng, self.cards

        def until(kind: str, rejected: Callable[[str], bool]) -> Callable[[], str]:
            def make() -> str:
                value = cards.value(kind)
                while rejected(value):
                    value = cards.value(kind)
                return value

            return make

        def city() -> str:
            return cards.value("city") if rng.random() < 0.5 else self.inventor.name()

        makers: dict[str, Callable[[], str]] = {
            "name": self.inventor.name,
            "woman": lambda: self._person("she")[0],
            "man": lambda: self._person("he")[0],
            "award": lambda: rng.choice(self.words["award"]),
            "hobby": lambda: rng.choice(self.words.get("hobby") or cards.words["hobby"]),
            "instrument": lambda: rng.choice(self.words["instrument"]),
            "boolean": lambda: rng.choice(("是", "否") if self.chinese else ("yes", "no", "true")),
            "city": city,
            **{kind: partial(self._list, source) for kind, source in LISTS.items()},
        }
        if self.chinese:
            return makers | {
                "year": lambda: f"{rng.randint(900, 2024)}年",
                "population": lambda: f"{rng.randint(20, 99_999)}人",
                "number": lambda: str(rng.randint(2, 900)),
                "clothes": lambda: rng.choice(_CHINESE_CLOTHES),
                "storage": lambda: rng.choice(_CHINESE_STORAGE),
                "age": lambda: f"{rng.randint(3, 99)}岁",
                "length": lambda: self._length("米|米|厘米|公里|毫米"),
            }
        return makers | {
            "money": until("money", lambda v: v == "free"),
            "area": until("area", lambda v: v[-1].isdigit() and not v.endswith("m2")),
            "percent": until("percent", lambda v: "per" in v),
            "kcal": until("kcal", lambda v: "kcal" not in v),
            "date": until("date", lambda v: v[-4:].isdigit() and v.count(" ") == 1),
            "age": lambda: f"{rng.randint(2, 99)} years",
            "count": lambda: str(rng.randint(2, rng.choice((12, 99, 900, 60_000)))),
            "length": lambda: self._length(" m| m| cm| km| mm| feet| metres"),
        }


def _read_kinds(language: str) -> list[FactKind]:
    return [
        _fact_kind(types, split_items(keys), kind, split_items(patterns))
        for types, keys, kind, patterns in read_rows(FOLDER / f"facts.{language}.txt")
    ]


def _fact_kind(types: str, keys: tuple[str, ...], kind: str, patterns: Sequence[str]) -> FactKind:
    verbs = tuple(p for p in patterns if p[0] not in "=~")
    clauses = tuple(p[1:] for p in patterns if p[0] == "=")
    openings = tuple(p[1:] for p in patterns if p[0] == "~")
    return FactKind(types, keys, kind, verbs, clauses, openings)


def with_measure_word(noun: str, type: str, words: dict[str, Any]) -> str:
    """Return a Chinese noun with its measure word: "一座桥"."""
    classifiers = words["classifiers"]
    return f"{classifiers.get(noun) or classifiers.get(type, '一种')}{noun}"
