"""Split texts of evidence into statements, each with its own subject or that of the one before."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ravlm.data.facts import Fact, is_name_key, parse_facts
from ravlm.generation.support_lexicon import NEUTRAL, OPENINGS, POSSESSIVES, PRONOUNS, YES_NO
from ravlm.generation.support_tokens import SupportToken, same_word, tokenize

_CLAUSE_BORDER = re.compile(
    r";\s+|,?\s(?:and|but|while|whereas)\s(?=(?:he|she|it|they|his|her|its|their)\b)"
)
_DETERMINERS = frozenset(("the", "a", "an"))
_COPULAS = frozenset(("is", "was", "are", "were"))
_MAX_TITLE_WORDS = 8
_MAX_NOUN_WORDS = 2
_PRONOUN_REACH = 8
"""Tokens from the start of a clause within which a pronoun may be its subject."""


@dataclass(frozen=True)
class CardLine:
    """A `key: value` line within the tokens of a card."""

    key: range
    value: range
    truth: bool | None
    """What a yes/no value says; None for any other value."""


@dataclass(frozen=True)
class Statement:
    """A clause of prose, or all `key: value` lines of one text together."""

    tokens: tuple[SupportToken, ...]
    subject: tuple[SupportToken, ...] = ()
    """Its own subject; empty if it takes over another."""
    title: tuple[SupportToken, ...] = ()
    """What the whole text is about: its name and how it is defined."""
    carried: tuple[SupportToken, ...] = ()
    """The subject of an earlier statement, for which its pronoun stands."""
    follows_title: bool = True
    """Whether its own subject, if any, may be the text's subject under another word."""
    lines: tuple[CardLine, ...] = ()
    text: int = 0
    """Number of its text."""

    @cached_property
    def positions(self) -> dict[str, list[int]]:
        """Stem -> positions in `tokens`."""
        positions: defaultdict[str, list[int]] = defaultdict(list)
        for position, token in enumerate(self.tokens):
            positions[token.stem].append(position)
        return dict(positions)

    def find(self, token: SupportToken) -> list[int]:
        """Return the positions of forms of a token."""
        positions = self.positions.get(token.stem, ())
        return [p for p in positions if same_word(self.tokens[p], token)]

    def line_of(self, position: int) -> CardLine | None:
        """Return the line of a card that a position belongs to."""
        return next((line for line in self.lines if position in line.value), None) or next(
            (line for line in self.lines if position in line.key), None
        )


def read_statements(text: str, number: int = 0) -> list[Statement]:
    """Return the statements of one text, which has a number among several."""
    facts = parse_facts(text)
    title = _title(facts)
    keyed = [fact for fact in facts if fact.key]
    statements = [_card(keyed, title)] if keyed else []
    statements += _prose([fact for fact in facts if not fact.key], title)
    return [replace(statement, text=number) for statement in statements]


def _truth(fact: Fact) -> bool | None:
    return YES_NO.get(fact.value.strip(" .").casefold())


def _title(facts: Sequence[Fact]) -> tuple[SupportToken, ...]:
    """Return the words of the name, of a heading, and of the definition of a text's subject."""
    names = [fact.value for fact in facts if fact.key and is_name_key(fact.key)]
    first = facts[0] if facts else Fact("", "")
    is_heading = not first.key and len(facts) > 1 and first.value[-1:] not in ".!?"
    is_short = len(first.value.split()) <= _MAX_TITLE_WORDS
    is_name = first.key and first.value[:1].isalpha() and "," not in first.value
    is_name = is_name and _truth(first) is None
    if not names and is_short and (is_heading or is_name):
        names = [f"{first.key}: {first.value}"]
    tokens = [token for name in names for token in tokenize(name)]
    prose = next((f.value for f in facts if not f.key and f.value[-1:] in ".!?"), "")
    tokens += _defined(tokenize(prose))
    return tuple(token for token in tokens if token.is_content)


def _defined(tokens: Sequence[SupportToken]) -> list[SupportToken]:
    """Return subject and complement of "X is a ...", up to a preposition; nothing otherwise."""
    copulas = (i for i, token in enumerate(tokens[:-1]) if token.form in _COPULAS)
    index = next(copulas, 0)
    if not index:
        return []
    if not subject_of(tokens) or tokens[index + 1].form not in _DETERMINERS:
        return []
    if any(token.is_border and token.form not in "()" for token in tokens[:index]):
        return []
    complement = []
    for token in tokens[index + 2 :]:
        if token.is_border or (token.form in NEUTRAL and token.form not in ("and", "or")):
            break
        complement.append(token)
    return [*(token for token in tokens[:index] if token.is_content), *complement]


def subject_of(tokens: Sequence[SupportToken]) -> tuple[SupportToken, ...]:
    """Return the words that open a clause as its subject: a run of names, or a noun.

    Empty if it opens with a pronoun, a preposition or an adverb.
    """
    first = 0
    if tokens and (tokens[0].form in _DETERMINERS or tokens[0].form in POSSESSIVES):
        first = 1
    opening = tokens[first].form if first < len(tokens) else ""
    if not opening or opening in PRONOUNS or opening in OPENINGS or tokens[first].is_number:
        return ()
    if not tokens[first].is_content:
        return ()
    end = first + 1
    while end < len(tokens) and tokens[end].is_name:
        end += 1
    return tuple(tokens[first:end])


def _long_subject(
    tokens: Sequence[SupportToken], subject: tuple[SupportToken, ...]
) -> tuple[SupportToken, ...]:
    """Return a subject with the words after an article: which of them is the noun is unknown."""
    if tokens[0].form not in _DETERMINERS or any(token.is_name for token in subject):
        return subject
    return tuple(token for token in tokens[: _MAX_NOUN_WORDS + 1] if token.is_content)


def _card(facts: Sequence[Fact], title: tuple[SupportToken, ...]) -> Statement:
    tokens: list[SupportToken] = []
    lines: list[CardLine] = []
    border = SupportToken(";", ";", ";")
    for fact in facts:
        start = len(tokens)
        tokens += tokenize(f"{fact.section} {fact.key}".strip())
        middle = len(tokens)
        tokens += tokenize(fact.value)
        value = range(middle, len(tokens))
        lines.append(CardLine(range(start, middle), value, _truth(fact)))
        tokens.append(border)
    return Statement(tuple(tokens), title=title, lines=tuple(lines))


def _prose(facts: Sequence[Fact], title: tuple[SupportToken, ...]) -> Iterator[Statement]:
    """Yield the clauses; one that opens with a pronoun takes over the subject before it."""
    subject: tuple[SupportToken, ...] = ()
    mentioned: set[str] = set()
    for fact in facts:
        for clause in _CLAUSE_BORDER.split(fact.value):
            tokens = tokenize(clause)
            opening = subject_of(tokens)
            forms = {token.form for token in tokens[:_PRONOUN_REACH]}
            takes_over = not opening and bool(forms & PRONOUNS)
            is_definite = bool(tokens) and tokens[0].form == "the"
            head = opening[0].form if opening else ""
            is_known = head in mentioned
            follows = is_definite and not any(t.is_name for t in opening) and not is_known
            is_owned = bool(tokens) and tokens[0].form in POSSESSIVES
            heading = tokenize(fact.section) if fact.section else []
            yield Statement(
                (*tokens, *heading),
                opening,
                title,
                subject if takes_over or is_owned or (is_definite and is_known) else (),
                follows,
            )
            mentioned |= {token.form for token in tokens if token.is_content}
            if opening and not is_owned:
                subject = _long_subject(tokens, opening)
            elif not takes_over:
                subject = ()
