"""The forms of an encoder that a base may have been built with: cut vectors, former versions."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ravlm.cli import main
from ravlm.encoders.auto import DualEncoder
from ravlm.encoders.base import Encoder
from ravlm.encoders.truncated import TruncatedEncoder, truncate
from ravlm.errors import InvalidInput, Mismatch
from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.dimensions import measure_dimensions
from ravlm.records import Entry
from tests.helpers.fakes import COLORS, FakeEncoder


class Matryoshka(FakeEncoder):
    matryoshka_dims = (16, 32)


class Renewed(FakeEncoder):
    """Runs differently since this version: its former self has other vectors."""

    def __init__(self) -> None:
        super().__init__("fake", seed=5)

    def former(self, fingerprint: str) -> Encoder | None:
        old = FakeEncoder()
        return old if old.fingerprint == fingerprint else None


def colors() -> list[Entry]:
    return [
        Entry(color, Image.new("RGB", (8, 8), COLORS[color]), (f"a {color} wall",))
        for color in list(COLORS)[:6]
    ]


def test_vectors_are_cut_and_scaled() -> None:
    full, cut = Matryoshka(), TruncatedEncoder(Matryoshka(), 32)
    assert (cut.dim, cut.name, cut.matryoshka_dims) == (32, "fake", (16, 32))
    assert cut.fingerprint not in (full.fingerprint, TruncatedEncoder(Matryoshka(), 16).fingerprint)
    texts = ["a red boat", "two blue cars"]
    expected = full.encode_texts(texts)[:, :32]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.abs(cut.encode_texts(texts) - expected).max() < 1e-6
    for dim in (31, 128, 0):
        with pytest.raises(InvalidInput, match=rf"dimensions is {dim}.* allowed: 16, 32, 64"):
            TruncatedEncoder(Matryoshka(), dim)
    with pytest.raises(InvalidInput, match="was not trained for shorter vectors"):
        TruncatedEncoder(FakeEncoder(), 32)


def test_a_base_remembers_its_dimensions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of an encoder does not tell how long its vectors are in a base."""
    with KnowledgeBase.build(tmp_path / "kb", colors(), TruncatedEncoder(Matryoshka(), 32)) as kb:
        assert (kb.info().dim, kb.info().encoder) == (32, "fake")
    monkeypatch.setattr(DualEncoder, "load", lambda name: Matryoshka())
    with KnowledgeBase.open(tmp_path / "kb") as kb:
        assert kb.encoder.dim == 32
        assert kb.search(text="a red wall", k=1, modality="text")[0].entry.id == "red"
        assert kb.verify().sound
    with KnowledgeBase.open(tmp_path / "kb", Matryoshka()) as kb:
        assert kb.encoder.dim == 32
    with pytest.raises(Mismatch, match="ravlm reencode"):
        KnowledgeBase.open(tmp_path / "kb", FakeEncoder("other", seed=1))


def test_an_old_base_keeps_its_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A better way to run an encoder would have made every base of it useless until re-encoded."""
    KnowledgeBase.build(tmp_path / "kb", colors(), FakeEncoder()).close()
    monkeypatch.setattr(DualEncoder, "load", lambda name: Renewed())
    with KnowledgeBase.open(tmp_path / "kb") as kb:
        with pytest.warns(UserWarning, match=r"earlier version.*ravlm reencode .*--encoder fake"):
            (hit,) = kb.search(text="a red wall", k=1, modality="text")
        assert (hit.entry.id, hit.score) == ("red", pytest.approx(1.0, abs=2e-3))
        kb.add([Entry("late", None, ("a late wall",))])
        kb.reencode(Renewed())
    with warnings.catch_warnings(), KnowledgeBase.open(tmp_path / "kb") as kb:
        warnings.simplefilter("error")
        assert isinstance(kb.encoder, Renewed)
        assert kb.search(text="a late wall", k=1, modality="text")[0].entry.id == "late"


@pytest.fixture
def nested(tmp_path: Path) -> Path:
    """A base whose vectors have all that tells them apart in their first 32 dimensions."""
    rng = np.random.default_rng(0)
    scale = np.where(np.arange(64) < 32, 1.0, 0.02)
    vectors = {"text": rng.standard_normal((300, 64)) * scale}
    entries = [Entry(str(i), None, (f"text {i}",)) for i in range(300)]
    with KnowledgeBase.build(tmp_path / "nested", (), Matryoshka()) as kb:
        kb.add(entries, vectors)
    return tmp_path / "nested"


def test_the_loss_of_shorter_vectors_is_measured(
    nested: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(DualEncoder, "load", lambda name: Matryoshka())
    with KnowledgeBase.open(nested) as kb:
        report = measure_dimensions(kb)
        rows = np.array([vector for _, _, vector in kb.sample(300, "text")])
        with pytest.raises(InvalidInput, match=r"dimensions is 64.*allowed are 1 to 63"):
            measure_dimensions(kb, [64])
    assert [trial.dim for trial in report.trials] == [32, 16]
    assert report.num_vectors == {"text": 300}
    for trial in report.trials:  # the definition, slowly
        cosines, cut = rows @ rows.T, truncate(rows, trial.dim) @ truncate(rows, trial.dim).T
        np.fill_diagonal(cosines, -1)
        np.fill_diagonal(cut, -1)
        best, found = (np.argsort(-x, axis=1)[:, :10] for x in (cosines, cut))
        recall = np.mean([len({*a} & {*b}) / 10 for a, b in zip(best, found, strict=True)])
        assert trial.recall["text"] == pytest.approx(recall, abs=0.005)
    assert report.trials[0].recall["text"] > 0.9 > report.trials[1].recall["text"]
    assert main(["tune", str(nested), "--dimensions", "48"]) == 0
    assert re.search(r"^ {8}48   (0\.99\d|1\.000)      96$", capsys.readouterr().out, re.M)
