"""The captioner that comes with the package, on real photos, with evidence and without."""

from __future__ import annotations

from pathlib import Path

import pytest

from ravlm.data.readers import read_entries
from ravlm.demo.photos import package_file
from ravlm.encoders.base import Encoder
from ravlm.generation.captioner.generator import CaptionerGenerator
from ravlm.generation.captioner.settings import STARTER_GENERATOR
from ravlm.knowledge.base import KnowledgeBase
from ravlm.metrics import cider
from ravlm.model import RetrievalAugmentedVLM
from ravlm.records import Entry

PHOTOS = 60


@pytest.fixture(scope="module")
def model(starter: Encoder, tmp_path_factory: pytest.TempPathFactory) -> RetrievalAugmentedVLM:
    """The starter generator over a base of captions without images."""
    texts = [
        "A cat looks at the camera.",
        "Two people climb a rocky mountain.",
        "A cup of coffee stands on a table.",
    ]
    entries = [Entry(f"t{i}", None, (text,)) for i, text in enumerate(texts)]
    kb = KnowledgeBase.build(tmp_path_factory.mktemp("kb") / "kb", entries, encoder=starter)
    return RetrievalAugmentedVLM(kb, generator="starter")


def test_it_is_small_and_names_its_training_data() -> None:
    assert sum(path.stat().st_size for path in STARTER_GENERATOR.rglob("*")) < 30 * 2**20
    settings = CaptionerGenerator.load(STARTER_GENERATOR).settings
    assert settings.evidence_modality == "text"
    assert "Flickr8k" in settings.trained_on[0]


def test_it_writes_a_sentence_and_cites_its_evidence(model: RetrievalAugmentedVLM) -> None:
    """Alone and in a batch it gives the same caption; without evidence it cites nothing."""
    photos = [package_file("skimage/data/chelsea.png"), package_file("skimage/data/coffee.png")]
    together = model.caption(photos, k=3)
    assert [answer.text for answer in together] == [
        model.caption(photo, k=3).text for photo in photos
    ]
    assert all(answer.text.endswith(".") and len(answer.text.split()) > 3 for answer in together)
    assert {hit.entry.id for hit in together[0].evidence} <= {"t0", "t1", "t2"}
    assert (
        together[0].text == "A cat looks at the camera."
    )  # it saw few cats, is not sure, and says what was found
    assert together[0].citations == ("t0",)
    assert all(
        set(answer.citations) <= {hit.entry.id for hit in answer.evidence} for answer in together
    )
    alone = RetrievalAugmentedVLM(None, generator="starter").caption(photos[0], k=0)
    assert alone.text
    assert not alone.evidence
    assert not alone.citations


def test_captions_of_unseen_photos(shared_data: Path, starter: Encoder) -> None:
    """Closed book; benchmarks/captions.py measures the gain from evidence."""
    entries = read_entries(shared_data / "flickr8k" / "metadata.jsonl")
    dev = [entry for entry in entries if entry.metadata["split"] == "dev"][:PHOTOS]
    written = RetrievalAugmentedVLM(None, generator="starter").caption(
        [str(entry.image) for entry in dev], k=0
    )
    score = cider([answer.text for answer in written], [list(entry.texts) for entry in dev])
    assert 100 * score.value > 45  # the nearest caption, copied: 28
