"""Prompts of models without a chat template: one line of text in the form of their training.

`PROMPT_FORMS` lists the model types whose form is documented."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ravlm.errors import InvalidInput
from ravlm.generation.base import Request, VerbName
from ravlm.generation.chat.prompts import DEFAULT_TEXTS, ChatTurn
from ravlm.generation.chat.special_tokens import SpecialTokens
from ravlm.records import CLOSED_BOOK


@dataclass(frozen=True)
class PromptForm:
    """How a model type is prompted."""

    questions: Mapping[VerbName, str]
    """The end of the prompt for each verb that the model was trained for. `{text}` is the text of
    the request, `{language}` en or zh."""
    history: tuple[str, str] | None = None
    """What stands before earlier messages of the user and of the model; None leaves them out."""
    image_token: str = ""
    """Stands first, for the image; empty if the processor writes it."""
    needs_image: bool = True
    """Whether the model reads exactly one image with every request; otherwise it reads none."""
    reads_evidence: bool = True
    """Whether a prompt may have other text than the question."""
    instructions: bool = False
    """Whether the model follows instructions in words."""
    context_length: int | None = None
    """Tokens of a prompt, where the configuration has no limit or one that is not the model's."""

    def adapt(self, request: Request, name: str, model_type: str) -> Request:
        """Return the request as the model `name` can read it.

        Raises InvalidInput for a verb that the model was not trained for, or a missing image."""
        question = self.questions.get(request.task)
        if question is None:
            raise InvalidInput(
                f'"{name}" is a "{model_type}" model, which can only {" and ".join(self.questions)}'
                ". Use another generator for other requests."
            )
        if self.needs_image and request.image is None:
            raise InvalidInput(
                f'"{name}" is a "{model_type}" model, which reads an image with every request. '
                "Give image=, or use another generator."
            )
        text = request.text or DEFAULT_TEXTS.get(request.task, "")
        language = "zh" if request.chinese else "en"
        return replace(
            request,
            text=question.format(text=text, language=language),
            evidence=request.evidence if self.reads_evidence else CLOSED_BOOK,
            messages=tuple(replace(m, image=None, more_images=()) for m in request.messages),
            more_images=(),
        )


_INSTRUCTED = PromptForm(
    questions={
        "ask": "{text}",
        "caption": "{text}",
        "tell": "{text}",
        "chat": "User: {text} Assistant:",
    },
    history=("User: ", "Assistant: "),
    needs_image=False,
    instructions=True,
    context_length=2048,  # relative positions; the length of Flan's training (arXiv:2301.13688)
)
_BLIP2 = PromptForm(
    # https://huggingface.co/docs/transformers/model_doc/blip-2, and arXiv:2301.12597, section 4
    questions={
        "ask": "Question: {text} Answer:",
        "caption": "a photo of",
        "tell": "Question: {text} Answer:",
        "chat": "Question: {text} Answer:",
    },
    history=("Question: ", "Answer: "),
)
PROMPT_FORMS: dict[str, PromptForm] = {
    "blip-2": _BLIP2,
    # The instructions of its training: arXiv:2305.06500, appendix E
    "instructblip": replace(
        _BLIP2,
        questions={
            "ask": "Question: {text} Short answer:",
            "caption": "A short image description.",
            "tell": "{text}",
            "chat": "Question: {text} Answer:",
        },
    ),
    # https://ai.google.dev/gemma/docs/paligemma/prompt-system-instructions
    "paligemma": PromptForm(
        questions={
            "ask": "answer {language} {text}",
            "caption": "caption {language}",
            "tell": "describe {language}",
            "chat": "answer {language} {text}",
        },
        image_token="<image>",  # noqa: S106
    ),
    # What its processor makes of <CAPTION> and <MORE_DETAILED_CAPTION>: arXiv:2311.06242
    "florence2": PromptForm(
        questions={
            "caption": "What does the image describe?",
            "tell": "Describe with a paragraph what is shown in the image.",
        },
        reads_evidence=False,
    ),
    # Flan-T5 and its like: instructions in plain text, arXiv:2210.11416
    "t5": _INSTRUCTED,
    "mt5": _INSTRUCTED,
    "umt5": _INSTRUCTED,
    "longt5": _INSTRUCTED,
    "switch_transformers": _INSTRUCTED,
}
"""`model_type` in a checkpoint's config.json -> its form."""


class PlainTemplate:
    """Renders turns in a prompt form; it takes the place of a chat template.

    No text can pass for a special token or an image."""

    opens_thought = False

    def __init__(self, form: PromptForm, special_tokens: SpecialTokens) -> None:
        self.form = form
        self._special_tokens = special_tokens

    def render(self, turns: Sequence[ChatTurn]) -> str:
        """Return the turns as one line, up to where the model's reply begins."""
        *earlier, last = turns
        pieces = [self.form.image_token] if last.images else []
        for turn in earlier:
            text = self._special_tokens.separate(turn.text)
            if turn.role == "system":
                pieces += [text] if self.form.instructions else []
            elif self.form.history is not None:
                pieces.append(self.form.history[turn.role == "assistant"] + text)
        pieces.append(self._special_tokens.separate(last.text))
        return " ".join(" ".join(pieces).split())
