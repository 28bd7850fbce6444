"""What English captions of photos say: subjects, predicates and head nouns, by simple rules."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from recipes.grounded_dialogs.words import IRREGULAR, word_set

_DETERMINERS = word_set(
    "a an the two three four five six seven several some many his her its their one another "
    "this that these those each other"
)
_PREPOSITIONS = word_set(
    "in on at by near with of through over under into onto along across behind beside between "
    "around next front to from for against down up off out inside outside above below toward "
    "towards past during after before while as and or but who which that where then like "
    "together there is are was were be being has have having it he she they them him"
)
_VERBS = word_set(
    "run runs jump jumps play plays stand stands sit sits walk walks ride rides swim swims look "
    "looks hold holds wear wears catch catches leap leaps climb climbs carry carries chase chases "
    "perform performs pose poses swing swings throw throws watch watches smile smiles hang hangs "
    "lay lays lie lies lean leans fly flies race races dance dances talk talks eat eats drink "
    "drinks sleep sleeps bite bites fight fights kick kicks hit hits hike hikes ski skis surf "
    "surfs skateboards snowboards splash splashes cross crosses enjoy enjoys gather gathers wait "
    "waits wade wades dig digs slide slides paddle paddles roll rolls push pushes pull pulls "
    "try tries take takes make makes do does go goes get gets prepare prepares point points "
    "stare stares laugh laughs cheer cheers bend bends rest rests reach reaches move moves "
    "camp camps set sets bat bats nip nips round rounds wrestle wrestles battle battles "
    "teach teaches prance prances "
    "shake shakes fetch fetches bark barks spray sprays wander wanders celebrate celebrates "
    "show shows sniff sniffs tackle tackles attempt attempts compete competes stick sticks"
)
_NOUNS_IN_ING = word_set(
    "during building king ring clothing string wing ceiling painting railing evening morning "
    "swing spring thing something crossing awning wedding lightning sibling parking"
)
_NOUNS_IN_ED = word_set("bed shed sled seed weed reed")
_COLORS = word_set(
    "red blue green yellow white black brown grey gray orange purple pink tan blond blonde"
)
_ADJECTIVES = _COLORS | word_set(
    "young old older elderly little small big large tall short long dark light bright same "
    "different wooden dirty wet dry snowy grassy sandy rocky busy empty colorful colored asian "
    "african male female spotted striped front back top side few lone very full red-headed dressed "
    "tri-colored left right open muddy"
)
_NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_MANY = ("several", "some", "many", "people", "group", "children", "men", "women", "kids")
_MALE = word_set("man boy guy male gentleman he his him")
_FEMALE = word_set("woman girl lady female she her")
_VAGUE_NOUNS = word_set(
    "group couple front side top back air background picture pair bunch type kind way edge middle "
    "piece end photo camera image area foreground lot"
)
"""Heads of noun phrases that do not name a thing."""
PLACE_NOUNS = word_set(
    "beach street field grass snow water park building road sidewalk river lake ocean pool yard "
    "garden forest mountain hill sand wall bench city sea shore stage track path trail stadium "
    "playground kitchen room store restaurant court ground dirt woods rocks rock bridge stairs "
    "slope pond stream waterfall boat car bus train table couch bed floor parking crowd desert "
    "market backyard lawn fence house"
)
_SINGULAR = {plural: singular for singular, plural in IRREGULAR.items()}
_WORD = re.compile(r"[A-Za-z]+(?:[-'][A-Za-z]+)*|[.,;]")


def _ends_noun_phrase(word: str) -> bool:
    """Return whether a word ends a noun phrase: a preposition, a verb, a participle."""
    if word in _PREPOSITIONS or word in _VERBS or not word[0].isalpha():
        return True
    if word.endswith("ing"):
        return word not in _NOUNS_IN_ING
    return word.endswith("ed") and len(word) > 3 and word not in _NOUNS_IN_ED | _ADJECTIVES


def _tokenize(caption: str) -> list[str]:
    """Return words and punctuation in lower case."""
    return _WORD.findall(caption.lower())


def head_nouns(caption: str) -> list[str]:
    """Return the singular heads of the noun phrases that have a determiner, in order.

    >>> head_nouns("Two black dogs run on the wet sand .")
    ['dog', 'sand']
    """
    words = _tokenize(caption)
    heads = []
    index = 0
    while index < len(words):
        if words[index] not in _DETERMINERS:
            index += 1
            continue
        end = index + 1
        while end < len(words) and end - index < 6 and not _ends_noun_phrase(words[end]):
            end += 1
        head = words[end - 1]
        if (
            end > index + 1
            and head not in _ADJECTIVES | _DETERMINERS | _VAGUE_NOUNS
            and len(head) > 2
        ):
            heads.append(singular(head))
        index = end
    return heads


def singular(noun: str) -> str:
    """Return the singular of an English noun.

    >>> singular("beaches"), singular("puppies"), singular("grass")
    ('beach', 'puppy', 'grass')
    """
    if noun in _SINGULAR:
        return _SINGULAR[noun]
    if noun.endswith("ies") and len(noun) > 4:
        return f"{noun[:-3]}y"
    if noun.endswith(("ches", "shes", "xes", "sses")):
        return noun[:-2]
    if noun.endswith("s") and not noun.endswith(("ss", "us", "is")):
        return noun[:-1]
    return noun


@dataclass(frozen=True)
class Caption:
    """The parts of a caption: "a dog", "is running on the beach"; the predicate may be empty."""

    text: str
    subject: str
    predicate: str
    heads: tuple[str, ...]
    is_clause: bool
    """Whether the caption has a finite verb: "a dog runs", not "a dog running"."""
    number: int
    """How many the subject says there are; 0 for several."""
    colors: frozenset[tuple[str, str]]
    """Colors with their nouns."""
    genders: frozenset[str]

    @property
    def is_complete(self) -> bool:
        """Whether the subject has its determiner."""
        first = self.text.split(" ")[0]
        return first in _DETERMINERS or first in _MANY or self.number != 1

    @property
    def content(self) -> frozenset[str]:
        """The words that say something."""
        return frozenset(
            singular(w)
            for w in _tokenize(self.text)
            if w not in _DETERMINERS and w not in _PREPOSITIONS and w[0].isalpha()
        )


def parse_caption(caption: str) -> Caption:
    """Split a caption into subject and predicate."""
    text = re.sub(r"\s+", " ", caption).strip().rstrip(" .!").replace(" ,", ",").replace(" '", "'")
    text = text[:1].lower() + text[1:]
    words = text.split(" ")
    bare = [re.sub(r"[^a-z'-]", "", w.lower()) for w in words]
    plural = _is_plural(bare)
    position = next((i for i, w in enumerate(bare) if w in ("is", "are") and i), 0)
    is_clause = bool(position)
    if not position:
        position = _find_verb(bare)
        is_clause = bool(position) and bare[position] in _VERBS
    predicate = " ".join(words[position:]) if position else ""
    if position and not is_clause:
        predicate = f"{'are' if plural else 'is'} {predicate}"
    subject = " ".join(words[:position]) if position else text
    return Caption(
        text,
        subject.rstrip(","),
        predicate,
        tuple(head_nouns(text)),
        is_clause,
        _number(bare, plural),
        frozenset(_color_pairs(_tokenize(text))),
        frozenset(_genders(bare)),
    )


def _find_verb(bare: Sequence[str]) -> int:
    """Return the position of the first verb or participle behind a noun, or 0."""
    for index in range(1, len(bare)):
        word, before = bare[index], bare[index - 1]
        is_adjective = before in _DETERMINERS or before in _ADJECTIVES or before in ("and", "while")
        if word and not is_adjective and (word in _VERBS or _is_participle(word)):
            return index
    return 0


def _is_participle(word: str) -> bool:
    return word.endswith("ing") and word not in _NOUNS_IN_ING


def _is_plural(bare: Sequence[str]) -> bool:
    if not bare:
        return False
    head: list[str] = []
    for word in bare[1:]:
        if _ends_noun_phrase(word or "."):
            if word == "and":
                return bare[0] not in _COLORS and not _COLORS & set(head[-1:])
            break
        head.append(word)
    return bare[0] in _NUMBERS or bare[0] in _MANY or bare[-1:] == ["people"]


def _number(bare: Sequence[str], plural: bool) -> int:
    if bare and bare[0] in _NUMBERS:
        return _NUMBERS[bare[0]]
    if plural or any(word in _MANY for word in bare[:4]):
        return 0
    return 1


def _color_pairs(words: Sequence[str]) -> set[tuple[str, str]]:
    """Return colors and the nouns behind them."""
    pairs = set()
    for index, word in enumerate(words):
        if word in _COLORS:
            end = index + 1
            while end < len(words) and (words[end] in _COLORS or words[end] == "and"):
                end += 1
            while end + 1 < len(words) and not _ends_noun_phrase(words[end + 1]):
                end += 1
            if end < len(words):
                pairs.add((word, singular(words[end])))
    return pairs


def _genders(bare: Sequence[str]) -> set[str]:
    words = {singular(word) for word in bare if word}
    return {g for g, group in (("male", _MALE), ("female", _FEMALE)) if words & group}
