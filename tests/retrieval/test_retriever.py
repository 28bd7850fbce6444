"""From requests to evidence: one call for a batch, and one search for a user's turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ravlm.errors import InvalidInput
from ravlm.knowledge.base import KnowledgeBase
from ravlm.model import RetrievalAugmentedVLM
from ravlm.records import Entry, Evidence
from ravlm.retrieval.query import RetrievalQuery
from ravlm.retrieval.retriever import Retriever
from tests.helpers.birds import BIRDS, bird

RED, GREEN = BIRDS["Ruby Finch"][0], BIRDS["Leaf Parrot"][0]


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[Mapping[str, Any]]]:
    """The queries of each call of `search_many`, which `search` calls too."""
    calls: list[Sequence[Mapping[str, Any]]] = []
    search_many = KnowledgeBase.search_many

    def record(self: KnowledgeBase, queries: Any, *args: Any, **options: Any) -> Any:
        calls.append(queries)
        return search_many(self, queries, *args, **options)

    monkeypatch.setattr(KnowledgeBase, "search_many", record)
    return calls


def first_id(evidence: Evidence) -> str:
    return evidence.hits[0].entry.id


def test_a_batch_gives_what_each_query_gives_alone(birds: KnowledgeBase) -> None:
    queries = [
        RetrievalQuery("What is the country of the Sea Heron?"),
        RetrievalQuery("What is the name?", bird(GREEN, 1)),
        RetrievalQuery(image=bird(RED, 2)),
        RetrievalQuery("What is the length of the Snow Owl?", bird(RED, 3), history=()),
        RetrievalQuery("And its length?", history=("Who is the Coal Crow?",)),
        RetrievalQuery("a bird near the sea", accept_similar=True),
    ]
    together = Retriever(birds).retrieve(queries, k=3)
    alone = [Retriever(birds).retrieve([query], k=3)[0] for query in queries]
    assert [e.hits for e in together] == [e.hits for e in alone]
    assert [first_id(evidence)[:6] for evidence in together[:5]] == [
        "bird-2",
        "bird-1",
        "bird-0",
        "bird-3",
        "bird-4",
    ]
    assert together[5].hits


def test_all_texts_of_a_batch_are_searched_at_once(
    birds: KnowledgeBase, searches: list[Sequence[Mapping[str, Any]]]
) -> None:
    """Each text was searched up to four times, one search after the other."""
    texts = [f"What is the country of the {name}?" for name in BIRDS]
    Retriever(birds).retrieve([RetrievalQuery(text) for text in texts], k=3)
    assert len(searches) == 1
    assert {query["text"] for query in searches[0]} == set(texts)


def test_a_conversation_searches_once_per_turn(
    birds: KnowledgeBase, searches: list[Sequence[Mapping[str, Any]]]
) -> None:
    """Three turns made ten searches, some of them for the assistant's own words."""
    model = RetrievalAugmentedVLM(birds)
    messages: list[dict[str, str]] = []
    answers = []
    for turn in ("What is the country of the Snow Owl?", "And its length?", "Is it tame?"):
        messages.append({"role": "user", "content": turn})
        answers.append(model.chat(messages).text)
        messages.append({"role": "assistant", "content": "Ask me about the Coal Crow instead."})
    assert answers == ["Canada", "60 cm", "Yes."]
    assert len(searches) == 3
    assert not any("Coal Crow" in query["text"] for queries in searches for query in queries)


def test_a_conversation_that_is_new_to_the_model_searches_twice(
    birds: KnowledgeBase, searches: list[Sequence[Mapping[str, Any]]]
) -> None:
    history = ("What is the country of the Snow Owl?", "And its length?")
    query = RetrievalQuery("Is it tame?", history=history)
    (evidence,) = Retriever(birds).retrieve([query], k=3)
    assert first_id(evidence).startswith("bird-3")
    assert len(searches) == 2
    assert {query["text"] for query in searches[1]} == set(history)


def test_what_is_remembered_is_searched_again_after_a_change(birds: KnowledgeBase) -> None:
    retriever = Retriever(birds)
    query = RetrievalQuery("What is the country of the Marsh Tit?")
    assert not retriever.retrieve([query], k=3)[0].sufficient
    birds.add([Entry("tit", None, ("Name: Marsh Tit\nCountry: Poland",))])
    (evidence,) = retriever.retrieve([query], k=3)
    assert first_id(evidence) == "tit"
    birds.remove(["tit"])
    assert not retriever.retrieve([query], k=3)[0].sufficient


def test_a_filter_is_remembered_with_its_text(birds: KnowledgeBase) -> None:
    retriever = Retriever(birds)
    query = RetrievalQuery("What is the country of the Sea Heron?")
    assert retriever.retrieve([query], k=3, where={"kind": "bird"})[0].hits
    assert not retriever.retrieve([query], k=3, where={"kind": "fish"})[0].hits
    assert len(retriever.retrieve([query], k=1)[0].hits) == 1


def test_the_generators_query_is_for_images_without_a_text(birds: KnowledgeBase) -> None:
    adapted: list[int] = []

    def adapt(vectors: Any, fingerprint: str) -> Any:
        adapted.append(len(vectors))
        return vectors[::-1]

    queries = [
        RetrievalQuery(image=bird(RED, 1)),
        RetrievalQuery(image=bird(GREEN, 2)),
        RetrievalQuery("What is the name?", bird(GREEN, 3)),
    ]
    evidence = Retriever(birds).retrieve(queries, 2, adapt_query=adapt)
    assert adapted == [2]
    assert [first_id(e)[:6] for e in evidence] == ["bird-1", "bird-0", "bird-1"]


def test_nothing_to_retrieve_for_is_an_error() -> None:
    with pytest.raises(InvalidInput, match="no text and no image"):
        RetrievalQuery()


def test_passages_are_evidence_where_nothing_is_linked(birds: KnowledgeBase) -> None:
    """A question about prose names no entity, and once retrieved nothing at all."""
    (evidence,) = Retriever(birds).retrieve([RetrievalQuery("Which one migrates in Norway?")], k=3)
    assert not evidence.linked
    assert not evidence.sufficient
    assert len(evidence.hits) == 3
    assert first_id(evidence).startswith("bird-2")  # the Sea Heron of Norway
    assert list(evidence.weights) == sorted(evidence.weights, reverse=True)
    assert 0 < sum(evidence.weights) <= 1
