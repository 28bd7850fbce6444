"""Conversations over cards: questions, follow-ups by pronoun, small talk, what is not there."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from ravlm.generation.base import ABSENT, Request
from ravlm.records import Evidence, Message
from ravlm.training.chat_examples import ChatExample
from recipes.grounded_dialogs.example import make_evidence, mark
from recipes.grounded_dialogs.narration import Narrator
from recipes.grounded_dialogs.questions import CardQuestions
from recipes.grounded_dialogs.things import Fact, World
from recipes.grounded_dialogs.words import join_sentences, lower_first

_TURNS = {
    "fact": 0.48,
    "more": 0.13,
    "one_sentence": 0.1,
    "absent": 0.13,
    "other": 0.1,
    "thanks": 0.06,
}
_GREETINGS = {
    False: (
        ("hi", "Hello! What would you like to know?"),
        ("Hi!", "Hi! Ask me anything about the knowledge base."),
        ("Hello", "Hello! How can I help you?"),
        ("good morning", "Good morning! What would you like to know?"),
        ("hey there", "Hello! What are you looking for?"),
        ("Hello, how are you?", "I'm fine, thank you. What would you like to know?"),
        ("Who are you?", "I answer questions from a knowledge base. What would you like to know?"),
        ("What can you do?", "I can tell you what the knowledge base has, and describe pictures."),
        ("Can you help me?", "Of course. What would you like to know?"),
    ),
    True: (
        ("你好", "你好！你想知道什么？"),
        ("您好！", "您好！有什么可以帮您？"),
        ("嗨", "你好！想了解点什么？"),
        ("早上好", "早上好！你想知道什么？"),
        ("你是谁？", "我根据知识库回答问题。你想知道什么？"),
        ("你能做什么？", "我可以讲讲知识库里的内容，也可以描述图片。"),
        ("在吗？", "在的，请问有什么想问的？"),
        ("最近好吗？", "很好，谢谢！你想知道什么？"),
    ),
}
_THANKS = {
    False: (
        ("thanks", "You're welcome!"),
        ("Thank you!", "You're welcome! Is there anything else?"),
        ("great, thanks a lot", "You're welcome!"),
        ("ok", "Is there anything else you would like to know?"),
        ("Nice.", "Is there anything else you would like to know?"),
        ("bye", "Goodbye!"),
        ("That's all, thank you. Goodbye!", "Goodbye, and come back any time!"),
        ("Very interesting!", "Just ask if you want to know more."),
    ),
    True: (
        ("谢谢", "不客气！"),
        ("谢谢你！", "不客气！还有别的问题吗？"),
        ("好的，明白了", "还有什么想知道的吗？"),
        ("太好了，多谢", "不客气！"),
        ("再见", "再见！"),
        ("真有意思！", "想了解更多的话，请继续问。"),
        ("嗯", "还有什么想知道的吗？"),
    ),
}
_MORE = {
    False: (
        "tell me more",
        "Tell me more about {o}.",
        "What else do you know about {o}?",
        "Anything else?",
        "more, please",
        "Go on.",
        "And what else?",
        "Can you say more about {n}?",
    ),
    True: (
        "再说说",
        "还有呢？",
        "多讲一点",
        "关于{o}还知道什么？",
        "继续",
        "还有别的吗？",
        "再介绍一下{n}。",
    ),
}
_ONE_SENTENCE = {
    False: (
        "describe {o} in one sentence",
        "Describe {n} in one sentence.",
        "In one sentence, please: what is {n}?",
        "Sum {o} up in one sentence.",
        "Give me one sentence about {n}.",
        "short description of {n}, please",
    ),
    True: ("用一句话介绍{o}。", "一句话概括一下{n}。", "请用一句话描述{n}。", "用一句话说说{o}"),
}
_ONE_SENTENCE_PERSON = (
    "describe {o} in one sentence",
    "Who is {n}, in one sentence?",
    "Give me one sentence about {n}.",
    "Introduce {n} in one sentence.",
)
_OTHER = {
    False: ("And {n}?", "What about {n}?", "and for {n}?", "How about {n}?", "The same for {n}?"),
    True: ("那{n}呢？", "{n}呢？", "换成{n}呢？"),
}
_FIRST = {
    False: ("Tell me about {n}.", "What do you know about {n}?", "I'm interested in {n}.", "{n}?"),
    True: ("讲讲{n}。", "你知道{n}吗？", "我想了解{n}。", "{n}？"),
}
_LEADS = {
    False: ("", "", "", "And ", "Okay. ", "I see. ", "One more question. "),
    True: ("", "", "", "那么，", "请问，", "再问一下，"),
}
_ASKING = ("Wh", "How", "In ", "Is ", "Does ", "Was ", "Do ", "Can ")
_SYSTEM = {
    False: (
        "You are a friendly museum guide.",
        "Answer briefly.",
        "You help the visitors of a catalog.",
        "Be polite and stay with the facts.",
        "You are the assistant of a small library.",
        "Keep your answers short and clear.",
    ),
    True: ("你是一位友好的讲解员。", "请简短回答。", "你是资料室的助手。", "请礼貌并如实回答。"),
}


def chat_examples(rng: random.Random, count: int, chinese_share: float = 0.3) -> list[ChatExample]:
    """Make conversations of one to six questions; the reply to the last one is learned."""
    makers = {
        chinese: CardQuestions(World("zh" if chinese else "en", rng)) for chinese in (False, True)
    }
    return [_Conversation(makers[rng.random() < chinese_share]).example() for _ in range(count)]


@dataclass
class _Conversation:
    """The turns so far, and the facts of `thing` that none of them has (`unused_facts`)."""

    cards: CardQuestions
    messages: list[Message] = field(default_factory=list)
    is_known: bool = False
    """Whether the user has named the thing."""
    last: Fact | None = None

    def __post_init__(self) -> None:
        world, rng = self.cards.world, self.cards.world.rng
        self.rng, self.chinese = rng, world.chinese
        thing = world.thing(rng.randint(5, 8))
        while len(thing.facts) < 4:
            thing = world.thing(rng.randint(5, 8))
        hidden = rng.choice(thing.facts)
        self.hidden: list[Fact] = [hidden]
        self.thing = thing
        others = [world.twin(thing) for _ in range(rng.choice((0, 0, 1, 1, 2)))]
        self.things = [thing, *(t for t in others if t.name != thing.name)]
        self.texts = self.cards.evidence_texts(self.things, hidden=hidden)
        self.order = rng.sample(range(len(self.texts)), len(self.texts))
        self.unused_facts = [
            f for f in rng.sample(thing.facts, len(thing.facts)) if f is not hidden
        ]

    def example(self) -> ChatExample:
        """Hold a conversation and return it with its last reply."""
        rng = self.rng
        if rng.random() < 0.15:
            self.messages.append(Message("system", rng.choice(_SYSTEM[self.chinese])))
        num_turns = rng.randint(2, 6) if rng.random() < 0.85 else 1
        has_evidence = True
        for turn in range(num_turns):
            question, sentences, thing_index, has_evidence = self._turn(turn)
            self.messages.append(Message("user", question))
            if turn < num_turns - 1:
                marks = mark(self.chinese, 1) if thing_index >= 0 and rng.random() < 0.7 else ""
                self.messages.append(Message("assistant", self._reply(sentences, marks)))
        marks = ""
        if thing_index >= 0:
            marks = mark(self.chinese, self.order.index(thing_index) + 1)
        evidence = make_evidence([self.texts[i] for i in self.order], rng)
        if not has_evidence and rng.random() < 0.5:  # small talk leads to no entries
            evidence = Evidence()
        request = Request(
            "chat",
            self.messages[-1].text,
            evidence=evidence,
            messages=tuple(self.messages),
            chinese=self.chinese,
        )
        return ChatExample(request, (self._reply(sentences, marks),))

    def _reply(self, sentences: Sequence[str], marks: str) -> str:
        return join_sentences((sentence + marks for sentence in sentences), self.chinese)

    def _turn(self, turn: int) -> tuple[str, list[str], int, bool]:
        """Return a question, the sentences of its reply, the index of the cited text (-1: none),
        and whether it asks for something that can be in the evidence."""
        rng = self.rng
        if turn == 0 and rng.random() < 0.2:
            question, reply = rng.choice(_GREETINGS[self.chinese])
            return question, [reply], -1, False
        if not self.is_known:
            return self._first()
        kind = rng.choices(list(_TURNS), list(_TURNS.values()))[0]
        if kind == "thanks":
            question, reply = rng.choice(_THANKS[self.chinese])
            return question, [reply], -1, False
        if kind == "more" and len(self.unused_facts) >= 2:
            facts = self._take(rng.randint(2, 4))
            narrator = self._narrator(mentioned=rng.random() < 0.7)
            reply_sentences = narrator.tell(facts, max(1, len(facts) - rng.randint(0, 1)))
            return self._with_names(rng.choice(_MORE[self.chinese])), reply_sentences, 0, True
        if kind == "one_sentence":
            return self._one_sentence()
        if kind == "absent" and self.hidden:
            question = self._with_lead(
                self.cards.question(self.hidden[0], self._reference(), self.thing, by_key=True)
            )
            return question, [ABSENT[self.chinese]], -1, True
        if kind == "other" and len(self.things) > 1 and self.last is not None:
            return self._other()
        return self._fact(self._reference())

    def _first(self) -> tuple[str, list[str], int, bool]:
        """Return the turn that names the thing."""
        self.is_known = True
        if self.rng.random() < 0.65:
            return self._fact(self.thing.name)
        facts = self._take(self.rng.randint(2, 3)) or self._used_facts()
        sentences = self._narrator(mentioned=False).tell(facts, self.rng.randint(1, len(facts)))
        return self._with_names(self.rng.choice(_FIRST[self.chinese])), sentences, 0, True

    def _fact(self, reference: str) -> tuple[str, list[str], int, bool]:
        fact = self._take(1)[0] if self.unused_facts else self.rng.choice(self._used_facts())
        self.last = fact
        question = self.cards.question(fact, reference, self.thing)
        if reference != self.thing.name:
            question = self._with_lead(question)
        if fact.kind.kind == "boolean":
            return question, [self.cards.yes_no_reply(self.thing, fact)], 0, True
        return question, [self.cards.sentence(self.thing, fact)], 0, True

    def _one_sentence(self) -> tuple[str, list[str], int, bool]:
        facts = [f for f in self.thing.facts if f not in self.hidden]
        chosen = self.rng.sample(facts, min(2, len(facts)))
        patterns: Sequence[str] = _ONE_SENTENCE[self.chinese]
        if self.thing.type == "p" and not self.chinese:
            patterns = _ONE_SENTENCE_PERSON
        sentence = self._narrator(mentioned=False).tell(chosen, 1)
        return self._with_names(self.rng.choice(patterns)), sentence, 0, True

    def _other(self) -> tuple[str, list[str], int, bool]:
        """Return "And Velgar?": the last fact of another thing."""
        assert self.last is not None
        index = self.rng.randrange(1, len(self.things))
        other = self.things[index]
        fact = other.facts[self.thing.facts.index(self.last)]
        question = self.rng.choice(_OTHER[self.chinese]).replace("{n}", other.name)
        sentence = self.cards.sentence(other, fact, by_pronoun=False)
        self.is_known = False  # "it" would be the other thing now
        return question, [sentence], index, True

    def _used_facts(self) -> list[Fact]:
        return [f for f in self.thing.facts if f not in self.hidden and f not in self.unused_facts]

    def _take(self, count: int) -> list[Fact]:
        facts, self.unused_facts = self.unused_facts[:count], self.unused_facts[count:]
        return facts

    def _narrator(self, mentioned: bool) -> Narrator:
        return Narrator(self.cards.world, self.thing, mentioned=mentioned, is_plain=True)

    def _reference(self) -> str:
        return self.thing.pronouns[0] if self.rng.random() < 0.75 else self.thing.name

    def _with_lead(self, question: str) -> str:
        """Return a question with a few words before it now and then."""
        lead = self.rng.choice(_LEADS[self.chinese])
        if self.chinese:
            return question if question.startswith(("请", "告诉")) else lead + question
        if lead == "And ":
            return f"And {lower_first(question)}" if question.startswith(_ASKING) else question
        return lead + question

    def _with_names(self, pattern: str) -> str:
        text = pattern.replace("{n}", self.thing.name)
        return text.replace("{o}", self.thing.pronouns[2])
