"""Stories: four to eight sentences about a thing, told from cards and articles about it."""

from __future__ import annotations

import random
from collections.abc import Sequence

from ravlm.generation.base import Request
from ravlm.training.chat_examples import ChatExample
from recipes.grounded_dialogs.example import make_evidence, mark
from recipes.grounded_dialogs.narration import Narrator
from recipes.grounded_dialogs.things import Fact, Thing, World
from recipes.grounded_dialogs.words import join_sentences, plural

_MIN_SENTENCES, _MAX_SENTENCES = 4, 8
_TOPIC_SHARE = 0.15
_ARTICLE_SHARE = 0.4


def story_examples(rng: random.Random, count: int, chinese_share: float = 0.3) -> list[ChatExample]:
    """Make stories about invented things from one to four entries, some about other things."""
    worlds = {False: World("en", rng), True: World("zh", rng)}
    examples = []
    for _ in range(count):
        world = worlds[rng.random() < chinese_share]
        make = _topic_story if rng.random() < _TOPIC_SHARE else _thing_story
        examples.append(make(world))
    return examples


def write_article(world: World, thing: Thing, facts: Sequence[Fact]) -> tuple[str, Narrator]:
    """Return prose about the facts, and its narrator, which has the facts and patterns used."""
    narrator = Narrator(world, thing)
    sentences = narrator.tell(facts, world.rng.randint(max(1, len(facts) - 2), len(facts)))
    filler = world.words["person_filler" if thing.type == "p" else "filler"]
    for _ in range(world.rng.randint(0, 2)):
        sentences.insert(world.rng.randint(1, len(sentences)), world.rng.choice(filler))
    return join_sentences(dict.fromkeys(sentences), world.chinese), narrator


def _thing_story(world: World) -> ChatExample:
    rng = world.rng
    thing = world.thing(rng.randint(6, 12))
    while len(thing.facts) < _MIN_SENTENCES + 1:
        thing = world.thing(rng.randint(7, 12))
    texts, parts, patterns = _entries_about(world, thing)
    texts += _other_entries(world, thing, rng.randint(0, 4 - len(texts)))
    order = rng.sample(range(len(texts)), len(texts))
    positions = [order.index(index) + 1 for index in range(len(texts))]
    chosen_parts = _choose_facts(rng, parts)
    narrator = Narrator(world, thing, avoid=patterns)
    num_sentences = min(rng.randint(_MIN_SENTENCES, _MAX_SENTENCES), sum(map(len, chosen_parts)))
    story = _tell_parts(narrator, chosen_parts, positions, num_sentences)
    text = _request_text(world, thing, alone=len(texts) == len(parts))
    request = Request(
        "tell",
        text,
        evidence=make_evidence([texts[i] for i in order], rng),
        chinese=world.chinese,
    )
    return ChatExample(request, (story,))


def _entries_about(world: World, thing: Thing) -> tuple[list[str], list[list[Fact]], list[str]]:
    """Return one or two texts about a thing, the facts of each, and the patterns of articles."""
    rng, facts = world.rng, list(thing.facts)
    cut = rng.randint(2, len(facts) - 2) if rng.random() < 0.45 else len(facts)
    parts = [part for part in (facts[:cut], facts[cut:]) if part]
    texts, patterns = [], []
    for part in parts:
        if rng.random() < _ARTICLE_SHARE:
            text, narrator = write_article(world, thing, part)
            part[:] = narrator.used_facts
            patterns += narrator.used_patterns
        else:
            repeated = rng.sample(facts, 1) if rng.random() < 0.15 else []
            extra = [fact for fact in repeated if fact not in part]
            text = world.card_text(thing, [*part, *extra])
        texts.append(text)
    return texts, parts, patterns


def _other_entries(world: World, thing: Thing, count: int) -> list[str]:
    """Return texts about other things, often of the same kind."""
    rng = world.rng
    texts = []
    for _ in range(count):
        if rng.random() < 0.5:
            other = world.twin(thing)
        elif rng.random() < 0.5:
            other = world.thing(rng.randint(3, 7), thing.type)
        else:
            other = world.thing(rng.randint(3, 7))
        facts = rng.sample(other.facts, min(len(other.facts), rng.randint(2, 7)))
        if rng.random() < 0.3:
            texts.append(write_article(world, other, facts)[0])
        else:
            texts.append(world.card_text(other, facts))
    return texts


def _choose_facts(rng: random.Random, parts: Sequence[list[Fact]]) -> list[list[Fact]]:
    """Leave out a fact or two now and then, and shuffle the others."""
    chosen_parts = []
    for part in parts:
        size = len(part) - (rng.randint(0, 2) if len(part) > _MIN_SENTENCES else 0)
        chosen_parts.append(rng.sample(part, size))
    return chosen_parts


def _tell_parts(
    narrator: Narrator,
    parts: Sequence[list[Fact]],
    positions: Sequence[int],
    num_sentences: int,
) -> str:
    """Return a story that tells the facts of one entry after the other."""
    chinese, total = narrator.world.chinese, sum(map(len, parts))
    sentences: list[str] = []
    for index, part in enumerate(parts):
        share = round(num_sentences * len(part) / total)
        if index == len(parts) - 1:
            share = num_sentences - len(sentences)
        for sentence in narrator.tell(part, max(1, share)):
            sentences.append(sentence + mark(chinese, positions[index]))
    return join_sentences(sentences, chinese)


def _topic_story(world: World) -> ChatExample:
    """Return a story about several things of a kind, each from its own entry."""
    rng = world.rng
    type = rng.choice("brfatcwonv")
    noun = rng.choice(world.words["things"][type])
    things = [world.thing(rng.randint(4, 7), type, noun) for _ in range(rng.randint(2, 4))]
    texts, sentences = [], []
    for position, thing in enumerate(things, 1):
        facts: list[Fact] = list(thing.facts)
        patterns: list[str] = []
        if rng.random() < _ARTICLE_SHARE:
            text, writer = write_article(world, thing, facts)
            facts, patterns = writer.used_facts, writer.used_patterns
        else:
            text = world.card_text(thing, facts)
        texts.append(text)
        narrator = Narrator(world, thing, avoid=patterns)
        low, high = (2, 3) if len(things) == 2 else (1, 2)
        for sentence in narrator.tell(rng.sample(facts, len(facts)), rng.randint(low, high)):
            sentences.append(sentence + mark(world.chinese, position))
    nouns = noun if world.chinese else plural(noun)
    text = rng.choice(world.words["topic_requests"]).replace("{nouns}", nouns)
    evidence = make_evidence(texts, rng)
    request = Request("tell", text, evidence=evidence, chinese=world.chinese)
    return ChatExample(request, (join_sentences(sentences, world.chinese),))


def _request_text(world: World, thing: Thing, alone: bool) -> str:
    """Return a request by name, or about "this picture" if the evidence has nothing else."""
    requests: list[str] = world.words["requests"]
    if alone and world.rng.random() < 0.3:
        requests = world.words["photo_requests"]
        if thing.type == "p" or not thing.noun_is_known:
            requests = [text for text in requests if "{noun}" not in text]
    text = world.rng.choice(requests).replace("{n}", thing.name)
    return text.replace("{noun}", thing.noun)
