"""What the texts of an entry say, taken apart: a name, `key: value` facts and free sentences.

Knows no question, no encoder and no picture.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ravlm.data.text import split_sentences
from ravlm.records import Entry

_LINE = re.compile(r"([^:：]{1,60})[:：](?!//)\s*(.*)")
_NOT_A_KEY = re.compile(r"[.!?;,。！？；，]|https?$")
_CONJOINED = re.compile(r"(.+?)(?: and | & |和|与)(.+)")
_NAME_KEY = re.compile(
    r"(common |product |full )?name|entity|title|label|species|名称|名字|姓名|标题|商品名",
    re.IGNORECASE,
)
_NAME_METADATA = ("name", "entity", "title", "label", "common_name")
_UNSAID_METADATA = {"split", "group", "id", "url", "source", "generated", "license", "licence"}
_MAX_KEY_WORDS = 6


@dataclass(frozen=True)
class Fact:
    """One thing that an entry says: `key: value`, or a sentence (`key` empty) under the heading
    `section`."""

    key: str
    value: str
    section: str = ""

    @property
    def line(self) -> str:
        """The fact as a line of text."""
        return f"{self.key}: {self.value}" if self.key else self.value


def read_facts(entry: Entry) -> list[Fact]:
    """The facts of an entry's texts in order, then those of its metadata; none twice."""
    found: dict[tuple[str, str], Fact] = {}
    for fact in [f for text in entry.texts for f in parse_facts(text)] + _metadata_facts(
        entry.metadata
    ):
        found.setdefault((fact.key.casefold(), fact.value.casefold()), fact)
    return list(found.values())


def parse_facts(text: str) -> list[Fact]:
    """The facts of one text: a `key: value` line each, every other line sentence by sentence.

    A line `heading:` without a value is the `section` of what follows, up to the next key. Where a
    key joins two ("Country and volume: Italy, 180g") and the value has two parts, it becomes two
    facts."""
    facts: list[Fact] = []
    section = ""
    for raw in text.splitlines():
        line = raw.strip("\ufeff \t")
        match = _LINE.fullmatch(line)
        if match is None or _NOT_A_KEY.search(match[1]) or len(match[1].split()) > _MAX_KEY_WORDS:
            facts.extend(Fact("", sentence, section) for sentence in split_sentences(line))
        elif match[2]:
            section = ""
            facts.extend(_split_conjoined(_plain(match[1]), match[2].strip()))
        else:
            section = _plain(match[1])
    return facts


def entity_name(entry: Entry) -> str:
    """The name of what the entry is about: its first line whose key means "name", else its
    metadata; "" for none."""
    for text in entry.texts:
        for fact in parse_facts(text):
            if _NAME_KEY.fullmatch(fact.key):
                return fact.value
    for values in (entry.metadata, entry.metadata.get("facts")):
        if isinstance(values, Mapping):
            for key in _NAME_METADATA:
                if isinstance(values.get(key), str) and values[key]:
                    return values[key]
    return ""


def entity_key(entry: Entry) -> str:
    """What entries of one entity have in common: the name, else metadata `group`, else the entry's
    own id."""
    name = entity_name(entry).casefold()
    return name or str(entry.metadata.get("group") or entry.id)


def is_name_key(key: str) -> bool:
    """Whether a key says what the thing is called."""
    return _NAME_KEY.fullmatch(key) is not None


def split_list(value: str) -> list[str]:
    """A value that is a list, by commas, semicolons and 、: its items."""
    return [item.strip() for item in re.split(r",(?=\s)|[;，；、]", value) if item.strip()]


def _plain(key: str) -> str:
    return " ".join(key.replace("_", " ").strip("-*•#> \t").split())


def _split_conjoined(key: str, value: str) -> list[Fact]:
    keys, values = _CONJOINED.fullmatch(key), split_list(value)
    if keys is None or len(values) != 2:
        return [Fact(key, value)]
    return [Fact(_plain(k), v) for k, v in zip(keys.groups(), values, strict=True)]


def _metadata_facts(metadata: Mapping[str, Any]) -> list[Fact]:
    facts = []
    for key, value in metadata.items():
        if key in _UNSAID_METADATA:
            continue
        if isinstance(value, Mapping):
            facts.extend(_metadata_facts(value))
        elif said := _say(value):
            facts.append(Fact(_plain(key), said))
    return facts


def _say(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list | tuple) and all(isinstance(v, str | int | float) for v in value):
        return ", ".join(str(v) for v in value)
    return ""


items = split_list  # temporary alias


parse_text = parse_facts  # temporary alias
