"""Write `key: value` facts as Chinese sentences, by the form of the key and the value."""

from __future__ import annotations

import re

from ravlm.data.facts import Fact
from ravlm.generation.extractive.fact_sentences import StorySubject
from ravlm.generation.support_lexicon import YES_NO

_DATE = re.compile(
    r"(?:公元前?)?\d{1,4}年(?:\d{1,2}月)?(?:\d{1,2}[日号])?|\d{4}-\d{2}-\d{2}|\d{1,2}月\d{1,2}[日号]"
)
_DATED_VERB = re.compile(
    r"出生|诞生|逝世|去世|成立|建成|始建|建造|建立|创立|创建|创办|发布|上映|出版|首映|首播|发行|修复"
    r"|重建|开放|开业|关闭|竣工|落成|通车|退役|服役|下水|发现|发明|毕业|结婚|拍摄|创作|签署|生效|更名"
    r"|合并|播出|上市|投产|改建|扩建|完工|开工|动工|发射|投入使用|沉没|遇难|失踪|倒塌"
    r"|拆除|损毁|灭绝|命名|即位|开幕|闭幕|举行|召开|录制|列入|采集|首飞|首航|试航|废止|撤销|迁入|移居|入学|入伍|退休"
)
"""Verbs that go with a date: "于1908年建成"."""
_ATTENDED = re.compile(r"出席|参加|缺席|参会|列席|到场|主持|参演|主演")
_HAVE = {"有": True, "无": False, "没有": False}
_PREDICATE_OPENING = ("可", "能", "会", "已", "有", "适合", "支持", "属于", "需", "含", "对外")
_ENDS_IN_PREPOSITION = re.compile(r".+[于自]$")
_MAX_VALUE = 120


def chinese_fact_sentence(fact: Fact, subject: StorySubject, with_subject: bool = True) -> str:
    """Return a fact as a sentence about its subject, without a full stop; "" if it has none.

    Without the subject, the sentence continues one about the same subject.

    >>> chinese_fact_sentence(Fact("长度", "69米"), StorySubject("瓦萨号"))
    '瓦萨号的长度是69米'
    """
    key, value = fact.key.strip(" ？?"), fact.value.strip().rstrip("。.")
    if not key or not value or len(value) > _MAX_VALUE:
        return ""
    nominative = chinese_subject(subject) if with_subject else ""
    if value in _HAVE and not key.startswith("有无"):
        return f"{nominative}{'有' if _HAVE[value] else '没有'}{_gap(key)}{key}"
    truth = YES_NO.get(value.casefold())
    if truth is not None:
        return _yes_no(key, truth, nominative) or f"“{key}”一项写的是“{value}”"
    if value[-1:] in "！？" or "。" in value:
        return f"“{key}”一项写道：{value}"
    if _ENDS_IN_PREPOSITION.fullmatch(key):
        return f"{nominative}{key}{_gap(value)}{value}"
    if _DATE.fullmatch(value) and _DATED_VERB.fullmatch(key):
        return f"{nominative}于{value}{key}"
    if _ATTENDED.fullmatch(key):
        return f"{key}的有{value}"
    owner = f"{nominative}的" if nominative and subject.name else ""
    return f"{owner}{_gap(key) if owner else ''}{key}{_gap(key[-1:])}是{_gap(value)}{value}"


def is_predicate_key(key: str) -> bool:
    """Return whether a key is a verb, whose sentence can't leave its subject out."""
    patterns = (_ENDS_IN_PREPOSITION, _DATED_VERB, _ATTENDED)
    return any(pattern.fullmatch(key) for pattern in patterns)


def chinese_subject(subject: StorySubject) -> str:
    """Return how a sentence refers to its subject: by its name, or by a pronoun after that."""
    return subject.name if subject.needs_name else subject.pronoun or "它"


def _yes_no(key: str, truth: bool, nominative: str) -> str:
    if key.startswith("是否"):
        key = key.removeprefix("是否")
        return f"{nominative}{'' if truth else '不'}{key}"
    if key[1:2] == "否":  # 能否, 可否, 会否
        return f"{nominative}{'' if truth else '不'}{key[0]}{key[2:]}"
    if key.startswith(_PREDICATE_OPENING):
        if truth:
            return f"{nominative}{key}"
        return f"{nominative}没{key}" if key.startswith("有") else f"{nominative}不{key}"
    return ""


def _gap(text: str) -> str:
    """Return the space between Chinese characters and Latin letters."""
    return " " if text[:1].isascii() and text[:1].isalpha() else ""
