"""How filters are written: as text or as a mapping, read to the tree of `filters`.

    facts.year >= 1990 and kind in ["bird", "fish"]            {"split": "train", "facts": {"year":
    {">=": 1990}}}

Knows the grammar only; what a comparison means stands in `filters`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn, TypeAlias

from ravlm.errors import InvalidInput
from ravlm.search.filters import OPERATORS, AllOf, AnyOf, Compare, Filter, Not, Scalar, compare

Where: TypeAlias = "str | Mapping[str, Any] | Filter | None"
MAX_DEPTH = 60
MAX_COMPARISONS = 400
"""SQLite allows expressions a thousand levels deep; a filter stays well below."""
_RESERVED = ("and", "or", "not", "in")
_CONSTANTS: dict[str, Scalar] = {"true": True, "false": False, "null": None, "none": None}
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))
    |(?P<op><=|>=|==|!=|=|<|>)
    |(?P<mark>[()\[\],])
    |(?P<word>[^\W\d][\w-]*(?:\.[\w-]+)*)
    |(?P<other>\S))""",
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    """A piece of the text: its kind (a group of the pattern above, or "end"), itself, and where it
    begins."""

    kind: str
    text: str
    place: int


def read_filter(where: Where) -> Filter | None:
    """`where` as a tree; None where everything passes. Raises InvalidInput with the place that
    can't be read."""
    if where is None or isinstance(where, Compare | Not | AllOf | AnyOf):
        return where
    if isinstance(where, str):
        tree = parse(where)
    elif isinstance(where, Mapping):
        tree = from_mapping(where)
    else:
        raise InvalidInput(
            f'where is of type {type(where).__name__}; give a mapping as {{"split": "train"}} or a text as '
            f"'split = \"train\"'."
        )
    if (count := _count(tree)) > MAX_COMPARISONS:
        raise InvalidInput(
            f"The filter has {count} comparisons; at most {MAX_COMPARISONS} are allowed: use `in`."
        )
    return None if tree == AllOf(()) else tree


def _count(tree: Filter) -> int:
    if isinstance(tree, Compare):
        return 1
    return 1 + sum(map(_count, (tree.inner,) if isinstance(tree, Not) else tree.inner))


def from_mapping(where: Mapping[str, Any], path: str = "") -> Filter:
    """The mapping form: key to value, to a list (`in`), to {operator: value}, or to a mapping of
    nested keys."""
    tests: list[Filter] = []
    for key, value in where.items():
        if not isinstance(key, str):
            raise InvalidInput(
                f"The filter has the key {key!r}; a metadata key (a text) is needed."
            )
        name = f"{path}.{key}" if path else key
        if path and key in OPERATORS:
            tests.append(compare(path, key, value))
        elif isinstance(value, Mapping):
            if not value:
                raise InvalidInput(
                    f'The filter compares "{name}" with nothing; give a value or {{">=": 1990}}.'
                )
            tests.append(from_mapping(value, name))
        else:
            tests.append(
                compare(name, "in" if isinstance(value, list | tuple | set) else "=", value)
            )
    return tests[0] if len(tests) == 1 else AllOf(tuple(tests))


def parse(text: str) -> Filter:
    """Read a filter. Raises InvalidInput with the position (from 1) of what can't be read. Blank:
    everything."""
    if not text.strip():
        return AllOf(())
    if text.lstrip().startswith("{"):
        return _from_json(text)
    return _Parser(text).whole()


def _from_json(text: str) -> Filter:
    try:
        return from_mapping(json.loads(text))
    except json.JSONDecodeError as error:
        raise InvalidInput(
            f"The filter {text!r} begins as JSON but is not valid: {error}."
        ) from None
    except RecursionError:
        raise InvalidInput("The filter is nested too deeply; make it simpler.") from None


class _Parser:
    """Recursive descent: or < and < not < comparison."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.depth = text, 0, 0
        self.tokens = [
            Token(str(match.lastgroup), match[match.lastgroup], match.start(match.lastgroup))
            for match in _TOKEN.finditer(text)
            if match.lastgroup
        ]
        self.tokens.append(Token("end", "the end", len(text)))

    def whole(self) -> Filter:
        tree = self.either()
        if self.now.kind != "end":
            self.fail("and, or or the end of the filter")
        return tree

    @property
    def now(self) -> Token:
        return self.tokens[self.at]

    def take(self) -> Token:
        self.at += 1
        return self.tokens[self.at - 1]

    def word(self, *words: str) -> bool:
        """Step over the next token if it is one of these words or marks."""
        if self.now.kind in ("word", "mark") and self.now.text.lower() in words:
            self.at += 1
            return True
        return False

    def either(self) -> Filter:
        tests = [self.both()]
        while self.word("or"):
            tests.append(self.both())
        return tests[0] if len(tests) == 1 else AnyOf(tuple(tests))

    def both(self) -> Filter:
        tests = [self.single()]
        while self.word("and"):
            tests.append(self.single())
        return tests[0] if len(tests) == 1 else AllOf(tuple(tests))

    def single(self) -> Filter:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"at most {MAX_DEPTH} levels of parentheses and not")
        if self.word("not"):
            tree: Filter = Not(self.single())
        elif self.word("("):
            tree = self.either()
            if not self.word(")"):
                self.fail(")")
        else:
            tree = self.comparison()
        self.depth -= 1
        return tree

    def comparison(self) -> Compare:
        if self.now.kind not in ("word", "text") or (
            self.now.kind == "word" and self.now.text.lower() in _RESERVED
        ):
            self.fail('a metadata key as kind, facts.year or "official name"')
        token = self.take()
        key = self.unquote(token) if token.kind == "text" else token.text
        if self.word("in"):
            return compare(key, "in", self.values())
        if self.now.kind == "word" and self.now.text.lower() == "not":
            self.fail(f"an operator; write `not {key} in [...]` for the opposite of `in`")
        if self.now.kind != "op":
            self.fail("an operator")
        return compare(key, self.take().text, self.value())

    def values(self) -> list[Scalar]:
        if not self.word("["):
            self.fail('a list as ["bird", "fish"]')
        found: list[Scalar] = []
        while not self.word("]"):
            if found and not self.word(","):
                self.fail(", or ]")
            found.append(self.value())
        return found

    def value(self) -> Scalar:
        token = self.now
        if token.kind == "text":
            return self.unquote(self.take())
        if token.kind == "number":
            self.at += 1
            try:
                return int(token.text)
            except ValueError:
                return float(token.text)
        if token.kind != "word" or token.text.lower() not in _CONSTANTS:
            self.fail("a number, true, false, null or a text in quotes")
        return _CONSTANTS[self.take().text.lower()]

    def unquote(self, token: Token) -> str:
        """A quoted text's content; the escapes of JSON, and any other escaped character as
        itself."""
        escapes = {"n": "\n", "t": "\t", "r": "\r"}
        return re.sub(
            r"\\(?:u([0-9a-fA-F]{4})|(.))",
            lambda m: chr(int(m[1], 16)) if m[1] else escapes.get(m[2], m[2]),
            token.text[1:-1],
            flags=re.DOTALL,
        )

    def fail(self, needed: str) -> NoReturn:
        raise InvalidInput(
            f"The filter `{self.text}` can't be read at position {self.now.place + 1} ({self.now.text}): {needed} is "
            f"needed there. Operators: {' '.join(OPERATORS)}, joined by and, or, not and parentheses."
        )
