"""Parse the texts of an entry into a name, `key: value` facts and sentences."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ravlm.data.page_text import certain_texts, is_page
from ravlm.data.text import normalize_text, split_sentences
from ravlm.records import Entry

_KEY_VALUE_LINE = re.compile(r"([^:：]{1,60})[:：](?!//)\s*(.*)")
_NOT_A_KEY = re.compile(r"[.!?;,。！？；，]|https?$")
_CONJOINED_KEYS = re.compile(r"(.+?)(?: and | & |和|与)(.+)")
_NAME_KEY = re.compile(
    r"(common |product |full )?name|entity|title|label|species|名称|名字|姓名|标题|商品名",
    re.IGNORECASE,
)
_NAME_METADATA = ("name", "entity", "title", "label", "common_name")
_SKIPPED_METADATA = frozenset({
    "split", "group", "id", "url", "source", "generated", "license", "licence",
})  # fmt: skip
_MARKDOWN_BLOCK = re.compile(r"#{1,6} |\|")
"""Start of a heading or a row of a table, as DOCX, PPTX and HTML files have them."""
_MAX_KEY_WORDS = 6


@dataclass(frozen=True)
class Fact:
    """One statement of an entry: `key: value`, or a sentence (with an empty `key`).

    `section` is the heading it stands under.
    """

    key: str
    value: str
    section: str = ""

    @property
    def line(self) -> str:
        """The fact as a line of text."""
        return f"{self.key}: {self.value}" if self.key else self.value


def read_facts(entry: Entry) -> list[Fact]:
    """Return the facts of an entry's texts and regions, in order, and of its metadata, without
    duplicates.

    The metadata of a page tell which document it is from, and nothing of its own.
    """
    unique: dict[tuple[str, str], Fact] = {}
    text_facts = [fact for text in certain_texts(entry) for fact in parse_facts(text)]
    metadata_facts = [] if is_page(entry) else _metadata_facts(entry.metadata)
    for fact in text_facts + metadata_facts:
        unique.setdefault((fact.key.casefold(), fact.value.casefold()), fact)
    return list(unique.values())


def parse_facts(text: str) -> list[Fact]:
    """Return the facts of one text: one per `key: value` line, and one per sentence of other lines.

    A line `heading:` without a value is the `section` of the lines that follow, up to the next key.
    If a key joins two ("Country and volume: Italy, 180g") and the value has two parts, the line
    becomes two facts.
    """
    facts: list[Fact] = []
    section = ""
    for raw_line in text.splitlines():
        line = raw_line.strip("\ufeff \t")
        match = _KEY_VALUE_LINE.fullmatch(line)
        if match is None or not _is_key(match[1]):
            facts.extend(Fact("", sentence, section) for sentence in split_sentences(line))
        elif match[2]:
            section = ""
            facts.extend(_split_conjoined(_clean_key(match[1]), match[2].strip()))
        else:
            section = _clean_key(match[1])
    return facts


def free_sentences(text: str) -> list[str]:
    """Return the sentences of a text, without its `key: value` lines, headings and tables."""
    values = (fact.value for fact in parse_facts(text) if not fact.key)
    return [value for value in values if not _MARKDOWN_BLOCK.match(value)]


def entity_name(entry: Entry) -> str:
    """Return the name of the entity that the entry is about, or "".

    The name is the value of the first key that means "name", in the texts and then in the metadata.
    The title of a document does not name its pages.
    """
    for text in entry.texts:
        for fact in parse_facts(text):
            if is_name_key(fact.key):
                return fact.value
    for values in (entry.metadata, entry.metadata.get("facts")) if not is_page(entry) else ():
        if isinstance(values, Mapping):
            for key in _NAME_METADATA:
                if isinstance(values.get(key), str) and values[key]:
                    return values[key]
    return ""


def entity_key(entry: Entry) -> str:
    """Return a key that all entries of one entity share.

    It is the name, else the metadata `group`, else the entry's own id.
    """
    name = normalize_text(entity_name(entry)).casefold()
    return name or str(entry.metadata.get("group") or entry.id)


def is_name_key(key: str) -> bool:
    """Return whether the value of `key` is the name of the entity."""
    return _NAME_KEY.fullmatch(normalize_text(key)) is not None


def split_list(value: str) -> list[str]:
    """Return the items of a list that is separated by commas, semicolons or 、."""
    return [item.strip() for item in re.split(r",(?=\s)|[;，；、]", value) if item.strip()]


def _is_key(text: str) -> bool:
    return not _NOT_A_KEY.search(text) and len(text.split()) <= _MAX_KEY_WORDS


def _clean_key(key: str) -> str:
    return " ".join(key.replace("_", " ").strip("-*•#> \t").split())


def _split_conjoined(key: str, value: str) -> list[Fact]:
    keys = _CONJOINED_KEYS.fullmatch(key)
    values = split_list(value)
    if keys is None or len(values) != 2:
        return [Fact(key, value)]
    return [Fact(_clean_key(k), v) for k, v in zip(keys.groups(), values, strict=True)]


def _metadata_facts(metadata: Mapping[str, Any]) -> list[Fact]:
    facts = []
    for key, value in metadata.items():
        if key in _SKIPPED_METADATA:
            continue
        if isinstance(value, Mapping):
            facts.extend(_metadata_facts(value))
        elif text := _value_text(value):
            facts.append(Fact(_clean_key(key), text))
    return facts


def _value_text(value: Any) -> str:
    """Return a metadata value as text, or "" for one that has no readable form."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list | tuple) and all(isinstance(v, str | int | float) for v in value):
        return ", ".join(str(v) for v in value)
    return ""
