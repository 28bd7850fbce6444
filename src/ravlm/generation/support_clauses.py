"""Compare a clause with one statement of the evidence: words, polarity, numbers, keys and roles."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ravlm.generation.support_lexicon import IRREGULAR, MEASURES, NEGATORS, NEUTRAL
from ravlm.generation.support_statements import CardLine, Statement, subject_of
from ravlm.generation.support_tokens import SupportToken, same_word, stem_word

_BE = frozenset(["is", "was", "are", "were", "be", "been"])
_ARTICLES = frozenset(("the", "a", "an"))
_NUMBER_REACH = 2
"""Tokens after a number within which what it counts is named."""

_SUBJECT_REACH = 4
"""Tokens of a statement within which its subject stands, adjectives included."""

Matches = dict[int, list[int]]
"""Position in a clause -> positions of the same word in the statement."""


def clause_problems(
    clause: Sequence[SupportToken], statement: Statement, request: Sequence[SupportToken]
) -> list[str]:
    """Return the words of a clause that a statement does not support.

    `request`: words that are allowed as well.
    """
    matches: Matches = {}
    problems: list[str] = []
    for index, token in enumerate(clause):
        if not token.is_content:
            continue
        positions = statement.find(token)
        agreeing = [p for p in positions if _same_polarity(token, p, statement)]
        if agreeing:
            matches[index] = agreeing
        elif positions:
            problems.append(token.text)
        elif keys := _measured_keys(token, statement):
            matches[index] = keys
        elif token.negated or not _is_allowed(token, statement, request):
            problems.append(token.text)
    if not matches:
        return problems or [token.text for token in clause if token.is_content]
    problems += _number_problems(clause, statement, matches)
    problems += _name_problems(clause, statement)
    problems += _subject_problems(clause, statement, matches)
    problems += _comparison_problems(clause, statement, matches)
    if statement.lines:
        problems += _line_problems(clause, statement, matches)
    return list(dict.fromkeys(problems))


def _same_polarity(token: SupportToken, position: int, statement: Statement) -> bool:
    if statement.tokens[position].negated == token.negated:
        return True
    line = statement.line_of(position) if statement.lines else None
    return line is not None and line.truth is not None


def _is_allowed(token: SupportToken, statement: Statement, request: Sequence[SupportToken]) -> bool:
    """Return whether a word that the statement lacks is its title, its subject or requested."""
    references = (*statement.title, *statement.carried, *request)
    return any(same_word(token, candidate) for candidate in references)


def _measured_keys(token: SupportToken, statement: Statement) -> list[int]:
    """Return the positions of the keys whose value a predicate ("long") states."""
    keys = MEASURES.get(token.form) or MEASURES.get(token.stem) or ()
    positions = [p for key in keys for p in statement.positions.get(stem_word(key), ())]
    return [p for p in positions if any(p in line.key for line in statement.lines)]


def _number_problems(
    clause: Sequence[SupportToken], statement: Statement, matches: Matches
) -> list[str]:
    """Return the numbers that count something else in the statement, or lost their unit."""
    problems = []
    for index, token in enumerate(clause):
        if not token.is_number or index not in matches:
            continue
        follower = clause[index + 1] if index + 1 < len(clause) else None
        if follower is not None and (follower.is_content or follower.is_unit):
            counting = [p for p in matches[index] if _counts(p, follower, statement)]
        else:
            before = clause[index - 1] if index else None
            counting = [p for p in matches[index] if not _has_other_unit(p, before, statement)]
        if counting:
            matches[index] = counting
        else:
            problems.append(token.text)
    return problems


def _counts(position: int, follower: SupportToken, statement: Statement) -> bool:
    """Return whether the number at a position is one of what `follower` names."""
    tokens = statement.tokens
    near = [*tokens[position + 1 : position + 1 + _NUMBER_REACH]]
    if position and (tokens[position - 1].is_content or tokens[position - 1].is_unit):
        near.append(tokens[position - 1])
    line = statement.line_of(position) if statement.lines else None
    if line is not None:
        near += [tokens[p] for p in line.key]
        unit = tokens[position + 1] if position + 1 in line.value else None
        is_bare = not follower.is_unit and (unit is None or not unit.is_unit)
        if is_bare and any(p in line.key for p in _measured_keys(follower, statement)):
            return True
    elsewhere = not statement.find(follower) and not follower.is_unit
    return elsewhere or any(same_word(follower, token) for token in near)


def _has_other_unit(position: int, before: SupportToken | None, statement: Statement) -> bool:
    """Return whether the number at a position has a unit that the clause does not give."""
    following = statement.tokens[position + 1 : position + 2]
    return bool(following) and following[0].is_unit and not (before and before.is_unit)


def _name_problems(clause: Sequence[SupportToken], statement: Statement) -> list[str]:
    """Return a name whose parts do not stand together in the evidence."""
    sequences = (statement.tokens, statement.title, statement.carried)
    pairs = {(left.form, right.form) for tokens in sequences for left, right in pairwise(tokens)}
    for left, right in pairwise(clause):
        is_name = left.is_name and right.is_name and left.is_content and right.is_content
        if is_name and (left.form, right.form) not in pairs:
            return [left.text]
    return []


def _subject_problems(
    clause: Sequence[SupportToken], statement: Statement, matches: Matches
) -> list[str]:
    """Return the subject of a clause if the statement says it of another."""
    subject = subject_of(clause)
    if statement.lines or not subject:
        return _foreign_title(clause, statement)
    agent = statement.subject
    is_noun = agent and statement.tokens[0].form in _ARTICLES
    holder = (statement.tokens[:_SUBJECT_REACH] if is_noun else agent) or statement.carried
    if all(any(same_word(s, h) for h in holder) for s in subject):
        return _turned_passive(clause, statement, matches)
    if not any(statement.find(token) for token in subject):
        return _foreign_title(clause, statement)
    if not agent and not statement.carried:
        return []
    by_clause, by_statement = (_has(tokens, "by") for tokens in (clause, statement.tokens))
    if not by_clause and agent and _is_passive(clause):
        return []
    rivals = [t for t in agent or holder if not any(same_word(t, s) for s in subject)]
    if not any(same_word(token, candidate) for token in clause for candidate in rivals):
        return [subject[0].text]
    if by_clause != by_statement:
        return []
    copular = not by_clause and _is_copular(clause) and _is_copular(statement.tokens)
    return [] if copular else [subject[0].text]


def _turned_passive(
    clause: Sequence[SupportToken], statement: Statement, matches: Matches
) -> list[str]:
    """Return the verb that a clause has in the passive and the statement with an object."""
    for index, (left, right) in enumerate(pairwise(clause), 1):
        if left.form not in _BE or index not in matches or not _is_participle(right):
            continue
        if all(_takes_object(p, statement) for p in matches[index]):
            return [right.text]
    return []


def _takes_object(position: int, statement: Statement) -> bool:
    tokens = statement.tokens
    before, after = tokens[:position][-1:], tokens[position + 1 : position + 2]
    is_active = not before or before[0].form not in _BE
    return is_active and bool(after) and (after[0].is_name or after[0].form in _ARTICLES)


def _comparison_problems(
    clause: Sequence[SupportToken], statement: Statement, matches: Matches
) -> list[str]:
    """Return a word after "than" that the statement has before it only."""
    thans = [
        next((i for i, t in enumerate(ts) if t.form == "than"), -1)
        for ts in (clause, statement.tokens)
    ]
    if min(thans) < 0:
        return []
    swapped = (i for i, ps in matches.items() if i > thans[0] and max(ps) < thans[1])
    return [clause[i].text for i in swapped][:1]


def _foreign_title(clause: Sequence[SupportToken], statement: Statement) -> list[str]:
    """Return a word of the title if the statement has a subject of its own that is not named."""
    agent = statement.subject
    if statement.lines or not agent or statement.follows_title:
        return []
    if any(same_word(o, t) for o in agent for t in statement.title):
        return []
    if any(same_word(o, token) for o in agent for token in clause):
        return []
    lent = (
        token
        for token in clause
        if token.is_content
        and not statement.find(token)
        and any(same_word(token, t) for t in statement.title)
    )
    return [token.text for token in lent][:1]


def _is_passive(clause: Sequence[SupportToken]) -> bool:
    return any(left.form in _BE and _is_participle(right) for left, right in pairwise(clause))


def _is_participle(token: SupportToken) -> bool:
    return token.text.endswith("ed") or token.text.casefold() in IRREGULAR


def _is_copular(tokens: Sequence[SupportToken]) -> bool:
    return _has(tokens, "is", "was", "are", "were") and not _has(tokens, "than", "as")


def _has(tokens: Sequence[SupportToken], *forms: str) -> bool:
    return any(token.form in forms for token in tokens)


def _line_problems(
    clause: Sequence[SupportToken], statement: Statement, matches: Matches
) -> list[str]:
    """Return the words that a clause puts at a key whose value they are not."""
    problems = []
    stated = {p for positions in matches.values() for p in positions}
    named_lines = [line for line in statement.lines if _is_named(line, statement, matches)]
    for line in named_lines:
        key = [i for i, ps in matches.items() if any(p in line.key for p in ps)]
        if line.truth is None:
            is_right = _states_value(line, statement, stated)
        else:
            is_right = _is_negated(clause, key) != line.truth
        if not is_right:
            problems.append(clause[key[0]].text)
    measured = [line for line in named_lines if line.truth is None]
    if measured:
        for index, positions in matches.items():
            token = clause[index]
            if not token.is_number or any(same_word(token, t) for t in statement.title):
                continue
            if not any(p in line.value or p in line.key for line in measured for p in positions):
                problems.append(token.text)
    return problems + _cut_values(clause, statement, stated)


def _states_value(line: CardLine, statement: Statement, stated: set[int]) -> bool:
    """Return whether a word of the value is stated; its unit alone does not count."""
    is_single = len(line.value) == 1
    return any(is_single or not statement.tokens[p].is_unit for p in stated if p in line.value)


def _is_negated(clause: Sequence[SupportToken], key: Sequence[int]) -> bool:
    """Return whether the words of a clause at the positions `key` are negated."""
    if any(token.negated for token in clause):
        return any(clause[i].negated for i in key)
    return _has(clause, *NEGATORS)


def _is_named(line: CardLine, statement: Statement, matches: Matches) -> bool:
    """Return whether a clause has all content words of a key, not as words of another value."""
    key = [p for p in line.key if statement.tokens[p].is_content]
    if not key:
        return False
    title = statement.title
    values = {p for candidate in statement.lines if candidate is not line for p in candidate.value}
    by_word = {p for ps in matches.values() if not values.intersection(ps) for p in ps}
    if not all(p in by_word for p in key):
        return False
    return not all(any(same_word(statement.tokens[p], t) for t in title) for p in key)


def _cut_values(
    clause: Sequence[SupportToken], statement: Statement, stated: set[int]
) -> list[str]:
    """Return the first words of an item of a value whose last word, its head, is left out."""
    problems = []
    for line in statement.lines:
        for item in _items(line, statement):
            head = item[-1]
            if any(same_word(statement.tokens[p], t) for p in item for t in statement.title):
                continue
            item_positions = [p for p in item[:-1] if p in stated]
            elsewhere = {p for p in stated if p not in item}
            cut = [
                p
                for p in item_positions
                if not any(same_word(statement.tokens[p], statement.tokens[o]) for o in elsewhere)
            ]
            has_head = any(same_word(statement.tokens[head], token) for token in clause)
            if cut and not has_head:
                problems.append(statement.tokens[cut[0]].text)
    return problems


def _items(line: CardLine, statement: Statement) -> list[list[int]]:
    """Return the items of a value, of at least two words: split at commas and function words."""
    items: list[list[int]] = [[]]
    for position in line.value:
        token = statement.tokens[position]
        if token.is_border or token.form in NEUTRAL or token.form in NEGATORS:
            items.append([])
        elif not token.is_number and not token.is_unit:
            items[-1].append(position)
    return [item for item in items if len(item) > 1]
