"""Recognize sentences in which a chat model says that the evidence has no answer.

Models are asked for one fixed sentence, and write others. Only sentences about the evidence itself
count: "The sign does not mention a price" is an answer."""

from __future__ import annotations

import re

from ravlm.data.text import split_sentences

_EVIDENCE = (
    r"(?:(?:the|any|this|these|provided|given|available|supplied|retrieved|above|of|your)\s+){0,3}"
    r"(?:(?:evidence|knowledge[\s-]base|context|entry|entries|excerpts?)"
    r"(?:\s+(?:provided|given|available|above))?|"
    r"(?:provided|given|available|supplied|retrieved)\s+"
    r"(?:information|data|texts?|documents?|passages?|sources?|materials?|results?))"
)
_NOT = r"(?:do(?:es)?|did|is|are|was|were)(?:\s+not|n['’]t)"
_VERBS = (
    r"(?:(?:explicitly|directly|specifically|clearly|actually|seem\s+to|appear\s+to|have\s+to)\s+)?"
    r"(?:mention|contain|provide|include|say|state|specify|give|have|list|describe|answer|tell|"
    r"reveal|indicate|cover|discuss|offer|address|support|identify|name)"
)
_NOTHING = r"no\s+(?:\w+\s+){0,2}(?:information|mention|evidence|details?|data|answer|record)"
_ENGLISH = (
    r"(?:not|n['’]t) in the knowledge base",
    rf"{_EVIDENCE}\s+(?:is|are)\s+(?:not\s+(?:sufficient|enough)|insufficient)",
    rf"\b(?:based\s+on|according\s+to|from|in)\s+{_EVIDENCE},?\s+there\s+is\s+{_NOTHING}",
    rf"{_EVIDENCE}\s+{_NOT}\s+{_VERBS}",
    rf"{_EVIDENCE}\s+(?:has|have|contains?|provides?|includes?|gives?|makes?)\s+{_NOTHING}",
    rf"\b{_NOTHING}\b[^.!?]{{0,80}}\b(?:in|from|within)\s+{_EVIDENCE}",
    rf"\b(?:not|n['’]t)\s+(?:\w+\s+){{0,2}}(?:mentioned|stated|specified|provided|given|found|"
    rf"included|described|listed|available|covered|indicated)\s+(?:anywhere\s+)?(?:in|by|within)\s+"
    rf"{_EVIDENCE}",
    rf"\b(?:cannot|can\s?not|can['’]t|could\s?n[o'’]t|unable\s+to|not\s+(?:able|possible)\s+to)\s+"
    rf"(?:be\s+)?(?:answer|determine|tell|say|identify|find|provide|confirm)[^.!?]{{0,80}}"
    rf"\b(?:from|on|in|with|using)\s+{_EVIDENCE}",
    r"^(?:i['’]?m sorry[,.]?\s+(?:but\s+)?|sorry[,.]?\s+(?:but\s+)?|unfortunately,?\s+)?i\s+"
    r"(?:do\s+not|don['’]t)\s+know(?:\s+(?:the\s+answer|that))?\s*[.!]?$",
    r"\bi\s+(?:cannot|can\s?not|can['’]t|am\s+unable\s+to|['’]m\s+unable\s+to)\s+answer\s+"
    r"(?:this|that|the|your)\s+question",
    r"\bi\s+(?:do\s+not|don['’]t)\s+have\s+(?:enough|sufficient|any|the)\s+information",
)
_SOURCE = (
    r"(?:证据|知识库|条目|(?:所|已)?(?:提供|给出|检索)(?:到)?的(?:信息|资料|证据|内容|文本|材料|条目)"
    r"|上述(?:信息|资料|内容)|资料|參考資料|参考资料)"
)
_CHINESE = (
    r"(?:知识库|知識庫)(?:中|里|裡)?(?:没有|沒有|未|并未|并没有|不包含|找不到)",
    rf"{_SOURCE}(?:之?中|里|内)?(?:都|也|并)?(?:没有|未能?|未曾|不曾|无|缺乏|不包含)"
    r"(?:明确|具体|直接|相关)?(?:提到|提及|提供|说明|包含|给出|涉及|记载|描述|显示|找到|相关|关于|信息|内容)",
    rf"{_SOURCE}[^。！？]{{0,12}}(?:无法|不能|没法)(?:确定|判断|回答|得知|知道|推断|找到)",
    r"^(?:很?抱歉|对不起|不好意思)?[，,]?\s*(?:我)?(?:无法|不能|没法)回答(?:这个|该|您的|你的)?问题",
    r"^(?:很?抱歉|对不起|不好意思)?[，,]?\s*我?不知道[。！]?$",
)
_ABSENT = re.compile("|".join((*_ENGLISH, *_CHINESE)), re.IGNORECASE)
_CONTRAST = re.compile(
    r"\b(?:but|however|though|although|only|except|instead)\b|但|不过|然而|只(?:有|是|提)",
    re.IGNORECASE,
)
_APOLOGY = re.compile(
    r"^\W*(?:i['’]?m\s+(?:very\s+|so\s+)?sorry|i\s+apologi[sz]e|sorry|unfortunately|很?抱歉|对不起)\W*$",
    re.IGNORECASE,
)


def says_absent(sentence: str) -> bool:
    """Return whether a sentence says that the evidence has no answer, and nothing else.

    >>> says_absent("I'm sorry, but the evidence doesn't mention its weight.")
    True
    >>> says_absent("The evidence does not mention its weight, but it is small.")
    False
    """
    match = _ABSENT.search(sentence.strip())
    return match is not None and _CONTRAST.search(sentence.strip(), match.end()) is None


def opens_with_refusal(text: str) -> bool:
    """Return whether the first sentence of a text, after an apology, says that the evidence has no
    answer."""
    sentences = [s for s in split_sentences(text) if s.strip() and not _APOLOGY.match(s)]
    return bool(sentences) and says_absent(sentences[0])
