"""Tell about one entity: an opening, its prose and its facts, with the name before any pronoun."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ravlm.data.facts import Fact, is_name_key, read_facts
from ravlm.data.lexical_overlap import content_words
from ravlm.data.page_text import MIN_CONFIDENCE, PageText, certain_texts, is_page
from ravlm.data.text import is_chinese
from ravlm.generation.base import Request
from ravlm.generation.extractive.chinese_fact_sentences import (
    chinese_fact_sentence,
    is_predicate_key,
)
from ravlm.generation.extractive.fact_sentences import (
    StorySubject,
    fact_sentence,
    is_noun_key,
    value_kind,
    yes_no_summary,
)
from ravlm.generation.extractive.prose_selection import (
    ProseSentence,
    choose_prose,
    clean_text,
    name_subject,
    read_prose,
)
from ravlm.generation.extractive.provenance import is_provenance
from ravlm.records import Entry, Hit

_MAX_CHARACTERS = 16_000
"""Of a longer text, only the beginning and the passage that matched are read."""
_MAX_FACTS = 8
_ENOUGH_FACTS = 3
"""Metadata is used only for an entry whose texts have fewer facts and sentences."""
_SHORT_VALUE, _SHORT_CHINESE_VALUE = 5, 14
_MAX_HEADING_WORDS = 8
_PERSON_KEY = re.compile(
    r"\b(?:born|birth\w*|occupation|profession|job|nationality|spouse|married|gender|sex|died"
    r"|employer|education)\b|出生|生于|职业|国籍|性别|配偶|籍贯|生日|毕业",
    re.IGNORECASE,
)
_CHINESE_NAME_KEY = re.compile(r".{0,3}(?:名称|名字|姓名|名|标题)|题目")
_QUOTED = ('Under "', "“")
_NO_SENTENCES = ("title", "header", "footer")
"""Kinds of blocks of a page of which a story has no sentences."""
_ROW = re.compile(r"; [^;:]{1,60}: | \| ")
"""The second cell of a row of a table, which is no sentence and no value of the first one."""
_FIRST_PERSON = re.compile(r"\b(?:I|we|my)\b")


@dataclass(frozen=True)
class EntityText:
    """What an entry says about its entity, without its provenance."""

    subject: StorySubject
    facts: tuple[Fact, ...]
    prose: tuple[ProseSentence, ...]
    texts: tuple[str, ...]
    """The texts that a sentence about it must be supported by."""
    chinese: bool
    heading: str = ""
    """A heading of the text, which is not used as a name."""
    facts_first: bool = False
    """Whether its texts give a fact before any prose."""


def read_entity(hit: Hit, request: Request, previous: EntityText | None = None) -> EntityText:
    """Return what a hit says about its entity, in the language of the request if it has it.

    `previous`: the same entity as another hit has it; it is named already.
    """
    facts = _facts(hit)
    same_language = [f for f in facts if is_chinese(f.line) == request.chinese]
    facts = same_language if any(not is_name_key(f.key) for f in same_language) else facts
    chinese = any(is_chinese(fact.line) for fact in facts)
    name, heading, facts = _split_name(facts)
    heading = _titled(heading, hit.entry)
    content_facts = [fact for fact in facts if not is_provenance(fact)]
    sentences = [fact for fact in content_facts if fact.key and _is_sentence(fact.value)]
    keyed = [fact for fact in content_facts if fact.key and not _is_sentence(fact.value)]
    values = [fact.value for fact in content_facts if not fact.key]
    prose = read_prose([*values, *(fact.value for fact in sentences)])
    if previous is not None and previous.subject.name:
        subject = previous.subject
    else:
        subject = StorySubject(_definite(name, prose), _pronoun(prose, keyed, name, chinese))
    lines = [f"Name: {name}"] if name else [heading]
    texts = ("\n".join([*lines, *(fact.line for fact in facts)]),)
    return EntityText(
        replace(subject, is_mentioned=previous is not None and bool(subject.name)),
        tuple(keyed),
        tuple(prose),
        texts,
        chinese,
        heading,
        bool(content_facts) and bool(content_facts[0].key),
    )


def _is_sentence(value: str) -> bool:
    """Return whether a value is a sentence that needs no quotation marks in a story."""
    return value_kind(value) == "sentence" and not _FIRST_PERSON.search(value)


def shorten(hit: Hit) -> Hit:
    """Return a hit whose long texts have only their beginning and the passage that matched."""
    entry = hit.entry
    if max(map(len, entry.texts), default=0) <= _MAX_CHARACTERS:
        return hit
    texts = tuple(
        text if len(text) <= _MAX_CHARACTERS else _shorten_text(text, hit, index)
        for index, text in enumerate(entry.texts)
    )
    return replace(hit, entry=replace(entry, texts=texts))


def _shorten_text(text: str, hit: Hit, index: int) -> str:
    passage = hit.part.text if hit.part.modality == "text" and hit.part.index == index else ""
    return f"{_cut(text, _MAX_CHARACTERS // 4)}\n{_cut(passage, _MAX_CHARACTERS)}"


def _cut(text: str, length: int) -> str:
    """Return the beginning of a text, up to the end of a sentence."""
    if len(text) <= length:
        return text
    text = text[:length]
    end = max(text.rfind(mark) for mark in (". ", "。", "\n", "! ", "? "))
    return text[: end + 1] if end > 0 else text


def _facts(hit: Hit) -> list[Fact]:
    """Return the facts of an entry, and of its metadata where its texts and regions say little."""
    texts = (_cut(text, 2 * _MAX_CHARACTERS) for text in _texts(hit.entry))
    facts = read_facts(Entry(texts=map(clean_text, texts)))
    facts = [fact for fact in facts if not _ROW.search(fact.value)]
    if is_page(hit.entry) or sum(not is_name_key(fact.key) for fact in facts) >= _ENOUGH_FACTS:
        return facts
    values = {fact.value.casefold() for fact in facts}
    for fact in read_facts(Entry(metadata=hit.entry.metadata)):
        if fact.value.casefold() not in values:
            values.add(fact.value.casefold())
            facts.append(fact)
    return facts


def _texts(entry: Entry) -> tuple[str, ...]:
    """Return the texts of an entry; that of a page has its first title and no other."""
    if not is_page(entry):
        return certain_texts(entry)
    page = PageText.of([r for r in entry.regions if r.confidence >= MIN_CONFIDENCE])
    blocks = [
        page.text[block.start : block.end]
        for number, block in enumerate(page.blocks)
        if number == 0 or block.kind not in _NO_SENTENCES
    ]
    return (*entry.texts, "\n".join(blocks))


def _titled(heading: str, entry: Entry) -> str:
    """Return the heading of a page after the title of its document, if that is another."""
    title = entry.metadata.get("title")
    is_other = isinstance(title, str) and title.casefold() not in heading.casefold()
    return f"{title}: {heading}" if heading and is_other and is_page(entry) else heading


def _split_name(facts: Sequence[Fact]) -> tuple[str, str, list[Fact]]:
    """Return the name of the entity and the heading of its text, or "", and the other facts.

    The name is the value of a name key, or that of the first line if the prose has it.
    """
    name_facts = [f for f in facts if f.key and (is_name_key(f.key) or _ends_in_name(f.key))]
    if name_facts:
        return name_facts[0].value.strip(), "", [f for f in facts if f is not name_facts[0]]
    if len(facts) < 2:
        return "", "", list(facts)
    first, remainder = facts[0], list(facts[1:])
    prose = " ".join(f.value for f in remainder if not f.key)
    is_short = len(first.value.split()) <= _MAX_HEADING_WORDS and len(first.value) < 60
    if not first.key and is_short and first.value[-1] not in ".!?。！？,，;；:：":
        heading = first.value.strip("#*= ")
        return (heading, "", remainder) if heading in prose else ("", heading, remainder)
    if first.key and is_short and len(first.value) > 1 and first.value in prose:
        return first.value, "", remainder
    return "", "", list(facts)


def _ends_in_name(key: str) -> bool:
    return _CHINESE_NAME_KEY.fullmatch(key) is not None


def _pronoun(
    prose: Sequence[ProseSentence], facts: Sequence[Fact], name: str, chinese: bool
) -> str:
    """Return the pronoun of the entity, or "" if the evidence does not tell which it is."""
    is_person = any(_PERSON_KEY.search(fact.key) for fact in facts)
    if chinese:
        text = "。" + "".join(sentence.text for sentence in prose)
        pronouns = {p for p in "她他它" if re.search(rf"[。，；]{p}", text)}
        if len(pronouns) == 1 and (is_person or pronouns == {"它"} or text[1] in pronouns):
            return pronouns.pop()
        return "" if is_person or pronouns else "它"
    openings = [_opening_pronoun(sentence.text) for sentence in prose]
    pronouns = {pronoun for pronoun in openings if pronoun}
    if len(pronouns) == 1 and (is_person or _refers_to(name, prose, openings)):
        return pronouns.pop()
    last = name.split()[-1].lower() if name else ""
    is_plural = last.endswith("s") and not last.endswith(("ss", "us", "is"))
    is_thing = name.startswith("The ") or last.islower()
    unknown = is_person or is_plural or (pronouns - {"It"} and not is_thing)
    return "" if unknown else "It"


def _opening_pronoun(text: str) -> str:
    """Return the pronoun, as a subject, that opens a sentence or its main clause; else ""."""
    match = re.match(r"(?:[^,]{1,60}, )?(it|she|he|they|its|her|his|their)\b", text, re.IGNORECASE)
    pronoun = match[1].lower() if match else ""
    subjects = {"its": "it", "her": "she", "his": "he", "their": "they"}
    return subjects.get(pronoun, pronoun).capitalize()


def _refers_to(name: str, prose: Sequence[ProseSentence], openings: Sequence[str]) -> bool:
    """Return whether a pronoun opens the prose, or follows a sentence that opens with the name."""
    words = content_words(name)
    for index, pronoun in enumerate(openings):
        if not pronoun:
            continue
        before = prose[index - 1].text.split()[: len(name.split()) + 1] if index else []
        if index == 0 or (words and words <= content_words(" ".join(before))):
            return True
    return False


def tell_entity(entity: EntityText, request: Request, limit: int) -> list[str]:
    """Return the sentences about an entity, complete with their full stops.

    The prose comes first if it opens with the name or follows an opening, else the facts.
    """
    subject = entity.subject
    selection = choose_prose(entity.prose, subject.name, request.text, _prose_limit(entity, limit))
    opening = _opening(entity, request, selection)
    sentences = [opening] if opening else []
    if opening:
        subject = replace(subject, is_mentioned=True)
    names_subject = bool(selection) and _names(selection[0].text, subject.name or entity.heading)
    facts_first = entity.facts_first and bool(selection) and not names_subject
    prose = _prose_sentences(selection, subject)
    if facts_first:
        context = " ".join(prose)
        max_facts = max(1, limit - len(prose) - len(sentences))
        facts = list(_fact_sentences(entity, subject, context))[:max_facts]
        sentences += [*facts, *prose]
    else:
        # A fact after prose about something else would be taken for one of that.
        about = not selection or _is_about(selection[-1], subject.name)
        is_named = subject.is_mentioned or any(_names(text, subject.name) for text in prose)
        subject = replace(subject, is_mentioned=about and is_named)
        sentences += prose
        sentences += _fact_sentences(entity, subject, " ".join(sentences))
    return [_complete(text, entity.chinese) for text in sentences[:limit]]


def _prose_sentences(selection: Sequence[ProseSentence], subject: StorySubject) -> list[str]:
    """Return the sentences with the name for a pronoun whose antecedent is left out."""
    texts: list[str] = []
    previous = -2
    for sentence in selection:
        follows = sentence.position == previous + 1
        is_bare = (
            sentence.opens_with_pronoun
            and not follows
            and not (not texts and subject.is_mentioned and subject.pronoun)
        )
        texts.append(
            name_subject(sentence, subject.name) if is_bare and subject.name else sentence.text
        )
        previous = sentence.position
    return texts


def _names(text: str, name: str) -> bool:
    name = name.removeprefix("The ").casefold()
    return bool(name) and name in text.casefold()


def _prose_limit(entity: EntityText, limit: int) -> int:
    """Return how many sentences the prose may have, so that some are left for the facts."""
    fact_sentences = math.ceil(len(entity.facts) / 2)
    return max(1, limit - min(fact_sentences, limit // 2))


def _is_about(sentence: ProseSentence, name: str) -> bool:
    return sentence.opens_with_pronoun or _names(sentence.text, name)


def _opening(entity: EntityText, request: Request, selection: Sequence[ProseSentence]) -> str:
    """Return the sentence that names the subject; "" if another does."""
    subject, name = entity.subject, entity.subject.name
    if entity.heading and not (selection and _names(selection[0].text, entity.heading)):
        return (
            f"这里写的是“{entity.heading}”。"
            if entity.chinese
            else f'This entry is called "{entity.heading}".'
        )
    if subject.is_mentioned or not name:
        return ""
    is_named = bool(selection) and _names(selection[0].text, name)
    if is_named or (request.image is None and entity.facts):
        return ""
    if entity.chinese:
        return f"图中是{name}。" if request.image is not None else f"这里写的是{name}。"
    label = name[0].lower() + name[1:] if name.startswith("The ") else name
    return f"The picture shows {label}." if request.image is not None else f"This is about {label}."


def _definite(name: str, prose: Sequence[ProseSentence]) -> str:
    """Return a name with "The" if it ends in a common noun; as the prose writes it, if it does."""
    if is_chinese(name) or not name or not name.split()[-1].isalpha():
        return name
    if not name.split()[-1].islower() or "," in name:
        return name
    text = " ".join(sentence.text for sentence in prose)
    lowered = name[0].lower() + name[1:]
    return f"The {lowered if lowered in text else name}"


def _fact_sentences(entity: EntityText, subject: StorySubject, context: str) -> Iterator[str]:
    """Yield sentences with the facts that `context` lacks, two short ones in a sentence."""
    facts = [f for f in entity.facts if not _is_known(f, context)][:_MAX_FACTS]
    index = 0
    while index < len(facts):
        text = _sentence(facts[index], subject, entity.chinese)
        if not text:
            index += 1
            continue
        subject = replace(subject, is_mentioned=True)
        partner = facts[index + 1] if index + 1 < len(facts) else None
        shares = partner and all(_can_share(f, entity.chinese) for f in (facts[index], partner))
        if partner and shares and not (entity.chinese and is_predicate_key(partner.key)):
            second = _sentence(partner, subject, entity.chinese, with_subject=False)
            if second and not text.startswith(_QUOTED) and not second.startswith(_QUOTED):
                text = _joined(text, second, entity.chinese)
                index += 1
        yield text
        index += 1
    if not entity.chinese and (summary := yes_no_summary(facts)):
        yield summary


def _joined(first: str, second: str, chinese: bool) -> str:
    if chinese:
        return f"{first}，{second}"
    shared = re.match(r"(?:It|He|She) has (?=\d)", second)
    if shared and first.startswith(shared[0]):
        return f"{first} and {second[shared.end() :]}"
    return f"{first} and {second[0].lower()}{second[1:]}"


def _sentence(fact: Fact, subject: StorySubject, chinese: bool, with_subject: bool = True) -> str:
    if chinese:
        return chinese_fact_sentence(fact, subject, with_subject)
    if not with_subject and not subject.pronoun and subject.name:
        return ""
    return fact_sentence(fact, subject)


def _can_share(fact: Fact, chinese: bool) -> bool:
    """Return whether a fact is short enough to share its sentence with another."""
    kind = value_kind(fact.value)
    if chinese:
        return len(fact.value) <= _SHORT_CHINESE_VALUE and kind not in ("yes/no", "sentence")
    is_short = len(fact.value.split()) <= _SHORT_VALUE and "," not in fact.value
    return is_short and kind not in ("yes/no", "sentence") and is_noun_key(fact.key)


def _is_known(fact: Fact, context: str) -> bool:
    """Return whether a story already has the value of a fact, which is not very short."""
    value = fact.value.strip(" .。").casefold()
    is_long = len(value) >= 4 or (is_chinese(value) and len(value) >= 2)
    return (
        is_long and re.search(rf"(?<!\w){re.escape(value)}(?!\w)", context.casefold()) is not None
    )


def _complete(text: str, chinese: bool) -> str:
    """Return a text with a capital letter at the start and a full stop at the end."""
    stop = "。" if chinese and is_chinese(text) else "."
    ended = text.rstrip("\"'”’)）」』")[-1:] in tuple(".!?。！？…")
    return text[0].upper() + text[1:] + ("" if ended else stop)
