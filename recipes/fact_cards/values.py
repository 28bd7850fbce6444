"""Made-up values of facts: a person, a date, a length, opening hours ... in English or Chinese."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

FOLDER = Path(__file__).parent
LISTS = {"ingredients": "ingredient", "languages": "language", "countries": "country"}


class ValueMaker:
    """Makes values in one language ("en" or "zh"); all randomness is `rng`'s."""

    def __init__(self, language: str, rng: random.Random) -> None:
        self.language = language
        self.rng = rng
        text = (FOLDER / f"values.{language}.json").read_text(encoding="utf-8")
        self.words: dict[str, list[str]] = json.loads(text)
        self._makers = self._chinese_makers() if language == "zh" else self._english_makers()

    def value(self, kind: str) -> str:
        """Make a value of a kind: a date, a length, a person ..."""
        maker = self._makers.get(kind)
        return maker() if maker else self.rng.choice(self.words[kind])

    def person(self) -> str:
        given_name = self.rng.choice(self.words["given_names"])
        family = self.rng.choice(self.words["family_names"])
        return f"{family}{given_name}" if self.language == "zh" else f"{given_name} {family}"

    def thing(self) -> str:
        choice, words = self.rng.choice, self.words
        if self.language == "zh":
            return choice(words["stems"]) + choice(words["things"])
        thing = choice(words["things"])
        color = choice(words["color"]).title()
        return choice((
            f"{self.word()} {thing}",
            self.word(),
            f"{color} {thing}",
            f"{self.word()} {self.word()}",
        ))  # fmt: skip

    def word(self) -> str:
        if self.language == "zh":
            return self.rng.choice(self.words["stems"])
        syllables = self.rng.choices(self.words["syllables"], k=self.rng.randint(2, 3))
        return "".join(syllables).capitalize()

    def _number(self) -> str:
        upper = self.rng.choice((99, 9_999, 99_999_999))
        number = self.rng.randint(2, upper)
        return f"{number:,}" if self.rng.random() < 0.4 else str(number)

    def _decimal(self, upper: int = 900) -> str:
        if self.rng.random() < 0.6:
            return str(self.rng.randint(1, upper))
        return f"{self.rng.uniform(0, upper):.{self.rng.randint(1, 2)}f}"

    def _measure(self, units: str, upper: int = 900) -> str:
        return self._decimal(upper) + self.rng.choice(units.split("|"))

    def _listed(self, kind: str) -> str:
        items = self.rng.sample(self.words[LISTS[kind]], self.rng.randint(1, 5))
        separator = "、" if self.language == "zh" and self.rng.random() < 0.7 else ", "
        return separator.join(items)

    def _code(self) -> str:
        letters = "".join(self.rng.choices("ABCDEFGHKLMNPRSTXZ", k=self.rng.randint(1, 3)))
        return f"{letters}{self.rng.choice(('-', '', ' '))}{self.rng.randint(10, 99_999)}"

    def _phone(self) -> str:
        parts = [str(self.rng.randint(100, 9999)) for _ in range(self.rng.randint(2, 3))]
        return "-".join(parts)

    def _hours(self, to: str) -> str:
        first = f"{self.rng.randint(6, 11)}:{self.rng.choice(('00', '30'))}"
        last = f"{self.rng.randint(15, 23)}:{self.rng.choice(('00', '30'))}"
        hours = first + self.rng.choice((" - ", "-", to)) + last
        if self.rng.random() < 0.6:
            return hours
        day = self.rng.choice(self.words["weekday"])
        return hours + (f", closed on {day}s" if self.language == "en" else f"，{day}闭馆")

    def _shared_makers(self) -> dict[str, Callable[[], str]]:
        return {
            "person": self.person,
            "code": self._code,
            "phone": self._phone,
            "score": lambda: f"{self.rng.randint(0, 9)}:{self.rng.randint(0, 9)}",
            **{kind: partial(self._listed, kind) for kind in LISTS},
        }

    def _english_makers(self) -> dict[str, Callable[[], str]]:
        rng, words, choice = self.rng, self.words, self.rng.choice

        def date() -> str:
            day, month, year = rng.randint(1, 28), choice(words["months"]), rng.randint(1400, 2026)
            number = words["months"].index(month) + 1
            return choice((
                f"{day} {month} {year}",
                f"{month} {day}, {year}",
                f"{year}-{number:02d}-{day:02d}",
                f"{month} {year}",
            ))  # fmt: skip

        def money() -> str:
            amount = self._decimal()
            return choice((f"${amount}", f"{amount} euros", f"€{amount}", f"{amount} kr", "free"))

        def place(kind: str) -> str:
            return self.word() if rng.random() < 0.3 else choice(words[kind])

        return {
            **self._shared_makers(),
            "city": partial(place, "city"),
            "country": partial(place, "country"),
            "year": lambda: str(rng.randint(900, 2024)),
            "date": date,
            "hours": partial(self._hours, " to "),
            "duration": lambda: f"{rng.randint(2, 180)} {choice(('minutes', 'hours', 'days'))}",
            "length": partial(self._measure, " m| cm| km| mm| feet| metres| inches|-930 mm"),
            "area": lambda: self._number() + choice((" km2", " hectares", " m2", "")),
            "weight": partial(self._measure, " kg| g| tonnes| grams|g| lb"),
            "speed": partial(self._measure, " km/h| mph| knots", 400),
            "count": self._number,
            "age": lambda: f"{rng.randint(1, 120)}" + choice((" years", "", " months")),
            "money": money,
            "kcal": lambda: f"{rng.randint(5, 900)}" + choice((" kcal", " kcal per 100 g", "")),
            "percent": partial(self._measure, "%| g| g per 100 g", 60),
            "email": lambda: f"{self.word().lower()}@{self.word().lower()}.org",
            "url": lambda: f"www.{self.word().lower()}.com",
            "address": lambda: f"{rng.randint(1, 300)} {self.word()} {choice(('Street', 'Road'))}",
            "boolean": lambda: choice(("yes", "no", "true", "false")),
            "latin": lambda: f"{self.word()} {self.word().lower()}us",
            "latin1": lambda: self.word() + choice(("idae", "us", "")),
        }

    def _chinese_makers(self) -> dict[str, Callable[[], str]]:
        rng, words, choice = self.rng, self.words, self.rng.choice

        def date() -> str:
            return f"{rng.randint(1400, 2026)}年{rng.randint(1, 12)}月{rng.randint(1, 28)}日"

        def money() -> str:
            amount = self._decimal()
            return choice(
                (f"{amount}元", f"{amount}美元", f"{rng.randint(1, 99)}万元", f"¥{amount}")
            )

        def place(kind: str, suffix: str) -> str:
            made_up = f"{choice(words['stems'])}{suffix}"
            return made_up if rng.random() < 0.25 else choice(words[kind])

        return {
            **self._shared_makers(),
            "city": partial(place, "city", "市"),
            "country": partial(place, "country", "国"),
            "year": lambda: str(rng.randint(900, 2024)) + choice(("年", "年", "")),
            "date": date,
            "hours": partial(self._hours, "至"),
            "duration": lambda: f"{rng.randint(2, 180)}" + choice(("分钟", "小时", "天", "个月")),
            "length": partial(self._measure, "米|厘米|千米|毫米|公里"),
            "area": lambda: self._number() + choice(("平方千米", "平方米", "万平方米", "公顷")),
            "weight": partial(self._measure, "克|千克|公斤|吨"),
            "speed": partial(self._measure, "公里每小时|千米/小时", 400),
            "count": lambda: self._number() + choice(("", "人", "个", "间", "万人")),
            "age": lambda: f"{rng.randint(1, 120)}" + choice(("岁", "")),
            "money": money,
            "kcal": lambda: f"{rng.randint(5, 900)}千卡",
            "percent": partial(self._measure, "%|克", 60),
            "address": lambda: f"{choice(words['stems'])}路{rng.randint(1, 300)}号",
            "boolean": lambda: choice(("是", "否", "有", "没有")),
            "latin": lambda: choice(("Panthera uncia", "Felis catus", "Vulpes vulpes")),
        }
