"""Evidence about an image from a base that others change meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ravlm.knowledge.base import KnowledgeBase
from ravlm.model import RetrievalAugmentedVLM
from ravlm.records import Entry
from ravlm.regions import Region
from ravlm.retrieval.query import RetrievalQuery
from ravlm.retrieval.retriever import Retriever
from tests.helpers.birds import BIRDS, bird
from tests.helpers.generators import WordEncoder

RED, GREEN = BIRDS["Ruby Finch"][0], BIRDS["Leaf Parrot"][0]


@pytest.mark.parametrize(
    ("removed", "left"),
    [
        (["bird-0-0", "bird-0-1"], 8),
        ([f"bird-{n}-{m}" for n in range(5) for m in range(2)], 0),
    ],
)
def test_entries_removed_between_search_and_comparison_are_skipped(
    birds: KnowledgeBase, monkeypatch: pytest.MonkeyPatch, removed: list[str], left: int
) -> None:
    """A KeyError with the id of the removed entry ended the request, and its stream."""
    read_vectors = KnowledgeBase.image_vectors

    def remove_first(self: KnowledgeBase, ids: Iterable[str]) -> Any:
        self.remove(removed)
        return read_vectors(self, ids)

    retriever = Retriever(birds)
    queries = [RetrievalQuery(image=bird(RED, 1)), RetrievalQuery(image=bird(GREEN, 2))]
    retriever.retrieve(queries, k=3)  # calibrates
    monkeypatch.setattr(KnowledgeBase, "image_vectors", remove_first)
    evidence = retriever.retrieve(queries, k=20)
    for one in evidence:
        images = [hit.entry.id for hit in one.hits if hit.entry.image is not None]
        assert not set(images) & set(removed)
        assert len(images) == left // 2  # one entry for each kind of bird
    assert len(evidence) == 2


def test_a_race_of_writers_and_askers(birds: KnowledgeBase) -> None:
    """Two threads remove and add birds while two others ask about images, whole and streamed."""
    entries = birds.get([f"bird-{n}-{m}" for n in range(5) for m in range(2)])
    model = RetrievalAugmentedVLM(birds)
    model.ask("What is the name?", bird(RED, 1))  # calibrates
    errors: list[BaseException] = []
    answers: list[str] = []
    end = time.monotonic() + 1.5

    def repeat(task: Any) -> None:
        try:
            while not errors and (time.monotonic() < end or is_slow()):
                task()
        except BaseException as error:
            errors.append(error)

    def is_slow() -> bool:
        return len(answers) <= 4 and time.monotonic() < end + 30

    def write(half: int) -> None:
        some = entries[half::2]
        birds.remove([entry.id for entry in some])
        birds.add(some)

    def ask(seed: int) -> None:
        answers.append(model.ask("What is the name?", bird(GREEN, seed)).text)
        answers.append("".join(model.stream_ask("What is the name?", bird(GREEN, seed))))

    threads = [
        threading.Thread(target=repeat, args=(lambda n=n, task=task: task(n),))
        for task in (write, ask)
        for n in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(answers) > 4


def test_photos_without_texts_do_not_vouch_for_the_texts_of_others(
    tmp_path: Path, word_encoder: WordEncoder
) -> None:
    """A base of photos without texts and some documents captioned each photo with a line of a
    document: the photo was familiar, and its likeness to other photos counted as a match."""
    rng = np.random.default_rng(0)
    colors = rng.integers(0, 256, (16, 3))
    photos = [bird(tuple(color), seed) for seed, color in enumerate(colors.tolist())]
    note = Entry("note", None, ("The shed key hangs behind the clock.",))
    for texts, is_told in (((), False), (("a speckled bird",), True)):
        entries = [Entry(f"p{n}", photo, texts) for n, photo in enumerate(photos)]
        kb = KnowledgeBase.build(tmp_path / str(is_told), [*entries, note], word_encoder)
        evidence = Retriever(kb).retrieve([RetrievalQuery(image=photos[3])], 4, modality="text")[0]
        assert (evidence.familiarity < 1) is is_told


def test_an_image_with_print_is_told_from_its_print(
    tmp_path: Path, word_encoder: WordEncoder
) -> None:
    """ "Describe it" about the photo of a label told what a manual says, whose text was the most
    similar one to the photo."""
    labels = [
        Entry(f"label-{n}", bird(color, n), regions=[Region(f"Origin: {country}", (0, 0, 1, 0.1))])
        for n, (color, country, _, _) in enumerate(BIRDS.values())
    ]
    note = Entry("note", None, ("The shed key hangs behind the clock.",))
    kb = KnowledgeBase.build(tmp_path / "kb", [*labels, note], word_encoder)
    query = RetrievalQuery(image=bird(RED, 0))
    evidence = Retriever(kb).retrieve([query], 3, modality="text")[0]
    assert evidence.recognized
    assert evidence.hits[0].entry.id == "label-0"
