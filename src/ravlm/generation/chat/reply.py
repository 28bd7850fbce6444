"""How a chat model's reply ended: thoughts before the answer, limits, filters and refusals."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAMES = ("think", "thinking", "reasoning")
THOUGHT_STARTS = (*(f"<{name}>" for name in _NAMES), "[THINK]")
THOUGHT_ENDS = (*(f"</{name}>" for name in _NAMES), "[/THINK]")
"""Marks around the thoughts that some models write before their answer."""
THOUGHT_START = re.compile("|".join(map(re.escape, THOUGHT_STARTS)))
THOUGHT_END = re.compile("|".join(map(re.escape, THOUGHT_ENDS)))
_REASONS = {"max_tokens": "length", "model_length": "length", "safety": "content_filter"}
"""Other names of finish reasons, and the OpenAI API's."""
_CUT_REASONS = ("length", "content_filter")
_MISSING_ANSWERS = {
    "thoughts, length": (
        "The model used up its {limit}tokens for thinking and wrote no answer. "
        "Allow more tokens (max_tokens).",
        "模型在思考阶段用完了 {limit}个词元，没有写出回答；请提高上限（max_tokens）。",
    ),
    "length": (
        "The model used up its {limit}tokens before it wrote an answer. "
        "Allow more tokens (max_tokens).",
        "模型用完了 {limit}个词元，没有写出回答；请提高上限（max_tokens）。",
    ),
    "thoughts, stop": (
        "The model wrote its reasoning but no answer. Ask again.",
        "模型只给出了思考过程，没有写出回答；请再问一次。",
    ),
    "content_filter": (
        "The content filter of the model stopped the answer.",
        "模型的内容过滤器拦截了这个回答。",
    ),
}
"""Finish reason -> the sentence in English and in Chinese."""
_OTHER_REASON = (
    'The model wrote no answer (finish reason "{reason}").',
    "模型没有写出回答（结束原因：{reason}）。",
)


@dataclass(frozen=True)
class ReplyEnd:
    """How a reply ended."""

    finish_reason: str = "stop"
    """As in the OpenAI API: stop, length, content_filter ..."""
    max_tokens: int = 0
    """The limit of the reply; 0 if unknown."""
    has_reasoning: bool = False
    """Whether the model sent thoughts apart from its answer."""
    refusal: str = ""
    """The sentence in which the model declined."""

    @property
    def is_cut(self) -> bool:
        """Whether the text may lack its end."""
        return self.finish_reason in _CUT_REASONS


def standard_reason(reason: str) -> str:
    """Return a finish reason under its name in the OpenAI API."""
    return _REASONS.get(reason.lower(), reason.lower())


def opens_thought(prompt: str) -> bool:
    """Return whether a prompt ends with the start of a thought, so that the reply has none."""
    return prompt.rstrip().endswith(THOUGHT_STARTS)


def partial_mark_length(text: str, marks: tuple[str, ...]) -> int:
    """Return how many characters at the end of `text` may be the beginning of a mark.

    >>> partial_mark_length("330 m </thi", THOUGHT_ENDS)
    5
    """
    longest = max(map(len, marks)) - 1
    for length in range(min(len(text), longest), 0, -1):
        if any(mark.startswith(text[-length:]) for mark in marks):
            return length
    return 0


def missing_answer_text(end: ReplyEnd, has_thoughts: bool, chinese: bool) -> str:
    """Return a sentence that says why a reply has no answer; empty if nothing is known."""
    if end.refusal:
        return end.refusal
    reason = end.finish_reason
    if has_thoughts and reason in ("stop", "length"):
        reason = f"thoughts, {reason}"
    default = _OTHER_REASON if reason not in ("stop", "") else ("", "")
    english_and_chinese = _MISSING_ANSWERS.get(reason, default)
    limit = f"{end.max_tokens:,} " if end.max_tokens else ""
    return english_and_chinese[chinese].format(limit=limit, reason=reason)
