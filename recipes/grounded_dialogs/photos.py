"""Examples from captions of photos: stories about a photo, and captions with an invented noun."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set

from ravlm.data.chinese import ChineseDictionary, ChineseWord
from ravlm.data.text import is_chinese
from recipes.grounded_dialogs.captions import PLACE_NOUNS, Caption, head_nouns, parse_caption
from recipes.grounded_dialogs.example import mark
from recipes.grounded_dialogs.words import Inventor, capitalize, plural

_MIN_SENTENCES, _MAX_SENTENCES = 3, 5
_AGREEMENT = 0.6
"""Fraction of a sentence's words that the caption it cites must have."""
_OPENINGS = (
    "This picture shows {np}.",
    "The photo shows {np}.",
    "In the picture there {be} {np}.",
    "Here we see {np}.",
    "The picture is of {np}.",
)
_MORE = ("There {be} {np}.", "One can see {np}.", "The picture also has {np}.", "We see {np}.")
_PLACES = (
    "It all happens {place}.",
    "The scene is {place}.",
    "The photo was taken {place}.",
    "The place of the picture is {place}.",
)
_NOUN_SENTENCES = (
    "The {noun} can be seen, too.",
    "You can also see the {noun}.",
    "The {noun} is part of the picture, too.",
)
_PLACE = re.compile(
    r"\b((?:in|on|at|near|by|inside|outside|under|beside) "
    r"(?:the|a|an) (?:[a-z-]+ ){0,2}?[a-z-]+)$"
)
_CHINESE_OPENINGS = (
    "照片里是{np}。",
    "画面中是{np}。",
    "这张照片拍的是{np}。",
    "图中可以看到{np}。",
)
_CHINESE_MORE = (
    "可以看到{np}。",
    "也可以说，画面里是{np}。",
    "我们看到的是{np}。",
    "换句话说，这是{np}。",
)
_CHINESE_SENTENCES = ("照片中，{s}。", "{s}。", "可以看到{s}。", "画面上，{s}。")
_CHINESE_NUMBERS = {"一": 1, "两": 2, "二": 2, "三": 3, "四": 4, "五": 5, "群": 0, "些": 0}
_CHINESE_NOUN_PHRASE = re.compile(r"的[^的]{1,4}$")
_COLOR_OR_NUMBER = re.compile(r"[一两二三四五六七八九十几]|.*色|白|黑|红|大|小")


def renamed(
    captions: Sequence[str],
    evidence_captions: Sequence[str],
    rng: random.Random,
    share: float = 0.2,
    dictionary: ChineseDictionary | None = None,
) -> tuple[list[str], list[str]]:
    """Rename a noun of a photo's captions and of its evidence to an invented word.

    `share` of the calls rename; the others return the captions as they are, as do those without
    a shared noun. Chinese needs a `dictionary`, which the caller keeps.
    """
    unchanged = list(captions), list(evidence_captions)
    if rng.random() >= share:
        return unchanged
    if any(map(is_chinese, captions)):
        return _rename_in_chinese(
            captions, evidence_captions, rng, dictionary or ChineseDictionary()
        )
    noun = _choose_shared_noun(
        Counter(noun for caption in captions for noun in dict.fromkeys(head_nouns(caption))),
        Counter(noun for caption in evidence_captions for noun in head_nouns(caption)),
        rng,
    )
    if not noun:
        return unchanged
    word = Inventor("en", rng).word()
    return (
        [_replace_noun(caption, noun, word) for caption in captions],
        [_replace_noun(caption, noun, word) for caption in evidence_captions],
    )


def _choose_shared_noun(
    counts: Mapping[str, int], evidence_counts: Mapping[str, int], rng: random.Random
) -> str:
    """Return a noun that both have, a frequent one more often, or "" if they share none."""
    shared = {n: c + evidence_counts[n] for n, c in counts.items() if n in evidence_counts}
    if not shared:
        return ""
    return rng.choices(list(shared), [weight**2 for weight in shared.values()])[0]


def _replace_noun(caption: str, noun: str, word: str) -> str:
    """Replace a noun and its plural; "an apple" becomes "a velgar"."""

    def replacement(match: re.Match[str]) -> str:
        article = f"{match[1][0]} " if match[1] else ""
        new = word if match[2].lower() == noun else plural(word)
        return article + (capitalize(new) if match[2][0].isupper() else new)

    pattern = rf"(\ban )?\b({re.escape(noun)}|{re.escape(plural(noun))})\b"
    return re.sub(pattern, replacement, caption, flags=re.IGNORECASE)


def _rename_in_chinese(
    captions: Sequence[str],
    evidence_captions: Sequence[str],
    rng: random.Random,
    dictionary: ChineseDictionary,
) -> tuple[list[str], list[str]]:
    """Rename a word that follows a measure word or 的 in both lists."""
    caption_words = [dictionary.segment(caption) for caption in captions]
    evidence_words = [dictionary.segment(caption) for caption in evidence_captions]
    noun = _choose_shared_noun(
        Counter(noun for words in caption_words for noun in _chinese_nouns(words)),
        Counter(word.surface for words in evidence_words for word in words),
        rng,
    )
    if not noun:
        return list(captions), list(evidence_captions)
    name = Inventor("zh", rng).name()
    return (
        [_replace_chinese_noun(words, noun, name) for words in caption_words],
        [_replace_chinese_noun(words, noun, name) for words in evidence_words],
    )


def _chinese_nouns(words: Sequence[ChineseWord]) -> Iterator[str]:
    """Yield words after a particle or a measure word; no verbs, colors or numbers."""
    for index, word in enumerate(words[1:], 1):
        if not words[index - 1].particle or word.particle or not word.glosses:
            continue
        is_verb = word.glosses[0][1].startswith("to ")
        is_attribute = index + 1 < len(words) and words[index + 1].surface == "的"
        if not (is_verb or is_attribute or _COLOR_OR_NUMBER.fullmatch(word.surface)):
            yield word.surface


def _replace_chinese_noun(words: Sequence[ChineseWord], noun: str, name: str) -> str:
    """Replace a noun; one that is doubled (狗狗) becomes one name."""
    surfaces = [name if word.surface == noun else word.surface for word in words]
    return "".join(
        surface
        for index, surface in enumerate(surfaces)
        if not (index and surface == name == surfaces[index - 1])
    )


def story_about_photo(
    captions: Sequence[str], evidence_captions: Sequence[str], rng: random.Random
) -> str:
    """Return three to five sentences about a photo, from its own captions.

    Captions that contradict the first one (in numbers, colors, or gender) are left out. A sentence
    that a caption of the evidence agrees with cites it.
    """
    if any(map(is_chinese, captions)):
        return _chinese_story(captions, evidence_captions, rng)
    parsed = [parse_caption(caption) for caption in captions if caption.strip()]
    evidence = [parse_caption(caption).content for caption in evidence_captions]
    chosen = _consistent(parsed, rng)
    sentences: list[tuple[str, Caption | None]] = []
    for index, caption in enumerate(chosen[: _MAX_SENTENCES - 1]):
        sentences.append((_sentence(caption, index, rng), caption))
    place = _place(chosen)
    if place and (len(sentences) < _MIN_SENTENCES or rng.random() < 0.3):
        sentences.append((rng.choice(_PLACES).format(place=place), None))
    nouns = list(dict.fromkeys(noun for caption in chosen for noun in caption.heads))
    for noun in nouns[1:]:
        if len(sentences) < _MIN_SENTENCES:
            sentences.append((rng.choice(_NOUN_SENTENCES).format(noun=noun), None))
    return " ".join(
        sentence + (_citation(False, source.content, evidence, source.heads[:1]) if source else "")
        for sentence, source in sentences
    )


def _consistent(parsed: Sequence[Caption], rng: random.Random) -> list[Caption]:
    """Return captions that agree with each other and say something new, in a new order."""
    numbers = Counter(caption.number for caption in parsed)
    number = numbers.most_common(1)[0][0]
    candidates = [c for c in rng.sample(parsed, len(parsed)) if c.number == number]
    candidates.sort(key=lambda c: (not c.is_complete, not c.predicate))
    chosen: list[Caption] = []
    content: set[str] = set()
    for min_new in (2, 1, 0):  # captions that repeat others only if there are few
        for caption in candidates:
            if caption in chosen or any(_contradict(caption, other) for other in chosen):
                continue
            enough = len(chosen) >= _MIN_SENTENCES
            if (enough and min_new < 2) or len(caption.content - content) < min_new:
                continue
            chosen.append(caption)
            content |= caption.content
    return chosen


def _contradict(one: Caption, other: Caption) -> bool:
    if one.number == 1 and len(one.genders | other.genders) == 2:
        return True
    theirs = dict.fromkeys(noun for _, noun in other.colors)
    return any(noun in theirs and (color, noun) not in other.colors for color, noun in one.colors)


def _sentence(caption: Caption, index: int, rng: random.Random) -> str:
    """Return a caption as a sentence; from the second on its subject is known."""
    be = "are" if caption.number != 1 else "is"
    if index == 0 and not caption.is_clause and (not caption.predicate or rng.random() < 0.6):
        return capitalize(rng.choice(_OPENINGS).format(np=caption.text, be=be))
    if not caption.predicate:
        return capitalize(rng.choice(_MORE).format(np=caption.text, be=be))
    subject = caption.subject
    if index:
        if not re.search(r" and an? ", subject):
            subject = re.sub(r"^(?:a|an|one) ", "the ", subject)
        subject = re.sub(r"^(two|three|four|five|six) ", r"the \1 ", subject)
    return capitalize(f"{subject} {caption.predicate}.")


def _place(chosen: Sequence[Caption]) -> str:
    """Return where it happens, from the end of a caption: "on a wet beach"."""
    for caption in chosen:
        match = _PLACE.search(caption.text)
        if match and match[1].split(" ")[-1] in PLACE_NOUNS:
            return match[1]
    return ""


def _citation(
    chinese: bool, content: Set[str], evidence: Sequence[Set[str]], required: Sequence[str] = ()
) -> str:
    """Return the mark of the evidence that agrees with a sentence, or "" if none does."""
    shared = [len(content & other) / max(1, len(content)) for other in evidence]
    best = max(shared, default=0.0)
    if best < _AGREEMENT:
        return ""
    index = shared.index(best)
    return mark(chinese, index + 1) if set(required) <= evidence[index] else ""


def _chinese_story(
    captions: Sequence[str], evidence_captions: Sequence[str], rng: random.Random
) -> str:
    texts = list(dict.fromkeys(caption.strip().rstrip("。.！!") for caption in captions))
    numbers = [_chinese_number(text) for text in texts]
    number = Counter(n for n in numbers if n is not None).most_common(1)
    agreed = number[0][0] if number else None
    texts = [t for t, n in zip(texts, numbers, strict=True) if n is None or n == agreed]
    evidence = [_bigrams(caption) for caption in evidence_captions]
    sentences = []
    more = rng.sample(_CHINESE_MORE, len(_CHINESE_MORE))
    for index, text in enumerate(rng.sample(texts, min(len(texts), rng.randint(3, 5)))):
        if _CHINESE_NOUN_PHRASE.search(text):
            pattern = more[index - 1] if index else rng.choice(_CHINESE_OPENINGS)
            sentence = pattern.format(np=text)
        else:
            sentence = rng.choice(_CHINESE_SENTENCES).format(s=text)
        sentences.append(sentence + _citation(True, _bigrams(text), evidence))
    return "".join(sentences)


def _chinese_number(text: str) -> int | None:
    return next((_CHINESE_NUMBERS[c] for c in text if c in _CHINESE_NUMBERS), None)


def _bigrams(text: str) -> set[str]:
    return {text[i : i + 2] for i in range(len(text) - 1)}
