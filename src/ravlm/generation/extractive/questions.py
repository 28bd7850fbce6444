"""Parse the form of a question from its words: its language, form, unit and negation.

What the question *asks for* (capital, price, name) is classified in `question_types.py`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ravlm.data.text import is_chinese
from ravlm.generation.extractive.units import Units

Form = Literal["open", "number", "yes/no", "choice"]

_AUXILIARY = (
    r"(?:is|are|was|were|do|does|did|has|have|had|can|could|will|would|should|must|may)(?:n't)?"
)
_YES_NO = re.compile(
    rf"^(?:and |so |but )?{_AUXILIARY}\b|[吗嘛么]$|是不是|是否|有没有|会不会|能不能|可不可以",
    re.IGNORECASE,
)
_INVITED = re.compile(
    r"^(?:(?:can|could|would|will) (?:you|i|we)|do you|please|(?:tell|give|show|read) (?:me|us))\b",
    re.IGNORECASE,
)
_NOT_YES_NO = re.compile(
    r"什么$|怎么$|那么$|多么$"
    # German "was" is "what"
    r"|^was (?:ist|sind|waren|wird|werden|hat|haben|kann|muss|soll|darf|macht|bedeutet|heißt|kostet"
    r"|versteht|passiert|geschieht|steht|gehört|brauch\w+)\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"\bhow (?:many|much|large|big|long|tall|high|heavy|old|wide|broad|deep|far|fast|hot|cold"
    r"|populous|expensive)\b"
    r"|\bwhat (?:number|percentage)\b|多少|几[个种只条位座]|多[大长高重宽深远快久]",
    re.IGNORECASE,
)
_COUNT = re.compile(
    r"\bhow many\b|\bwhat number of\b|\bnumber of\b|多少[个种只条位座]|几[个种只条位座]",
    re.IGNORECASE,
)
_NEGATION = re.compile(
    r"\b(?:no|not|without|lacks?|never|none)\b|n['’]t\b|(?<![是会能可])不|(?<!有)没|无",
    re.IGNORECASE,
)
_FUNCTION = (  # after which "this" does not refer to the entity
    r"(?:photo|photograph|picture|image|pic|is|are|was|were|the|a|an|of|in|on|at|from|and|or|do|does|did|has|have|can|"
    r"one|what|which|who)\b"
)
_REFERENCE = re.compile(
    rf"\b(?:the|this|that|these|those) (?!{_FUNCTION})[\w-]+(?: that| which)?(?: \w+)? "
    r"(?:with|in|on|has|flies|bears) "
    r"(?:this|that|the) (?:flag|photo(?:graph)?|picture|image|sign)\b"
    rf"|\b(?:this|that|these|those) (?!{_FUNCTION})[\w-]+",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Question:
    """A question and what can be read from its words alone."""

    text: str
    english: str
    """The text in English: itself, or the gloss of a Chinese one."""
    plain: str
    """The English text with references to the entity ("this butterfly", "the country with this
    flag") replaced by "it"."""
    chinese: bool
    form: Form
    negated: bool = False
    """Whether it contains no, not or without."""
    counts: bool = False
    """Whether it asks for a count: the number of a list's items answers it."""
    unit: str = ""
    dimension: str = ""


def parse_question(text: str, units: Units, english: str = "") -> Question:
    """Parse an English or Chinese question; `english` is its gloss if it is Chinese."""
    bare = text.strip().rstrip("?？.。!！ ")
    unit, dimension = units.requested(bare)
    return Question(
        text=text,
        english=english or text,
        plain=_REFERENCE.sub("it", english or text),
        chinese=is_chinese(text),
        form=_form(bare),
        negated=is_negated(bare),
        counts=_COUNT.search(bare) is not None,
        unit=unit,
        dimension=dimension,
    )


def is_negated(text: str) -> bool:
    """Return whether an English or Chinese text says no, not, without or lacks."""
    return _NEGATION.search(text) is not None


def _form(bare: str) -> Form:
    if _INVITED.search(bare):  # "Can you tell me ..." is no question for yes or no
        return "number" if _NUMBER.search(bare) else "open"
    if "还是" in bare:
        return "choice"
    if _YES_NO.search(bare) and not _NOT_YES_NO.search(bare):
        return "choice" if " or " in bare else "yes/no"
    return "number" if _NUMBER.search(bare) else "open"
