"""What a message of a conversation is if it is no question: small talk, or a request for a caption
or a story."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

from ravlm.data.text import is_chinese, normalize_text
from ravlm.generation.citation_marks import remove_citations
from ravlm.records import Message

SmallTalkKind: TypeAlias = Literal[
    "greeting", "thanks", "farewell", "identity", "state", "approval"
]
CommandTask: TypeAlias = Literal["caption", "tell"]
_ADDRESSEE = (
    r"(?: (?:there|everyone|all|again|ravlm|friend|so much|very much|a lot|then|for .{2,30}))*"
)
_ENGLISH: dict[SmallTalkKind, str] = {
    "greeting": r"(?:hello|hi|hey|hiya|greetings|good (?:morning|afternoon|evening|day))"
    + _ADDRESSEE,
    "thanks": r"(?:ok(?:ay)? |great |perfect |cool )?(?:thanks|thank you|many thanks|thx|cheers|ty)"
    + _ADDRESSEE,
    "farewell": r"(?:good ?bye|bye(?: bye)?|see you(?: later| soon)?|good night|farewell)"
    + _ADDRESSEE,
    "identity": r"(?:who|what) are you|what can you do(?: for me)?|what(?: i|')s your name"
    r"|what do you do|how (?:do|does) (?:you|this) work|are you (?:a|an) (?:bot|robot|human|ai)"
    r"|help(?: me)?|introduce yourself|(?:can|could) you help(?: me)?",
    "state": r"how are you(?: doing)?(?: today)?|how(?: i|')s it going|what(?: i|')s up"
    r"|are you ok(?:ay)?",
    "approval": r"(?:ok|okay|great|nice|cool|good|perfect|wonderful|awesome|i see|got it|alright"
    r"|all right|well done|good job|sounds good|interesting|wow)",
}
_CHINESE: dict[SmallTalkKind, str] = {
    "greeting": r"(?:大家|你们?|您)好[呀啊]?|嗨|哈[喽啰罗]|喂|早(?:上好|安)?|(?:下午|晚上|中午)好",
    "thanks": r"(?:非常|十分|太|多)?(?:感谢|谢谢|多谢|谢了)(?:你|您|你们)?(?:了|啦|的帮助)?",
    "farewell": r"再见|拜拜|晚安|回头见|下次见",
    "identity": r"(?:请问)?(?:你|您)(?:是谁|叫什么(?:名字)?|是什么|能做(?:些)?什么|会(?:做)?什么"
    r"|有什么功能|是机器人吗|能帮(?:我|我什么)(?:吗)?)|(?:请)?介绍一下(?:你|您)?自己|帮助",
    "state": r"(?:你|您)(?:最近)?(?:好吗|怎么样|还好吗)|吃了吗",
    "approval": r"好的?(?:吧)?|不错|明白了?|知道了|了解|很好|太好了|真棒|厉害|可以|行|嗯",
}
_REPLIES: dict[SmallTalkKind, tuple[str, str]] = {
    "greeting": (
        "Hello! Ask me about the entries of the knowledge base, or send a picture.",
        "你好！可以问我知识库里的内容，也可以发一张图片。",
    ),
    "thanks": ("You're welcome.", "不客气。"),
    "farewell": ("Goodbye.", "再见。"),
    "identity": (
        "I answer questions from a knowledge base and cite its entries. I can also describe "
        "pictures and tell stories about them.",
        "我根据知识库回答问题，并注明出处；也可以描述图片、讲述图片的故事。",
    ),
    "state": (
        "I'm fine, thank you. What would you like to know?",
        "我很好，谢谢。你想了解什么？",
    ),
    "approval": ("What else would you like to know?", "还想了解什么？"),
}
_POLITE = (
    r"(?:(?:please|now|and|then|ok(?:ay)?|well|so),? )*(?:(?:can|could|would|will) you (?:please )?"
    r"|i(?: would|'d) like you to |i want you to |i want |let's hear )?(?:please )?"
)
_OBJECT = r"(?: to me| for me| us| me)?"
_STORY = re.compile(
    _POLITE
    + r"(?:(?:tell|write|give|make up|read|compose|create)"
    + _OBJECT
    + r" (?:a|an|the|another)"
    r" (?:(?:short|little|nice|brief|long) )*(?:story|tale|description|account|summary)"
    r"|(?:a |another |the )?(?:short )?(?:story|description)|describe|summari[sz]e"
    r"|tell me (?:more|everything|all|something)|narrate|introduce|what can you tell me)" + _OBJECT,
    re.IGNORECASE,
)
_TELL_ABOUT = re.compile(_POLITE + r"tell (?:me|us)(?= about\b)", re.IGNORECASE)
_CAPTION = re.compile(
    _POLITE + r"(?:(?:give|write|make|create|suggest)" + _OBJECT + r" (?:a|an|the) (?:short )?"
    r"(?:caption|title|headline)|caption|a caption)" + _OBJECT,
    re.IGNORECASE,
)
_COMMANDS: list[tuple[CommandTask, re.Pattern[str]]] = [
    ("caption", _CAPTION),
    ("tell", _STORY),
    ("tell", _TELL_ABOUT),
]
_ABOUT = re.compile(r"\s*(?:about|of|for|on|with|to)\b\s*", re.IGNORECASE)
_REFERENCE = re.compile(
    r"(?:it|this|that|him|her|them|these|those|its?elf|the same|what you see"
    r"|(?:the|this|that|my) (?:picture|image|photo|photograph|painting|scene))"
    r"(?:,? (?:please|again|in detail|briefly|in (?:one|a) sentence|in words|in your own words))*",
    re.IGNORECASE,
)
_CHINESE_POLITE = r"(?:请|麻烦|能不能|能否|可以|可否|你能|您能|帮我|给我|为我|再|来|那么?|，)*"
_CHINESE_STORY = re.compile(
    _CHINESE_POLITE
    + r"(?:(?:讲|说|写|编|来)(?:一?个|一?段|一下|讲)?(?P<of>.{0,14}?)的?(?:小?故事|描述|简介)"
    r"|描述(?:一下)?|介绍(?:一下)?|讲讲|说说|概括(?:一下)?|总结(?:一下)?)"
)
_CHINESE_CAPTION = re.compile(
    _CHINESE_POLITE + r"(?:给|为)?(?P<of>.{0,8}?)(?:写|起|取|加|配|来)(?:一?个|一?句|一?段)?"
    r"(?:标题|图片?说明|说明文字|配文|题目)"
)
_CHINESE_COMMANDS: list[tuple[CommandTask, re.Pattern[str]]] = [
    ("caption", _CHINESE_CAPTION),
    ("tell", _CHINESE_STORY),
]
_CHINESE_REFERENCE = re.compile(
    r"(?:关于)?(?:[它他她]们?|这个|这些|那个|这|那|该|此)?"
    r"(?:一?[张幅]?(?:图片?|照片|图像|画))?(?:里的?内容)?(?:吧|吗|呢)?"
)
_QUESTION = re.compile(
    r"(?:how|what|who|whom|whose|when|where|why|which|whether|if)\b|.*(?:谁|什么|吗|多少|哪|几|怎么)",
    re.IGNORECASE,
)
_PLEASE = re.compile(r"(?:^|,? )please$", re.IGNORECASE)
_PICTURE = re.compile(r"\b(?:picture|image|photo|photograph)s?\b|图|照片|画面", re.IGNORECASE)
_MAX_SMALL_TALK, _MAX_COMMAND = 60, 300
"""Characters; longer messages are questions."""
_MAYBE_NAME = re.compile(r"[A-Z][^.!?:]{1,40}|[\u4e00-\u9fff][^。！？：，\d]{1,15}")
"""An answer that may be the name of the next question's subject."""
_END = " .!?。！？~～,，;；"


class ChatCommand(NamedTuple):
    """A caption or a story that a message asks for."""

    task: CommandTask
    topic: str
    """What it should be about, in the words of the message; "" for the subject so far."""


def small_talk_kind(text: str) -> SmallTalkKind | None:
    """Return what kind of small talk a message is; None if it is anything else.

    >>> small_talk_kind("Thanks a lot!"), small_talk_kind("Hello, how old is the Vasa?")
    ('thanks', None)
    """
    if len(text) > _MAX_SMALL_TALK:
        return None
    normalized = normalize_text(text).strip(_END).casefold()
    chinese = is_chinese(normalized)
    patterns = _CHINESE if chinese else _ENGLISH
    plain = ("" if chinese else " ").join(re.split(r"[\s,，]+", normalized))
    kinds = (kind for kind, pattern in patterns.items() if re.fullmatch(pattern, plain))
    return next(kinds, None)


def small_talk_reply(kind: SmallTalkKind, chinese: bool) -> str:
    """Return the reply to small talk."""
    return _REPLIES[kind][chinese]


def read_command(text: str) -> ChatCommand | None:
    """Return the caption or story that a message asks for; None for a question.

    >>> read_command("Tell me a story about it"), read_command("Describe the Vasa, please")
    (ChatCommand(task='tell', topic=''), ChatCommand(task='tell', topic='the Vasa'))
    """
    if len(text) > _MAX_COMMAND:
        return None
    plain = normalize_text(text).strip(_END)
    if is_chinese(plain):
        return _read_chinese(plain)
    for task, pattern in _COMMANDS:
        match = pattern.match(plain)
        if match is None or plain[match.end() : match.end() + 1].isalnum():
            continue
        remainder = plain[match.end() :].strip(_END)
        about = _ABOUT.match(remainder)
        if about:
            remainder = remainder[about.end() :]
        remainder = _PLEASE.sub("", remainder)
        if _QUESTION.match(remainder) and not _REFERENCE.fullmatch(remainder):
            return None
        topic = "" if not remainder or _REFERENCE.fullmatch(remainder) else remainder
        return ChatCommand(task, topic)
    return None


def _read_chinese(text: str) -> ChatCommand | None:
    for task, pattern in _CHINESE_COMMANDS:
        match = pattern.match(text)
        if match is None:
            continue
        inner = (match.groupdict().get("of") or "").removeprefix("关于").strip()
        remainder = text[match.end() :].strip(_END)
        if _QUESTION.match(remainder):
            return None
        topic = inner if not remainder or _CHINESE_REFERENCE.fullmatch(remainder) else remainder
        if _CHINESE_REFERENCE.fullmatch(topic):
            topic = ""
        return ChatCommand(task, topic.removesuffix("吧"))
    return None


def turns_of_subject(messages: Sequence[Message], is_separate: bool) -> tuple[str, ...]:
    """Return the texts before the last message that may name its subject, the least likely first.

    They are the user's turns since the last image, or all turns if the image came separately
    (`is_separate`), or if there is none. Before each stands its answer, if that may be a name: what
    the user named goes before what the answer named. If the last message speaks of the picture, the
    picture is the subject.
    """
    if messages[-1].images:
        return ()
    starts = [index for index, message in enumerate(messages) if message.images]
    if (is_separate or starts) and _PICTURE.search(messages[-1].text):
        return ()
    start = starts[-1] + 1 if starts and not is_separate else 0
    turns: list[str] = []
    for index in range(start, len(messages) - 1):
        message, reply = messages[index], messages[index + 1]
        if message.role != "user" or not message.text.strip():
            continue
        answer = remove_citations(reply.text).strip() if reply.role == "assistant" else ""
        if _MAYBE_NAME.fullmatch(answer):
            turns.append(answer)
        turns.append(message.text)
    return tuple(turns)
