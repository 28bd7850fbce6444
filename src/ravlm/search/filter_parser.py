"""Read filters as people write them, a text or a mapping, into the tree of `filters`.

    facts.year >= 1990 and kind in ["bird", "fish"]

`filter_mapping` reads mappings; `filters` defines the meaning of a comparison.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn, TypeAlias

from ravlm.errors import InvalidInput
from ravlm.search.filter_mapping import from_mapping
from ravlm.search.filters import OPERATORS, AllOf, AnyOf, Compare, Filter, Not, Scalar, compare

Where: TypeAlias = "str | Mapping[str, Any] | Filter | None"
MAX_DEPTH = 60
MAX_COMPARISONS = 400
"""SQLite allows expressions a thousand levels deep; a filter stays well below."""
_RESERVED = ("and", "or", "not", "in")
_CONSTANTS: dict[str, Scalar] = {"true": True, "false": False, "null": None, "none": None}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))
    |(?P<op><=|>=|==|!=|=|<|>)
    |(?P<mark>[()\[\],])
    |(?P<word>[^\W\d][\w-]*(?:\.[\w-]+)*)
    |(?P<other>\S))""",
    re.VERBOSE | re.DOTALL,
)


class FilterToken(NamedTuple):
    """A token of a filter text."""

    kind: str
    """Group of the pattern above, or "end"."""
    text: str
    start: int
    """Offset in the filter text."""


def read_filter(where: Where) -> Filter | None:
    """Return `where` as a tree; None if it accepts everything.

    Raises InvalidInput with the position of the first error.
    """
    if where is None or isinstance(where, Compare | Not | AllOf | AnyOf):
        return where
    if isinstance(where, str):
        tree = parse(where)
    elif isinstance(where, Mapping):
        try:
            tree = from_mapping(where)
        except RecursionError:
            raise InvalidInput("The filter is nested too deeply; simplify it.") from None
    else:
        raise InvalidInput(
            f"where is of type {type(where).__name__}; "
            'give a mapping such as {"split": "train"} or a text such as "split = \'train\'".'
        )
    count = _count_comparisons(tree)
    if count > MAX_COMPARISONS:
        raise InvalidInput(
            f"The filter has {count} comparisons; at most {MAX_COMPARISONS} are allowed. "
            "To compare a key with many values, use `in`."
        )
    return None if tree == AllOf(()) else tree


def _count_comparisons(tree: Filter) -> int:
    if isinstance(tree, Compare):
        return 1
    children = (tree.inner,) if isinstance(tree, Not) else tree.inner
    return 1 + sum(map(_count_comparisons, children))


def parse(text: str) -> Filter:
    """Return the tree of a filter text; a blank text accepts everything.

    Raises InvalidInput with the position (from 1) of the first error.
    """
    if not text.strip():
        return AllOf(())
    if text.lstrip().startswith("{"):
        return _from_json(text)
    return _FilterParser(text).parse()


def _from_json(text: str) -> Filter:
    try:
        return from_mapping(json.loads(text))
    except json.JSONDecodeError as error:
        raise InvalidInput(
            f"The filter {text!r} starts like JSON but is not valid: {error}."
        ) from None
    except RecursionError:
        raise InvalidInput("The filter is nested too deeply; simplify it.") from None


class _FilterParser:
    """Recursive descent; precedence: or < and < not < comparison."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.depth = 0
        self.tokens = [
            FilterToken(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup))
            for match in _TOKEN.finditer(text)
            if match.lastgroup
        ]
        self.tokens.append(FilterToken("end", "the end", len(text)))

    def parse(self) -> Filter:
        tree = self.disjunction()
        if self.current.kind != "end":
            self.fail("and, or or the end of the filter")
        return tree

    @property
    def current(self) -> FilterToken:
        return self.tokens[self.position]

    def advance(self) -> FilterToken:
        """Return the current token and step over it."""
        self.position += 1
        return self.tokens[self.position - 1]

    def accept(self, *words: str) -> bool:
        """Step over the current token if it is one of these words or marks."""
        if self.current.kind in ("word", "mark") and self.current.text.lower() in words:
            self.position += 1
            return True
        return False

    def disjunction(self) -> Filter:
        tests = [self.conjunction()]
        while self.accept("or"):
            tests.append(self.conjunction())
        return tests[0] if len(tests) == 1 else AnyOf(tuple(tests))

    def conjunction(self) -> Filter:
        tests = [self.negation()]
        while self.accept("and"):
            tests.append(self.negation())
        return tests[0] if len(tests) == 1 else AllOf(tuple(tests))

    def negation(self) -> Filter:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"at most {MAX_DEPTH} levels of parentheses and not")
        if self.accept("not"):
            tree: Filter = Not(self.negation())
        elif self.accept("("):
            tree = self.disjunction()
            if not self.accept(")"):
                self.fail(")")
        else:
            tree = self.comparison()
        self.depth -= 1
        return tree

    def comparison(self) -> Compare:
        key = self.key()
        if self.accept("in"):
            return compare(key, "in", self.values())
        if self.current.kind == "word" and self.current.text.lower() == "not":
            self.fail(f"an operator; write `not {key} in [...]` for the opposite of `in`")
        if self.current.kind != "op":
            self.fail("an operator")
        op = self.advance().text
        return compare(key, op, self.value())

    def key(self) -> str:
        token = self.current
        reserved = token.kind == "word" and token.text.lower() in _RESERVED
        if token.kind not in ("word", "text") or reserved:
            self.fail('a metadata key such as kind, facts.year or "official name"')
        self.advance()
        return _unquote(token) if token.kind == "text" else token.text

    def values(self) -> list[Scalar]:
        if not self.accept("["):
            self.fail('a list such as ["bird", "fish"]')
        values: list[Scalar] = []
        while not self.accept("]"):
            if values and not self.accept(","):
                self.fail(", or ]")
            values.append(self.value())
        return values

    def value(self) -> Scalar:
        token = self.current
        if token.kind == "text":
            return _unquote(self.advance())
        if token.kind == "number":
            self.advance()
            try:
                return int(token.text)
            except ValueError:
                return float(token.text)
        if token.kind != "word" or token.text.lower() not in _CONSTANTS:
            self.fail("a number, true, false, null or a text in quotes")
        return _CONSTANTS[self.advance().text.lower()]

    def fail(self, expected: str) -> NoReturn:
        position = self.current.start + 1
        raise InvalidInput(
            f"The filter `{self.text}` has an error at position {position} ({self.current.text}): "
            f"expected {expected}. "
            f"Operators: {' '.join(OPERATORS)}; join with and, or, not and parentheses."
        )


def _unquote(token: FilterToken) -> str:
    """Return the content of a quoted text, with JSON escapes; other escapes mean the character."""
    content = re.sub(
        r"\\(?:u([0-9a-fA-F]{4})|(.))",
        lambda match: chr(int(match[1], 16)) if match[1] else _ESCAPES.get(match[2], match[2]),
        token.text[1:-1],
        flags=re.DOTALL,
    )
    # Two escapes may be the halves of one character, as JSON writes emoji: \ud83d\ude00.
    return content.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
