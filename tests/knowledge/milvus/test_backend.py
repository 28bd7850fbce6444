"""The knowledge base on Milvus: the conformance test over Milvus Lite, addresses, filters, and what
a kill leaves.

`RAVLM_MILVUS=milvus://host:19530` runs the conformance test against a real server, too (`make
milvus`)."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ravlm.errors import InvalidInput, MissingExtra, NotFound
from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.milvus import client, maintenance, search
from ravlm.knowledge.milvus.address import parse_address
from ravlm.knowledge.milvus.client import MilvusConnection
from ravlm.knowledge.milvus.filters import expression, facet_value
from ravlm.knowledge.milvus.schema import DUMMY_VECTOR
from ravlm.knowledge.milvus.search import MilvusSearcher
from ravlm.knowledge.milvus.store import MilvusStore
from ravlm.records import Entry
from ravlm.search.filters import Filter, facets, matches
from ravlm.search.options import SearchOptions
from tests.conftest import REPOSITORY
from tests.helpers.fakes import FakeEncoder
from tests.helpers.filter_strategies import FILTERS
from tests.knowledge.conformance import Conformance, colours

pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")
Metadata: TypeAlias = Mapping[str, Any]


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], str]:
    """Addresses of bases that aren't there, in one file of Milvus Lite."""
    file, numbers = tmp_path_factory.mktemp("milvus") / "bases.db", itertools.count()
    return lambda: f"milvus-lite://{file}/base{next(numbers)}"


class TestMilvusLite(Conformance):
    @pytest.fixture
    def places(self, lite: Callable[[], str]) -> Callable[[], Path | str]:
        return lite


@pytest.mark.skipif(
    "RAVLM_MILVUS" not in os.environ, reason="no server is named: RAVLM_MILVUS=milvus://host:19530"
)
class TestMilvusServer(Conformance):
    """The same on the server that is named; without search by words where it is older than 2.5."""

    @pytest.fixture
    def places(
        self, tmp_path: Path, request: pytest.FixtureRequest
    ) -> Iterator[Callable[[], Path | str]]:
        made: list[str] = []
        consistency = (
            "strong" if "reopen" in request.fixturenames else "session"
        )  # a second handle must see the change

        def place() -> str:
            name = (
                f"test_{uuid.uuid4().hex[:12]}?consistency={consistency}&files={tmp_path / 'files'}"
            )
            made.append(f"{os.environ['RAVLM_MILVUS']}/{name}")
            return made[-1]

        yield place
        for address in made:
            connection = MilvusConnection(parse_address(address))
            for collection in connection.client.list_collections():
                if collection.startswith(connection.address.name):
                    connection.drop_collection(collection)
            connection.close()

    @pytest.fixture
    def has_keywords(self) -> bool:
        connection = MilvusConnection(parse_address(f"{os.environ['RAVLM_MILVUS']}/nothing"))
        try:
            return connection.has_keyword_search
        finally:
            connection.close()


@pytest.fixture
def base(lite: Callable[[], str], pictures: Path) -> Iterator[KnowledgeBase]:
    """A base of six entries."""
    with KnowledgeBase.build(lite(), colours(pictures), encoder=FakeEncoder()) as base:
        yield base


# addresses


def test_addresses_are_read() -> None:
    found = parse_address("milvus://me:p%40ss@host/kb?consistency=session&files=/shared")
    assert (found.uri, found.name, found.user, found.password) == (
        "http://host:19530",
        "kb",
        "me",
        "p@ss",
    )
    assert (found.consistency, found.files) == ("Session", Path("/shared"))
    assert "p%40ss" not in found.text
    assert parse_address("milvuss://[::1]:443/kb").uri == "https://[::1]:443"
    lite = parse_address("milvus-lite:///data/bases.db/photos")
    assert (lite.uri, lite.name, lite.files) == (
        "/data/bases.db",
        "photos",
        Path("/data/bases.db.files"),
    )


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("milvus:///kb", "names no server"),
        ("milvus://host:port/kb", "names no server"),
        ("milvus://host", 'the name ""'),
        ("milvus://host/my-kb", "letters a to z"),
        ("milvus://host/kb?file=/x", 'Did you mean "files"'),
        ("milvus://host/kb?consistency=weak", "strong, session, bounded"),
        ("milvus-lite://bases/kb", "with the ending .db"),
        ("milvus-light://bases.db/kb", 'Did you mean "milvus-lite"'),
    ],
)
def test_addresses_that_are_refused(address: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        KnowledgeBase.open(address)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r'"pymilvus".*pip install "ravlm\[milvus\]"'):
        KnowledgeBase.open("milvus://host/kb")


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(NotFound, match=r"No Milvus server answers for .milvus://localhost:9/kb"):
        KnowledgeBase.open("milvus://localhost:9/kb")


def test_a_file_that_another_process_holds(base: KnowledgeBase) -> None:
    """Milvus Lite takes one process at a time; the second is told so in a sentence."""
    code = f"from ravlm import KnowledgeBase\nKnowledgeBase.open({base.path!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ravlm.errors.Busy" in done.stderr
    assert "held by another process" in done.stderr


# filters


@settings(max_examples=20, deadline=None)
@given(st.lists(FILTERS, min_size=5, max_size=5))
def test_expressions_mean_what_filters_mean(
    entries: tuple[MilvusConnection, list[Metadata]], trees: list[Filter]
) -> None:
    """On two hundred entries with all kinds of metadata."""
    connection, rows = entries
    for tree in trees:
        found = connection.query("filters", expression(tree), ["key"])
        assert {int(row["key"]) for row in found} == {
            at for at, row in enumerate(rows) if matches(tree, row)
        }


@pytest.fixture(scope="module")
def entries(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[MilvusConnection, list[Metadata]]]:
    rng = random.Random(4)
    scalars = [None, True, False, -3, 0, 1, 2, 0.5, 1.0, -1.25, "a", "b", "é", ""]
    rows: list[Metadata] = []
    for _ in range(200):
        values = {
            key: rng.choice([rng.choice(scalars), rng.choices(scalars, k=rng.randrange(3))])
            for key in "xyz"
        }
        rows.append({key: value for key, value in values.items() if rng.random() < 0.7})
    connection = MilvusConnection(
        parse_address(f"milvus-lite://{tmp_path_factory.mktemp('filters')}/filters.db/kb")
    )
    connection.create_collection("filters", {"key": {"type": "VARCHAR", "max_length": 8}, "facets": {"type": "JSON"},
                                "vector": {"type": "FLOAT_VECTOR", "dim": 2}})  # fmt: skip
    connection.insert("filters", [{"key": f"{at}", "facets": facet_value(facets(row)), "vector": DUMMY_VECTOR}
                                  for at, row in enumerate(rows)])  # fmt: skip
    yield connection, rows
    connection.close()


# what a writer leaves that died


@pytest.mark.parametrize("step", ["upsert", "delete", "mark_changed"])
def test_a_writer_that_dies_leaves_whole_entries(
    base: KnowledgeBase, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whichever request was its last: the old entry or the new one, and nothing of a new one that
    wasn't whole."""
    store = base._backend.store
    assert isinstance(store, MilvusStore)
    with monkeypatch.context() as patch:
        owner = store if step == "mark_changed" else store.connection
        patch.setattr(owner, step, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            base.add([Entry("red", None, ("now green",)), Entry("late", None, ("a latecomer",))])
    whole = step != "upsert"
    assert base.count() == 6 + whole
    assert base.get("red")[0].text == ("now green" if whole else "a red wall")
    found = base.search(text="a red wall", k=100, modality="text")
    assert [hit.part.text for hit in found if hit.entry.id == "red"] == [base.get("red")[0].text]
    assert ("late" in [hit.entry.id for hit in found]) == whole
    assert base.verify().sound
    base.compact()
    assert sum(len(keys) for _, keys in maintenance.find_leftovers(store)) == 0
    assert base.verify().sound
    assert (
        base.add(
            [Entry("red", None, ("now green",)), Entry("late", None, ("a latecomer",))]
        ).unchanged
        == 2 * whole
    )


def test_a_reencoding_goes_on_where_it_stopped(base: KnowledgeBase) -> None:
    class Failing(FakeEncoder):
        left, encoded = 150, 0

        def encode_texts(self, texts: Sequence[str], batch_size: int = 64) -> np.ndarray:
            self.left -= len(texts)
            if self.left < 0:
                raise KeyboardInterrupt
            self.encoded += len(texts)
            return super().encode_texts(texts)

    base.remove([row.id for row in base._backend.store.rows()])
    base.add([Entry(f"{i}", None, (f"text {i}",)) for i in range(200)])
    other = Failing("other", seed=3)
    with pytest.raises(KeyboardInterrupt):
        base.reencode(other)
    assert base.search(text="text 7", k=1)[0].score == pytest.approx(1.0, abs=2e-3)
    other.left, other.encoded = 1000, 0
    base.reencode(other)
    assert other.encoded == 4 + 200 - 128
    assert base.verify().sound


# limits


def test_what_does_not_fit_is_refused_with_its_reason(base: KnowledgeBase) -> None:
    report = base.add([
        Entry("long", None, ("word " * 20_000,)),
        Entry("many", None, ("x",), {"tags": list(range(5000))}),
        Entry("fits", None, ("word " * 2000,)),
    ])  # fmt: skip
    assert report.added == 1
    assert "bytes of texts and metadata" in report.quarantined[0].reason
    assert "bytes of filter values" in report.quarantined[1].reason


def test_a_picture_needs_a_place(base: KnowledgeBase, pictures: Path) -> None:
    store = base._backend.store
    assert isinstance(store, MilvusStore)
    store.files = None
    report = base.add([Entry("bytes", (pictures / "red.png").read_bytes())])
    assert "?files=/shared/folder" in report.quarantined[0].reason


def test_a_server_without_words_says_so(base: KnowledgeBase) -> None:
    store = base._backend.store
    assert isinstance(store, MilvusStore)
    store.descriptor = replace(store.descriptor, has_keywords=False)
    with pytest.raises(InvalidInput, match=r'2\.5 or newer\); use method="dense"'):
        base.search(text="flag", options=SearchOptions(method="hybrid"))


def test_more_hits_than_a_server_gives(
    base: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MilvusSearcher, "max_candidates", 3)
    monkeypatch.setattr(search, "MAX_ROWS", 3)
    assert len(base.search(text="red", k=2, modality="image")) == 2
    with pytest.raises(InvalidInput, match="needs 4 hits, but the server returns at most 3 candidates"):
        base.search(text="red", k=4, modality="image")


def test_tune_is_refused(base: KnowledgeBase) -> None:
    with pytest.raises(InvalidInput, match="builds its own indexes"):
        base.tune()


# the command line


def test_commands_take_an_address(tmp_path: Path, pictures: Path) -> None:
    """Each command is a process of its own, which must let go of the file."""
    kb = f"milvus-lite://{tmp_path}/bases.db/kb"
    code = (
        "import sys\nfrom ravlm.cli import main\nfrom ravlm.encoders.auto import DualEncoder\n"
        "from tests.helpers.fakes import FakeEncoder\nDualEncoder.load = staticmethod(lambda name: FakeEncoder(name))\n"
        "sys.exit(main(sys.argv[1:]))"
    )

    def ravlm(*arguments: str) -> tuple[int, str, str]:
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=REPOSITORY, timeout=120
        )
        return done.returncode, done.stdout, done.stderr

    (tmp_path / "void.jsonl").write_text('{"id": "a", "image": "nowhere.png"}\n')
    assert ravlm("build", kb, str(tmp_path / "void.jsonl"))[0] == 1
    code_, out, _ = ravlm("build", kb, str(pictures), "--json")
    assert (code_, json.loads(out)["added"]) == (0, 4)
    code_, out, _ = ravlm("search", kb, "--text", "red", "-k", "1", "--json")
    assert (code_, Path(json.loads(out)["id"]).stem) == (0, "red")
