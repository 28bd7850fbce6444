"""The example of docs/how-to/generator.md works as printed and keeps the contract."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

from ravlm.errors import InvalidInput
from ravlm.generation.auto import GENERATORS, load_generator
from ravlm.generation.base import Generator
from ravlm.knowledge.base import KnowledgeBase
from ravlm.model import RetrievalAugmentedVLM
from tests.conftest import REPOSITORY
from tests.helpers.birds import BIRDS, bird
from tests.helpers.generator_conformance import check_generator

PAGE = (REPOSITORY / "docs" / "how-to" / "generator.md").read_text(encoding="utf-8")
CLASS, TABLE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
MODULE = "ravlm_example_quote"


@pytest.fixture
def quote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the page's generator, imported from a file of its own and registered."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / f"{MODULE}.py").write_text(CLASS, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    generator: type[Generator] = importlib.import_module(MODULE).QuoteGenerator
    monkeypatch.setitem(GENERATORS, generator.name, lambda kb: generator())
    return generator.name


def test_the_page_touches_few_lines_and_lists_every_generator() -> None:
    assert len(CLASS.splitlines()) + len(TABLE.splitlines()) < 100
    table = TABLE[TABLE.index("GENERATORS") :]
    assert re.findall(r'"(\w+)": _\w+,', table) == [*GENERATORS, "quote"]


def test_it_keeps_the_contract(quote: str, birds: KnowledgeBase) -> None:
    check_generator(RetrievalAugmentedVLM(birds, generator=quote))


def test_it_quotes(quote: str, birds: KnowledgeBase) -> None:
    model = RetrievalAugmentedVLM(birds, generator=quote)
    answer = model.ask("What is the country?", image=bird(BIRDS["Leaf Parrot"][0], 1))
    assert answer.text == "Brazil"
    assert answer.citations[0].startswith("bird-1")


def test_a_misspelled_name_is_answered_with_it(quote: str, birds: KnowledgeBase) -> None:
    with pytest.raises(InvalidInput, match='Did you mean "quote"'):
        load_generator("qoute", birds)
