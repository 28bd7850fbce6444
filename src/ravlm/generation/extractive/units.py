"""Find numbers with units in a text, and the unit that a question asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass

# unit: (dimension, the words and signs for it)
_UNITS = {
    "mm": ("length", "mm millimetre millimetres millimeter millimeters 毫米"),
    "cm": ("length", "cm centimetre centimetres centimeter centimeters 厘米 公分"),
    "m": ("length", "m metre metres meter meters 米"),
    "km": ("length", "km kilometre kilometres kilometer kilometers 公里 千米"),
    "in": ("length", 'in inch inches " ″ 英寸'),
    "ft": ("length", "ft foot feet 英尺"),
    "mi": ("length", "mile miles 英里"),
    "km2": ("area", "km2 km² sqkm 平方公里 平方千米"),
    "m2": ("area", "m2 m² 平方米"),
    "ha": ("area", "ha hectare hectares 公顷"),
    "mg": ("mass", "mg milligram milligrams 毫克"),
    "g": ("mass", "g gram grams gramme grammes 克"),
    "kg": ("mass", "kg kilo kilos kilogram kilograms 公斤 千克"),
    "t": ("mass", "t ton tons tonne tonnes 吨"),
    "lb": ("mass", "lb lbs pound pounds 磅"),
    "oz": ("mass", "oz ounce ounces 盎司"),
    "ml": ("volume", "ml millilitre millilitres milliliter milliliters 毫升"),
    "cl": ("volume", "cl centilitre centilitres"),
    "l": ("volume", "l litre litres liter liters 升"),
    "kcal": (
        "energy",
        "kcal kilocalorie kilocalories kilokalori kilokalorier calorie calories 千卡 大卡 卡路里",
    ),
    "kj": ("energy", "kj kilojoule kilojoules 千焦"),
    "%": ("share", "% percent 百分"),
    "s": ("time", "s sec second seconds 秒"),
    "min": ("time", "min minute minutes 分钟"),
    "h": ("time", "h hour hours 小时"),
    "d": ("time", "day days 天"),
    "mo": ("time", "month months 个月"),
    "y": ("time", "year years 年"),
    "°C": ("temperature", "°c ℃ 摄氏度"),
    "°F": ("temperature", "°f 华氏度"),
    "km/h": ("speed", "km/h kph"),
    "mph": ("speed", "mph"),
    "$": ("money", "usd dollar dollars 美元"),
    "€": ("money", "eur euro euros 欧元"),
    "¥": ("money", "cny rmb yuan 元"),
}
_NUMBER = r"\d+(?:[.,]\d+)*(?:[ -]?\d+/\d+|/\d+|[½¼¾])?"
_SQUARE = re.compile(r"\b(?:square|sq\.?) ?(kilo|k(?=m\b))?m(?:et(?:re|er)s?)?\b", re.IGNORECASE)


@dataclass(frozen=True)
class Quantity:
    """A number or a range of numbers with its unit, as written in a text."""

    text: str
    unit: str
    dimension: str
    start: int


class Units:
    """Finds quantities. Its patterns are compiled once per object."""

    def __init__(self) -> None:
        self._unit_of = {
            word: unit for unit, (_, words) in _UNITS.items() for word in words.split()
        }
        by_length = sorted(self._unit_of, key=len, reverse=True)
        words = "|".join(re.escape(word) for word in by_length)
        ending = r"(?![a-z0-9²])"
        self._quantity = re.compile(
            rf"({_NUMBER}(?:\s?[-–—~至]\s?{_NUMBER})?)\s?({words}){ending}", re.IGNORECASE
        )
        unambiguous = [
            word for word in by_length if not word.isascii() or (len(word) > 1 and word != "in")
        ]
        alone = "|".join(re.escape(word) for word in unambiguous)
        self._base = re.compile(
            rf"(?:\b(?:per|each|every)\b|每)\s*(?:[a-z]+\s+)?(?:{words}){ending}", re.IGNORECASE
        )
        self._mention = re.compile(rf"(?<![a-z0-9])({alone}){ending}", re.IGNORECASE)

    def find(self, text: str) -> list[Quantity]:
        """Return the quantities of `text`, in order."""
        quantities = []
        for match in self._quantity.finditer(_normalize_squares(text)):
            unit = self._unit_of[match[2].lower()]
            quantities.append(Quantity(match[0], unit, _UNITS[unit][0], match.start()))
        return quantities

    def requested(self, question: str) -> tuple[str, str]:
        """Return the unit and the dimension that a question asks for.

        It is the first unit without a number or "per" before it ("in mm?", "How many kilocalories
        ..."); ("", "") if there is none.
        """
        without_numbers = self._base.sub(" ", self._quantity.sub(" ", _normalize_squares(question)))
        match = self._mention.search(without_numbers)
        if match is None:
            return "", ""
        unit = self._unit_of[match[1].lower()]
        return unit, _UNITS[unit][0]


def _normalize_squares(text: str) -> str:
    """Replace "square kilometers" and its like by km2 or m2."""
    return _SQUARE.sub(lambda match: f"{'k' if match[1] else ''}m2", text)
