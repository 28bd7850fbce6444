"""The filter language: parsing, evaluation in Python, and SQL that must agree with it."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravlm.errors import InvalidInput
from ravlm.search.filter_parser import MAX_DEPTH, read_filter
from ravlm.search.filters import AllOf, AnyOf, Compare, Filter, Not, facets, matches, to_sql

BIRD = {
    "kind": "bird",
    "facts": {"year": 1990, "names": ["robin", "Rotkehlchen"]},
    "tame": False,
    "owner": None,
}
FISH = {
    "kind": "fish",
    "facts": {"year": 1984.5, "names": []},
    "tame": True,
    "deep": [{"at": 3}, {"at": 9}],
}


def passing(where: Any) -> str:
    """Return which of bird and fish pass, by their first letters."""
    tree = read_filter(where)
    return "".join(str(e["kind"])[0] for e in (BIRD, FISH) if tree is None or matches(tree, e))


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ('kind = "bird"', "b"),
        ("kind == 'fish'", "f"),
        ('kind != "bird"', "f"),
        ('facts.year >= 1990 and kind in ["bird", "fish"]', "b"),
        ("facts.year < 1990", "f"),
        ("facts.year > 1984 AND facts.year <= 1984.5", "f"),
        ('facts.names = "robin"', "b"),  # a list matches if one of its elements does
        ('facts.names != "robin"', ""),  # an empty list has no value to compare
        ('facts.names != "wren"', "b"),
        ("deep.at > 5 and deep.at < 5", "f"),  # one element above, another below
        ("tame = true", "f"),
        ("tame = 1", ""),  # a boolean is not a number
        ('facts.year = "1990"', ""),
        ('facts.year != "1990"', "bf"),
        ("owner = null", "b"),
        (
            "color = 3 or color != 3 or color < 3",
            "",
        ),  # a missing key makes a comparison false
        ("not color = 3", "bf"),
        ('not (kind = "bird" or tame = true)', ""),
        ('kind = "bird" or kind = "fish" and tame = false', "b"),  # and binds closer
        ('"kind" = "bird"', "b"),
        ("kind in []", ""),
        ({"kind": "bird"}, "b"),
        ({"kind": ["bird", "cat"], "tame": False}, "b"),
        ({"facts": {"year": {">=": 1984, "<": 1990}}}, "f"),
        ({"facts.year": {"in": [1990]}}, "b"),
        ('{"kind": "fish"}', "f"),  # JSON, as on the command line
        ({"facts": {"~": 3}}, ""),  # not an operator, so a nested key that both lack
        ({"facts.year": {"$gt": 1984, "$lte": 1990}}, "bf"),
        ({"facts": {"year": {"$in": [1990]}}}, "b"),
        ({"kind": {"$nin": ["bird", "cat"]}}, "f"),
        ({"facts.names": {"$nin": ["wren"]}}, "b"),  # as !=, it needs a value
        ({"owner": {"$exists": True}}, "b"),
        ({"owner": {"$exists": False}}, "f"),
        ({"tame": {"$not": {"$eq": True}}}, "b"),
        ({"$or": [{"kind": "fish"}, {"facts.names": "robin"}]}, "bf"),
        ({"$and": [{"tame": True}, {"$nor": [{"kind": "bird"}]}]}, "f"),
        ({"facts.year": {"$or": [{"$lt": 1985}, {"$gt": 1999}]}}, "f"),
        ('{"$not": {"kind": {"$ne": "bird"}}}', "b"),
        ({}, "bf"),
        ("", "bf"),
        (None, "bf"),
    ],
)
def test_meaning(where: Any, expected: str) -> None:
    assert passing(where) == expected


def test_key_in_chinese_and_quoted_texts() -> None:
    entry = {"颜色": "橘色", "official name": 'the "old" town\n', "a-b": 1}
    quoted = r'"official name" = "the \"old\" town\n"'
    for where in ('颜色 = "橘色"', quoted, "'a-b' = 1", "a-b = 1", r'颜色 = "\u6a58色"'):
        assert matches(read_filter(where), entry), where  # type: ignore[arg-type]


def test_escaped_emoji() -> None:
    """JSON writes an emoji as two escapes; each became half a character, which was refused."""
    assert matches(read_filter(r'mood = "\ud83e\udd94!"'), {"mood": "🦔!"})  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="surrogate"):
        read_filter(r'mood = "\ud83e"')


@pytest.mark.parametrize(
    ("where", "position", "message"),
    [
        ("kind = ", 8, "a text in quotes"),
        ("kind bird", 6, "expected an operator"),
        ("kind ~ 3", 6, "Operators: = == != < <= > >= in"),
        ("split = train", 9, "a text in quotes"),
        ('split not in ["a"]', 7, "not split in"),
        ('(split = "a"', 13, "expected )"),
        ('split = "a" kind = 3', 13, "and, or"),
        ("kind in 3", 9, "a list"),
        ('kind in ["a" "b"]', 14, ","),
        ("= 3", 1, "a metadata key"),
        ("and = 3", 1, "a metadata key"),
        ('kind = "open', 8, "a text in quotes"),
        ("year = 19.9.0", 8, "number"),
    ],
)
def test_errors_name_the_position_and_what_is_allowed(
    where: str, position: int, message: str
) -> None:
    with pytest.raises(InvalidInput) as error:
        read_filter(where)
    assert f"at position {position} " in str(error.value)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("tame < true", "use = or !="),
        ({"year": {}}, "nothing"),
        ({"year": {"$gtr": 3}}, 'operator "\\$gtr"; allowed: \\$eq .* Did you mean "\\$gt"'),
        ({"$lt": 3}, r'write {"year": {"\$lt": ...}}'),
        ({"$or": []}, r"`\$or` needs a list, for example"),
        ({"$and": {"year": 3}}, r"`\$and` needs a list"),
        ({"year": {"$not": 3}}, r"`\$not` needs a mapping"),
        ({"year": {"$exists": 1}}, r"`year \$exists` needs true or false"),
        ({"year": {"$nin": 3}}, "needs a list"),
        ({"year": {"$gt": None}}, "use = or !="),
        ({"year": {"=": [1, 2]}}, "a list goes with `in`"),
        ({"year": {"in": 3}}, "needs a list"),
        ({3: 4}, "metadata key"),
        ({"year": object()}, "not object"),
        ({"year": float("nan")}, "not finite"),
        ({"year": "\ud800"}, "surrogate"),
        (["kind"], "give a mapping"),
        ('{"kind": ', "not valid"),
        ("year = 1e999", "not finite"),
    ],
)
def test_refused_values(where: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_filter(where)


def test_nesting_and_length_are_bounded() -> None:
    """Ten thousand parentheses or comparisons must not hit a limit of SQLite or Python."""
    with pytest.raises(InvalidInput, match=f"at most {MAX_DEPTH} levels"):
        read_filter("(" * 10_000 + "a = 1")
    with pytest.raises(InvalidInput, match="use `in`"):
        read_filter(" or ".join(f"a = {i}" for i in range(1000)))
    with pytest.raises(InvalidInput, match="10,000 are allowed"):
        read_filter({"a": list(range(10_001))})
    deep: dict[str, Any] = {"a": 1}
    for _ in range(5000):
        deep = {"$not": deep}
    with pytest.raises(InvalidInput, match="nested too deeply"):
        read_filter(deep)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.0, 0.5, 2.0, 2**62, 2**70, -(2**63)]),
    st.sampled_from(["", "a", "b", "ab", "橘", "A\0b"]),
)
KEYS = st.sampled_from(["a", "b", "c.d"])
METADATA = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.recursive(
        SCALARS,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.just("d"), inner, max_size=1)
        ),
    ),
)
ORDERED = st.integers(-3, 3) | st.floats(-3, 3) | st.sampled_from(["", "a", "ab", "橘"])
COMPARISONS = st.one_of(
    st.builds(Compare, KEYS, st.sampled_from(["=", "!="]), st.tuples(SCALARS)),
    st.builds(Compare, KEYS, st.sampled_from(["<", "<=", ">", ">="]), st.tuples(ORDERED)),
    st.builds(
        Compare, KEYS, st.sampled_from(["in", "!="]), st.lists(SCALARS, max_size=3).map(tuple)
    ),
)
TREES = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(AllOf, st.lists(inner, max_size=3).map(tuple)),
        st.builds(AnyOf, st.lists(inner, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.lists(METADATA, max_size=6), TREES)
def test_sql_means_the_same_as_python(entries: list[dict[str, Any]], tree: Filter) -> None:
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE entry (number INTEGER PRIMARY KEY)")
    db.execute("CREATE TABLE facet (key TEXT, kind INTEGER, value, entry INTEGER)")
    for number, metadata in enumerate(entries):
        db.execute("INSERT INTO entry VALUES (?)", (number,))
        db.executemany(
            "INSERT INTO facet VALUES (?, ?, ?, ?)",
            [(*facet, number) for facet in facets(metadata)],
        )
    sql, parameters = to_sql(tree)
    numbers = {
        number for (number,) in db.execute(f"SELECT number FROM entry WHERE {sql}", parameters)
    }
    db.close()
    assert numbers == {number for number, metadata in enumerate(entries) if matches(tree, metadata)}


@settings(deadline=None)
@given(st.text(max_size=30) | st.text("ab.=!<>()[]\"' ,019andorti\\", max_size=30))
def test_any_text_parses_or_raises_invalid_input(text: str) -> None:
    try:
        tree = read_filter(text)
    except InvalidInput as error:
        message = str(error)
    else:
        message = "The filter was parsed." if tree is None or to_sql(tree) else ""
    assert message.startswith(("The filter", "In the filter", "The text", "The number"))
