"""Questions about cards, with and without an answer: values, yes or no, which of the entries."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ravlm.generation.base import ABSENT, Request
from ravlm.training.chat_examples import ChatExample
from recipes.fact_cards import Concept
from recipes.grounded_dialogs.example import make_evidence, mark
from recipes.grounded_dialogs.narration import Narrator
from recipes.grounded_dialogs.passages import PassageQuestions
from recipes.grounded_dialogs.stories import write_article
from recipes.grounded_dialogs.things import Fact, Thing, World
from recipes.grounded_dialogs.words import lower_first, with_article

if TYPE_CHECKING:
    from recipes.reading_data import ReadingExample

_KEY_QUESTIONS = (
    "What is the {k} of {n}?",
    "What {k} does {n} have?",
    "{n}: {k}?",
    "Tell me the {k} of {n}.",
    "Do you know the {k} of {n}?",
    "What is given as the {k} of {n}?",
    "I need the {k} of {n}.",
    "Can you tell me the {k} of {n}?",
)
_PERSON_QUESTIONS = (
    "Who is the {k} of {n}?",
    "Tell me who the {k} of {n} is.",
    "Who is given as the {k} of {n}?",
    "Do you know the {k} of {n}?",
)
_COUNT_QUESTIONS = (
    "How many {k} does {n} have?",
    "What is the number of {k} of {n}?",
    "Do you know how many {k} {n} has?",
    "Tell me how many {k} {n} has.",
)
_PLURAL_QUESTIONS = (
    "What are the {k} of {n}?",
    "Tell me the {k} of {n}.",
    "Do you know the {k} of {n}?",
    "What is given for the {k} of {n}?",
    "{n}: {k}?",
)
_CHINESE_QUESTIONS = (
    "{n}的{k}是什么？",
    "请问{n}的{k}是什么？",
    "告诉我{n}的{k}。",
    "{n}的{k}呢？",
)
_CHINESE_NUMBER_QUESTIONS = ("{n}的{k}是多少？", "请问{n}的{k}是多少？", "告诉我{n}的{k}。")
_CHINESE_PERSON_QUESTIONS = ("{n}的{k}是谁？", "谁是{n}的{k}？", "请问{n}的{k}是谁？")
_LABEL_QUESTIONS = (
    'What is given under "{k}" for {n}?',
    'What stands behind "{k}" for {n}?',
    'What does the entry of {n} have for "{k}"?',
)
_NO_NOUN = re.compile(
    r".* (?:by|in|on|of|for|to|from|at)|eats|tall|wide|long|lives|open|built|opened|founded"
    r"|established|since|born|died|costs?|contains|takes|wears|wearing|published|released|inaugurated"
    r"|completed|keep|how to store|scheduled for|spoken|made|breed",
    re.IGNORECASE,
)
"""Keys that make no question "What is the ... of it?"."""
_OPENED = Concept(
    ("Opened", "Inaugurated"),
    "year",
    ("When did {n} open?", "In what year was {n} opened?", "Since when has {n} been open?"),
    ("Was {n} opened in {v}?", "Did {n} open in {v}?"),
)
_ALIKE = (
    {"city", "country", "region", "continent", "address", "habitat", "place"},
    {"person", "man", "woman", "company"},
    {"year", "date", "age"},
    {"length", "area", "duration", "weight"},
    {"thing", "animal", "style", "latin", "latin1", "name", "profession"},
    {"spec", "code"},
    {"color", "clothes"},
    {"taste", "ingredients"},
    {"count"},
)
"""Kinds of values that one question may ask for."""
_WHICH = {
    False: ("Which {noun} {verb}?", "Which one {verb}?", "Which of them {verb}?", "What {verb}?"),
    True: ("哪{noun}{verb}？", "哪一个{verb}？", "其中哪个{verb}？"),
}
_WHO = {False: ("Who {verb}?", "Which person {verb}?"), True: ("谁{verb}？", "哪个人{verb}？")}
_POSSESSIVES = {"it": "its ", "she": "her ", "he": "his "}
_OBJECT = re.compile(r"\b(of|in|for|by|about|call|to|visit|with|at|win) (he|she)\b")
_YES = {False: "Yes, ", True: "是的，"}
_NO = {False: "No, ", True: "不，"}
_TRUE = ("yes", "true", "是")
_KIND_SHARES = {"value": 0.5, "yes_no": 0.17, "absent": 0.2, "which": 0.13}


def question_examples(
    rng: random.Random,
    count: int,
    reading: Sequence[ReadingExample] | PassageQuestions = (),
    *,
    reading_share: float = 0.5,
    chinese_share: float = 0.3,
    max_words: int = 80,
) -> list[ChatExample]:
    """Make questions: `reading_share` of them about passages, the others about invented cards.

    `reading` are questions about passages (`recipes.reading_data.read_examples` of squad and
    cmrc2018) or prepared `PassageQuestions`; passages are cut to about `max_words` words."""
    if isinstance(reading, PassageQuestions):
        passages = reading
    else:
        passages = PassageQuestions(reading, max_words)
    makers = {
        chinese: CardQuestions(World("zh" if chinese else "en", rng)) for chinese in (False, True)
    }
    examples = []
    for _ in range(count):
        chinese = rng.random() < chinese_share
        if rng.random() < reading_share and passages.has(chinese):
            examples.append(passages.example(chinese, rng))
        else:
            examples.append(makers[chinese].example())
    return examples


class CardQuestions:
    """Makes questions about invented cards and articles in the language of a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._concepts: dict[tuple[str, str], Concept] = {}
        self._by_key: dict[str, Concept] = {}
        for concept in world.cards.concepts:
            for key in concept.keys:
                self._concepts[key.lower(), concept.kind] = concept
                self._by_key.setdefault(key.lower(), concept)

    def example(self) -> ChatExample:
        """Return an example of a random kind."""
        makers: dict[str, Callable[[], ChatExample | None]] = {
            "value": self._value,
            "yes_no": self._yes_no,
            "absent": self._absent,
            "which": self._which,
        }
        names, shares = list(_KIND_SHARES), list(_KIND_SHARES.values())
        while True:
            example = makers[self.world.rng.choices(names, shares)[0]]()
            if example is not None:
                return example

    def question(self, fact: Fact, reference: str, thing: Thing, by_key: bool = False) -> str:
        """Return a question that asks for a fact, by its key if others are like it."""
        rng = self.world.rng
        if fact.kind.kind == "boolean":
            pattern = "{n}{k}吗？" if self.world.chinese else "Is {n} {k}?"
            return self.fill(pattern, reference, fact.key)
        concept = self._concept(fact)
        patterns = key_questions = _key_questions(fact, self.world.chinese)
        by_key = by_key or _has_alike(thing, fact) or rng.random() < 0.15
        if concept is not None and not by_key:
            patterns = [q for q in concept.questions if "{thing}" not in q] or patterns
            if thing.type != "p":
                patterns = [q for q in patterns if "{p}" not in q] or key_questions
            if reference == thing.name:
                patterns = [q for q in patterns if "{n}" in q or "{p}" in q] or key_questions
        return self.fill(rng.choice(patterns), reference, fact.key)

    def fill(self, pattern: str, reference: str, key: str) -> str:
        """Return a pattern with its reference and key."""
        text = pattern
        if reference in _POSSESSIVES:
            text = text.replace("the {k} of {n}", _POSSESSIVES[reference] + "{k}")
            text = text.replace("{n}: {k}?", "And " + _POSSESSIVES[reference] + "{k}?")
        text = text.replace("{n}", reference).replace("{p}", reference)
        text = text.replace("{k}", lower_first(key))
        text = re.sub(r"\b(it|she|he)'s ", lambda m: _POSSESSIVES[m[1]], text)
        return _OBJECT.sub(lambda m: f"{m[1]} {'him' if m[2] == 'he' else 'her'}", text)

    def _concept(self, fact: Fact) -> Concept | None:
        key = fact.key.lower()
        if key in ("opened", "inaugurated"):
            return _OPENED
        return self._concepts.get((key, fact.kind.kind)) or self._by_key.get(key)

    def evidence_texts(self, things: Sequence[Thing], hidden: Fact | None = None) -> list[str]:
        """Return a text for each thing, the first without a hidden fact."""
        rng, world = self.world.rng, self.world
        texts = []
        for index, thing in enumerate(things):
            facts = [f for f in thing.facts if index or f is not hidden]
            if rng.random() < 0.25 and facts:
                text, writer = write_article(world, thing, facts)
                if set(writer.used_facts) != set(facts):
                    text = world.card_text(thing, facts)
            else:
                text = world.card_text(thing, facts, metadata=0.25)
            texts.append(text)
        return texts

    def _things(self) -> list[Thing]:
        """Return one to four things, the first of them asked about, and often its twins."""
        rng, world = self.world.rng, self.world
        first = world.thing(rng.randint(3, 7))
        others = [
            world.twin(first) if rng.random() < 0.6 else world.thing(rng.randint(2, 6), first.type)
            for _ in range(rng.randint(0, 3))
        ]
        return [t for t in (first, *others) if t.facts and (t is first or t.name != first.name)]

    def _finish(
        self, question: str, texts: Sequence[str], replies: Sequence[str], absent: bool = False
    ) -> ChatExample:
        """Put the evidence into random order; the replies cite the first text."""
        rng, chinese = self.world.rng, self.world.chinese
        order = rng.sample(range(len(texts)), len(texts))
        evidence = make_evidence([texts[i] for i in order], rng)
        request = Request("ask", question, evidence=evidence, chinese=chinese)
        if absent:
            return ChatExample(request, (ABSENT[chinese],))
        marks = mark(chinese, order.index(0) + 1)
        return ChatExample(request, tuple(reply + marks for reply in replies))

    def _reference(self, things: Sequence[Thing]) -> str:
        """Return the name, or now and then a pronoun if there is no other thing."""
        thing = things[0]
        if len(things) == 1 and self.world.rng.random() < 0.2:
            return thing.pronouns[0]
        return thing.name

    def sentence(self, thing: Thing, fact: Fact, by_pronoun: bool | None = None) -> str:
        """Return a sentence that tells a fact, by name or pronoun."""
        rng = self.world.rng
        mentioned = rng.random() < 0.6 if by_pronoun is None else by_pronoun
        kind = fact.kind
        narrator = Narrator(self.world, thing, mentioned=mentioned, is_plain=True)
        if by_pronoun and kind.verbs and rng.random() < 0.7:
            return narrator.verb_sentence(fact)
        return narrator.tell([fact], 1)[0]

    def _value(self) -> ChatExample | None:
        things = self._things()
        thing = things[0]
        facts = [f for f in thing.facts if f.kind.kind != "boolean"]
        if not facts:
            return None
        fact = self.world.rng.choice(facts)
        question = self.question(fact, self._reference(things), thing)
        replies = [fact.value, self.sentence(thing, fact)]
        if self.world.rng.random() < 0.5:
            replies.reverse()
        return self._finish(question, self.evidence_texts(things), replies)

    def _yes_no(self) -> ChatExample | None:
        rng, chinese = self.world.rng, self.world.chinese
        things = self._things()
        thing = things[0]
        candidates = []
        for fact in thing.facts:
            concept = self._concept(fact)
            if fact.kind.kind == "boolean" or (concept and concept.yes_no):
                candidates.append(fact)
        if not candidates:
            return None
        fact = rng.choice(candidates)
        if fact.kind.kind == "boolean":
            holds = fact.value in _TRUE
            question = self.question(fact, self._reference(things), thing)
        else:
            concept = self._concept(fact)
            assert concept is not None
            holds = rng.random() < 0.45
            claim = fact.value
            while not holds and claim == fact.value:
                claim = self.world.value(fact.kind.kind, self.world.noun(thing.type), fact.key)
            question = self.fill(rng.choice(concept.yes_no), self._reference(things), fact.key)
            if not chinese:
                question = question.replace("a {v}", with_article(claim))
            question = question.replace("{v}", claim)
        reply = self.yes_no_reply(thing, fact, holds)
        return self._finish(question, self.evidence_texts(things), [reply])

    def yes_no_reply(self, thing: Thing, fact: Fact, holds: bool | None = None) -> str:
        """Return "Yes, it is red." or "No, it is red."; by default what a yes-no value says."""
        holds = fact.value in _TRUE if holds is None else holds
        sentence = self.sentence(thing, fact, by_pronoun=True)
        return (_YES if holds else _NO)[self.world.chinese] + _lower_unless_name(sentence, thing)

    def _absent(self) -> ChatExample | None:
        rng = self.world.rng
        things = self._things()
        thing = things[0]
        is_thing_absent = rng.random() < 0.4
        fact = rng.choice(thing.facts)
        if is_thing_absent:
            others = things[1:] or [self.world.twin(thing)]
            question = self.question(fact, thing.name, thing)
            return self._finish(question, self.evidence_texts(others), (), absent=True)
        if len(thing.facts) < 2:
            return None
        question = self.question(fact, self._reference(things), thing)
        return self._finish(question, self.evidence_texts(things, hidden=fact), (), absent=True)

    def _which(self) -> ChatExample | None:
        """Return a question for the entry that a fact belongs to."""
        rng, world = self.world.rng, self.world
        thing = world.thing(rng.randint(2, 5))
        things = [thing, *(world.twin(thing) for _ in range(rng.randint(1, 3)))]
        facts = [
            f
            for i, f in enumerate(thing.facts)
            if f.kind.kind not in ("boolean", "thing", "animal")
            and f.kind.verbs
            and all(other.facts[i].value != f.value for other in things[1:])
        ]
        if not facts or len({t.name for t in things}) < len(things):
            return None
        fact = rng.choice(facts)
        narrator = Narrator(world, thing, mentioned=True)
        verb = narrator.verb_phrase(fact)
        is_person = thing.type == "p"
        if verb[0] in "的，":
            return None
        noun = narrator.noun_phrase()
        pattern = rng.choice((_WHO if is_person else _WHICH)[world.chinese])
        question = pattern.replace("{noun}", noun).replace("{verb}", verb)
        sentence = self.sentence(thing, fact, by_pronoun=False)
        replies = [thing.name, sentence] if rng.random() < 0.5 else [sentence, thing.name]
        return self._finish(question, self.evidence_texts(things), replies)


def _key_questions(fact: Fact, chinese: bool) -> Sequence[str]:
    """Return questions that name the key of a fact."""
    is_person = fact.kind.kind in ("person", "man", "woman")
    if chinese:
        if is_person:
            return _CHINESE_PERSON_QUESTIONS
        has_number = any(character.isdigit() for character in fact.value)
        return _CHINESE_NUMBER_QUESTIONS if has_number else _CHINESE_QUESTIONS
    if _NO_NOUN.fullmatch(fact.key):
        return _LABEL_QUESTIONS
    if fact.key.endswith("s") and not fact.key.endswith(("ss", "us")):
        return _COUNT_QUESTIONS if fact.kind.kind == "count" else _PLURAL_QUESTIONS
    return _PERSON_QUESTIONS if is_person else _KEY_QUESTIONS


def _has_alike(thing: Thing, fact: Fact) -> bool:
    """Return whether a question for a fact may as well ask for another one of the thing."""
    alike = next((kinds for kinds in _ALIKE if fact.kind.kind in kinds), set())
    return any(f is not fact and f.kind.kind in alike for f in thing.facts)


def _lower_unless_name(sentence: str, thing: Thing) -> str:
    """Return a sentence with a small first letter, unless it begins with a name."""
    first = sentence.split(" ")[0].lower()
    if first in (*thing.pronouns, "the", "as", "for", "from", "on", "people", "you", "this"):
        return sentence[:1].lower() + sentence[1:]
    return sentence
