"""The Milvus backend: the conformance test on Milvus Lite, addresses, filters, killed writers.

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

from ravlm.errors import Busy, InvalidInput, Mismatch, MissingExtra, NotFound
from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.milvus import client, maintenance, search
from ravlm.knowledge.milvus.address import parse_address
from ravlm.knowledge.milvus.client import MilvusConnection
from ravlm.knowledge.milvus.descriptor import BaseDescriptor
from ravlm.knowledge.milvus.filters import expression, facet_value
from ravlm.knowledge.milvus.schema import DUMMY_VECTOR
from ravlm.knowledge.milvus.search import MilvusSearcher
from ravlm.knowledge.milvus.store import MilvusStore
from ravlm.knowledge.records import Identity
from ravlm.records import Entry
from ravlm.search.filters import Filter, facets, matches
from ravlm.search.options import SearchOptions
from tests.conftest import REPOSITORY
from tests.helpers.fakes import FakeEncoder
from tests.helpers.filter_strategies import FILTERS
from tests.helpers.multi_vector_fake import FakeMultiVectorEncoder
from tests.knowledge.conformance import Conformance, color_entries

pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")
Metadata: TypeAlias = Mapping[str, Any]


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], str]:
    """Return unused addresses in one file of Milvus Lite."""
    file, numbers = tmp_path_factory.mktemp("milvus") / "bases.db", itertools.count()
    return lambda: f"milvus-lite://{file}/base{next(numbers)}"


class SingleVectors(Conformance):
    """Milvus stores one vector per part here, and says so."""

    @pytest.fixture
    def stores_several_vectors(self) -> bool:
        return False


class TestMilvusLite(SingleVectors):
    @pytest.fixture
    def locations(self, lite: Callable[[], str]) -> Callable[[], Path | str]:
        return lite


@pytest.mark.skipif(
    "RAVLM_MILVUS" not in os.environ, reason="needs a server: RAVLM_MILVUS=milvus://host:19530"
)
class TestMilvusServer(SingleVectors):
    """The same on a server; without keyword search if it is older than 2.5."""

    @pytest.fixture
    def locations(
        self, tmp_path: Path, request: pytest.FixtureRequest
    ) -> Iterator[Callable[[], Path | str]]:
        addresses: list[str] = []
        consistency = (
            "strong" if "reopen" in request.fixturenames else "session"
        )  # a second handle must see the change

        def place() -> str:
            name = (
                f"test_{uuid.uuid4().hex[:12]}?consistency={consistency}&files={tmp_path / 'files'}"
            )
            addresses.append(f"{os.environ['RAVLM_MILVUS']}/{name}")
            return addresses[-1]

        yield place
        for address in addresses:
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
    with KnowledgeBase.build(lite(), color_entries(pictures), encoder=FakeEncoder()) as base:
        yield base


# addresses


def test_addresses_are_read() -> None:
    parsed = parse_address("milvus://me:p%40ss@host/kb?consistency=session&files=/shared")
    assert (parsed.uri, parsed.name, parsed.user, parsed.password) == (
        "http://host:19530",
        "kb",
        "me",
        "p@ss",
    )
    assert (parsed.consistency, parsed.files) == ("Session", Path("/shared"))
    assert "p%40ss" not in parsed.text
    assert parse_address("milvuss://[::1]:443/kb").uri == "https://[::1]:443"
    lite = parse_address("milvus-lite:///data/bases.db/photos")
    assert (lite.uri, lite.name, lite.files) == (
        "/data/bases.db",
        "photos",
        Path("/data/bases.db.files"),
    )


@pytest.mark.parametrize(
    ("address", "message"),
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
def test_addresses_that_are_refused(address: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        KnowledgeBase.open(address)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r'"pymilvus".*pip install "ravlm\[milvus\]"'):
        KnowledgeBase.open("milvus://host/kb")


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(NotFound, match=r"No Milvus server answers for .milvus://localhost:9/kb"):
        KnowledgeBase.open("milvus://localhost:9/kb")


def test_a_file_that_another_process_holds(base: KnowledgeBase) -> None:
    """Milvus Lite serves one process at a time; the second one gets a clear error."""
    code = f"from ravlm import KnowledgeBase\nKnowledgeBase.open({base.path!r})"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "ravlm.errors.Busy" in process.stderr
    assert "held by another process" in process.stderr


# formats


def test_descriptors_of_earlier_versions_can_be_read() -> None:
    """The names of this JSON are part of the format: bases on servers were written with them."""
    identity = {"base": "b", "encoder": "e", "fingerprint": "f", "dim": 64}
    values = {"identity": identity, "generation": 2, "worded": False, "files": "/x", "format": 1}
    descriptor = BaseDescriptor.from_json(json.dumps(values), "milvus://host/kb")
    assert descriptor == BaseDescriptor(Identity(**identity), 2, False, "/x")
    values["identity"] = identity | {"token_pooling": 0}  # a later addition
    assert json.loads(descriptor.to_json()) == values
    with pytest.raises(Mismatch, match=r"format 2.*newer ravlm"):
        BaseDescriptor.from_json(json.dumps(values | {"format": 2}), "milvus://host/kb")


# filters


@settings(max_examples=20, deadline=None)
@given(st.lists(FILTERS, min_size=5, max_size=5))
def test_expressions_mean_what_filters_mean(
    entries: tuple[MilvusConnection, list[Metadata]], trees: list[Filter]
) -> None:
    """Compare on two hundred entries with all kinds of metadata."""
    connection, rows = entries
    for tree in trees:
        results = connection.query("filters", expression(tree), ["key"])
        assert {int(row["key"]) for row in results} == {
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
    fields = {
        "key": {"type": "VARCHAR", "max_length": 8},
        "facets": {"type": "JSON"},
        "vector": {"type": "FLOAT_VECTOR", "dim": 2},
    }
    connection.create_collection("filters", fields)
    values = [
        {"key": f"{number}", "facets": facet_value(facets(row)), "vector": DUMMY_VECTOR}
        for number, row in enumerate(rows)
    ]
    connection.insert("filters", values)
    yield connection, rows
    connection.close()


# killed writers


@pytest.mark.parametrize("step", ["upsert", "delete", "mark_changed"])
def test_a_killed_writer_leaves_complete_entries(
    base: KnowledgeBase, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """After any last request there is the old entry or the new one, and no incomplete entry."""
    store = base._backend.store
    assert isinstance(store, MilvusStore)
    with monkeypatch.context() as patch:
        owner = store if step == "mark_changed" else store.connection
        patch.setattr(owner, step, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            base.add([Entry("red", None, ("now green",)), Entry("late", None, ("a latecomer",))])
    is_stored = step != "upsert"
    assert base.count() == 6 + is_stored
    assert base.get("red")[0].text == ("now green" if is_stored else "a red wall")
    hits = base.search(text="a red wall", k=100, modality="text")
    assert [hit.part.text for hit in hits if hit.entry.id == "red"] == [base.get("red")[0].text]
    assert ("late" in [hit.entry.id for hit in hits]) == is_stored
    assert base.verify().sound
    base.compact()
    assert sum(len(keys) for _, keys in maintenance.find_leftovers(store)) == 0
    assert base.verify().sound
    assert (
        base.add(
            [Entry("red", None, ("now green",)), Entry("late", None, ("a latecomer",))]
        ).unchanged
        == 2 * is_stored
    )


def test_reencode_resumes(base: KnowledgeBase) -> None:
    class Failing(FakeEncoder):
        left, encoded = 150, 0

        def encode_texts(
            self, texts: Sequence[str], batch_size: int = 64, role: str = "document"
        ) -> np.ndarray:
            self.left -= len(texts)
            if self.left < 0:
                raise KeyboardInterrupt
            self.encoded += len(texts)
            return super().encode_texts(texts)

    base.remove([row.id for row in base._backend.store.rows()])
    base.add([Entry(f"{i}", None, (f"text {i}",)) for i in range(200)])
    failing = Failing("other", seed=3)
    with pytest.raises(KeyboardInterrupt):
        base.reencode(failing)
    assert base.search(text="text 7", k=1)[0].score == pytest.approx(1.0, abs=2e-3)
    failing.left, failing.encoded = 1000, 0
    base.reencode(failing)
    assert failing.encoded == 4 + 200 - 128
    assert base.verify().sound


@pytest.mark.parametrize("seed", [3, 5])
def test_a_displaced_reencoding_stops(base: KnowledgeBase, seed: int) -> None:
    """Two at once wrote into the same collections: doubled parts, or vectors of two encoders."""
    entries = {entry.id: len(entry.texts) for entry in base.page().entries}
    displacing: list[int] = []

    def displace(num_done: int, total: int) -> None:
        if not displacing:
            displacing.append(num_done)
            base.reencode(FakeEncoder("second", seed=seed))

    with pytest.raises((Busy, Mismatch), match=r"re-encode"):
        base.reencode(FakeEncoder("other", seed=3), progress=displace)
    assert base.info().encoder == "second"
    assert base.info().parts["text"] == sum(entries.values())
    assert base.verify().sound
    base.reencode(FakeEncoder("third", seed=7))
    assert base.verify().sound
    assert base.info().parts["text"] == sum(entries.values())


# limits


def test_entries_that_are_too_large_are_rejected(base: KnowledgeBase) -> None:
    report = base.add([
        Entry("long", None, ("word " * 20_000,)),
        Entry("many", None, ("x",), {"tags": list(range(5000))}),
        Entry("fits", None, ("word " * 2000,)),
    ])  # fmt: skip
    assert report.added == 1
    assert "bytes of texts, regions and metadata" in report.quarantined[0].reason
    assert "bytes of filter values" in report.quarantined[1].reason


def test_images_from_bytes_need_a_folder(base: KnowledgeBase, pictures: Path) -> None:
    store = base._backend.store
    assert isinstance(store, MilvusStore)
    store.files = None
    report = base.add([Entry("bytes", (pictures / "red.png").read_bytes())])
    assert "?files=/shared/folder" in report.quarantined[0].reason


def test_a_server_without_keyword_search(base: KnowledgeBase) -> None:
    store = base._backend.store
    assert isinstance(store, MilvusStore)
    store.descriptor = replace(store.descriptor, has_keywords=False)
    with pytest.raises(InvalidInput, match=r'2\.5 or newer\); use method="dense"'):
        base.search(text="flag", options=SearchOptions(method="hybrid"))


def test_more_hits_than_a_server_returns(
    base: KnowledgeBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MilvusSearcher, "max_candidates", 3)
    monkeypatch.setattr(search, "MAX_ROWS", 3)
    assert len(base.search(text="red", k=2, modality="image")) == 2
    with pytest.raises(InvalidInput, match=r"needs 4 hits, .* returns at most 3 candidates"):
        base.search(text="red", k=4, modality="image")


def test_several_vectors_are_refused(base: KnowledgeBase) -> None:
    with pytest.raises(InvalidInput, match=r'"colpali" gives several .* build .* in a folder'):
        base.reencode(FakeMultiVectorEncoder("colpali"))
    assert base.search(text="a red wall", k=1)


def test_tune_is_refused(base: KnowledgeBase) -> None:
    with pytest.raises(InvalidInput, match="builds its own indexes"):
        base.tune()


# the command line


def test_commands_take_an_address(tmp_path: Path, pictures: Path) -> None:
    """Each command is a process of its own, which must release the file."""
    kb = f"milvus-lite://{tmp_path}/bases.db/kb"
    code = (
        "import sys\nfrom ravlm.cli import main\nfrom ravlm.encoders.auto import DualEncoder\n"
        "from tests.helpers.fakes import FakeEncoder\n"
        "DualEncoder.load = staticmethod(lambda name: FakeEncoder(name))\n"
        "sys.exit(main(sys.argv[1:]))"
    )

    def ravlm(*arguments: str) -> tuple[int, str, str]:
        command = [sys.executable, "-c", code, *arguments]
        process = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=REPOSITORY, timeout=120
        )
        return process.returncode, process.stdout, process.stderr

    (tmp_path / "void.jsonl").write_text('{"id": "a", "image": "nowhere.png"}\n')
    assert ravlm("build", kb, str(tmp_path / "void.jsonl"))[0] == 1
    code_, out, _ = ravlm("build", kb, str(pictures), "--json")
    assert (code_, json.loads(out)["added"]) == (0, 4)
    code_, out, _ = ravlm("search", kb, "--text", "red", "-k", "1", "--json")
    assert (code_, Path(json.loads(out)["id"]).stem) == (0, "red")
