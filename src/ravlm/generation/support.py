"""Judge whether a sentence is supported by texts: every word of it, its numbers and who does what.

A sentence is supported if one statement of one text has all its content words, in the same
polarity, with the same numbers at the same units, and of the same subject. A sentence of several
clauses is judged clause by clause. Only words are compared: a conclusion is not supported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property

from ravlm.data.text import is_chinese
from ravlm.generation.citation_marks import remove_citations
from ravlm.generation.support_chinese import ChineseEvidence
from ravlm.generation.support_clauses import clause_problems
from ravlm.generation.support_lexicon import PRONOUNS
from ravlm.generation.support_statements import Statement, read_statements, subject_of
from ravlm.generation.support_tokens import SupportToken, tokenize

_MAX_CANDIDATES = 12
"""Statements that a clause is compared with: those that share most words with it."""
_CLAUSE_BORDERS = frozenset((",", ";", "and", "but", "while", "which", "who", "where"))
_MIN_CLAUSE_WORDS = 2


def unsupported_words(
    sentence: str, texts: Sequence[str], request: str = "", subject: str = ""
) -> tuple[str, ...]:
    """Return the words of a sentence that no statement of `texts` supports, in order.

    Each text is one entry. Common words of the `request` are allowed, too, but not its names.
    `subject` is what the pronouns of the sentence stand for. A word is also returned for what is
    said of the wrong subject, at the wrong key or with the wrong polarity.

    >>> unsupported_words("The Vasa is a famous warship.", ["Name: Vasa\\nType: warship"])
    ('famous',)
    """
    return SupportChecker(texts, request, subject).unsupported_words(sentence)


def is_supported(sentence: str, texts: Sequence[str], request: str = "", subject: str = "") -> bool:
    """Return whether a sentence states something, and all of it is supported by `texts`.

    Arguments as in `unsupported_words`.
    """
    return SupportChecker(texts, request, subject).is_supported(sentence)


class SupportChecker:
    """Judges sentences by the same texts; the texts are read once.

    >>> checker = SupportChecker(["Name: Vasa\\nLength: 69 m", "Name: Mary Rose\\nLength: 32 m"])
    >>> checker.is_supported("The Mary Rose is 69 m long.")
    False
    """

    def __init__(self, texts: Sequence[str], request: str = "", subject: str = "") -> None:
        self.texts = tuple(texts)
        self._request = [t for t in tokenize(request) if t.is_content and not _is_proper(t)]
        self.subject = subject

    @cached_property
    def _statements(self) -> list[Statement]:
        return [s for number, text in enumerate(self.texts) for s in read_statements(text, number)]

    @cached_property
    def _index(self) -> dict[str, list[int]]:
        """Stem -> statements that have it or take it over."""
        index: dict[str, list[int]] = {}
        for number, statement in enumerate(self._statements):
            for stem in statement.positions:
                index.setdefault(stem, []).append(number)
        return index

    @cached_property
    def _texts_of(self) -> dict[str, list[int]]:
        """Stem -> texts that have it."""
        texts: dict[str, list[int]] = {}
        for stem, numbers in self._index.items():
            texts[stem] = sorted({self._statements[number].text for number in numbers})
        return texts

    @cached_property
    def _chinese(self) -> ChineseEvidence:
        return ChineseEvidence(self.texts)

    def is_supported(self, sentence: str) -> bool:
        """Return whether a sentence states something, and all of it is supported."""
        sentence = remove_citations(sentence)
        if is_chinese(sentence):
            states = self._chinese.has_content(sentence)
        else:
            states = any(token.is_content for token in tokenize(sentence))
        return states and not self.unsupported_words(sentence)

    def unsupported_words(self, sentence: str) -> tuple[str, ...]:
        """Return the words that lack support, in order; none if the sentence is supported."""
        sentence = remove_citations(sentence)
        if is_chinese(sentence):
            return self._chinese.unsupported(sentence, self.subject)
        tokens = tokenize(sentence)
        subject = tokenize(self.subject)
        problems = self._problems(_with_subject(tokens, subject))
        if not problems:
            return ()
        clauses = split_clauses(tokens)
        if len(clauses) > 1:
            texts = self._texts_about(subject_of(clauses[0]))
            problem_lists = [
                self._problems(_with_subject(clause, subject), texts) for clause in clauses
            ]
            problems = [word for words in problem_lists for word in words]
        return tuple(dict.fromkeys(problems))

    def _texts_about(self, subject: Sequence[SupportToken]) -> frozenset[int] | None:
        """Return the texts that have all words of a subject; None if there is none."""
        if not subject:
            return None
        numbers = [set(self._texts_of.get(token.stem, ())) for token in subject]
        return frozenset(set.intersection(*numbers))

    def _problems(
        self, clause: Sequence[SupportToken], texts: frozenset[int] | None = None
    ) -> list[str]:
        """Return the problems of a clause with the statement that supports it best.

        A clause that opens with a pronoun is compared with the given `texts` only.
        """
        only = texts if clause[:1] and clause[0].form in PRONOUNS else None
        content = [token for token in clause if token.is_content]
        if not content:
            return []
        counts = Counter(
            number for stem in {t.stem for t in content} for number in self._index.get(stem, ())
        )
        best = [token.text for token in content]
        # Of statements that share as many words, the earlier.
        order = sorted(counts, key=lambda number: (-counts[number], number))
        candidates = [n for n in order if only is None or self._statements[n].text in only]
        for number in candidates[:_MAX_CANDIDATES]:
            problems = clause_problems(clause, self._statements[number], self._request)
            if not problems:
                return []
            if len(problems) < len(best):
                best = problems
        return best


def split_clauses(tokens: Sequence[SupportToken]) -> list[list[SupportToken]]:
    """Split a sentence at commas and conjunctions; a later clause is about the first one's subject.

    A clause of less than two content words stays with the one before.
    """
    pieces: list[list[SupportToken]] = [[]]
    for token in tokens:
        if token.form in _CLAUSE_BORDERS and pieces[-1]:
            pieces.append([])
        if token.form not in _CLAUSE_BORDERS:
            pieces[-1].append(token)
    clauses: list[list[SupportToken]] = []
    for piece in pieces:
        if clauses and sum(t.is_content for t in piece) < _MIN_CLAUSE_WORDS:
            clauses[-1] += piece
        else:
            clauses.append(list(piece))
    subject = list(subject_of(tokens))
    for clause in clauses[1:]:
        opening = clause[0]
        keeps_subject = opening.form in PRONOUNS or opening.form == "the"
        if not keeps_subject and not opening.text[:1].isupper():
            clause[:0] = subject
    return [clause for clause in clauses if any(token.is_content for token in clause)]


def _with_subject(
    clause: Sequence[SupportToken], subject: Sequence[SupportToken]
) -> list[SupportToken]:
    """Return a clause with the subject in the place of its first pronoun."""
    if subject:
        for index, token in enumerate(clause):
            if token.form in PRONOUNS:
                return [*clause[:index], *subject, *clause[index + 1 :]]
    return list(clause)


def _is_proper(token: SupportToken) -> bool:
    return token.is_name or token.is_number
