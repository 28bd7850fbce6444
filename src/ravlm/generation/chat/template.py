"""A checkpoint's chat template: turns of text and images as the model was trained to read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from ravlm.errors import Mismatch
from ravlm.generation.chat.checkpoint import read_chat_template, special_tokens
from ravlm.generation.chat.prompt_forms import PROMPT_FORMS, PlainTemplate
from ravlm.generation.chat.prompts import ChatTurn
from ravlm.generation.chat.reply import opens_thought

_PROBE_WORDS = ("Aaa", "Bbb", "Ccc", "Ddd")
_PROBE = [
    ChatTurn("system", ("Aaa",)),
    ChatTurn("user", ("Bbb",)),
    ChatTurn("assistant", ("Ccc",)),
    ChatTurn("user", ("Ddd",)),
]


def read_template(
    tokenizer: Any, processor: Any, name: str, model_type: str
) -> ChatTemplate | PlainTemplate:
    """Return how a checkpoint is prompted: by its chat template, or in the form of its type.

    Raises Mismatch for a checkpoint without either, or with a template that cannot be used."""
    template = read_chat_template(processor, tokenizer)
    if template:
        return ChatTemplate(template, tokenizer, processor, name)
    form = PROMPT_FORMS.get(model_type)
    if form is not None:
        return PlainTemplate(form, special_tokens(tokenizer, processor))
    raise Mismatch(
        f'The checkpoint "{name}", a "{model_type}" model, has no chat template, and no other form '
        f"of its prompts is known. Use an instruction-tuned checkpoint (most names end in "
        "-Instruct or -it), put a chat_template.jinja into its folder, or use a model of one of "
        f"these types: {', '.join(PROMPT_FORMS)}."
    )


class ChatTemplate:
    """Renders turns. No text can pass for a special token or an image.

    `template` is in Jinja's language; `processor` is None for a model of text alone. Raises
    Mismatch for a template that fails or drops messages."""

    form = None
    """A chat template takes every request."""

    def __init__(self, template: str, tokenizer: Any, processor: Any, name: str) -> None:
        self._tokenizer = tokenizer
        self._name = name
        self._template = template
        self._special_tokens = special_tokens(tokenizer, processor)
        self._takes_system = True
        """Whether the template takes a system message; else its text goes before the user's."""
        self._takes_parts = processor is not None
        """Whether a message without images may be a list of parts."""
        self._find_format()
        self.opens_thought = opens_thought(self.render(_PROBE))
        """Whether prompts end inside the model's thoughts, so that a reply begins with them."""

    def render(self, turns: Sequence[ChatTurn]) -> str:
        """Return the turns as text, up to where the model's reply begins."""
        turns = list(turns)
        if turns and turns[0].role == "system" and not self._takes_system:
            system, first, *later = turns
            turns = [ChatTurn(first.role, (*system.parts, "\n\n", *first.parts)), *later]
        messages = [{"role": turn.role, "content": self._content(turn)} for turn in turns]
        try:
            return self._tokenizer.apply_chat_template(
                messages,
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise Mismatch(
                f'The chat template of "{self._name}" failed: {error}. Use a different checkpoint.'
            ) from None

    def _content(self, turn: ChatTurn) -> str | list[dict[str, str]]:
        if not self._takes_parts and not turn.images:
            return self._special_tokens.separate(turn.text)
        return [
            {"type": "text", "text": self._special_tokens.separate(part)}
            if isinstance(part, str)
            else {"type": "image"}
            for part in turn.parts
        ]

    def _find_format(self) -> None:
        """Find out whether the template takes a system message and lists of parts."""
        part_formats = (True, False) if self._takes_parts else (False,)
        for takes_system in (True, False):
            for takes_parts in part_formats:
                self._takes_system = takes_system
                self._takes_parts = takes_parts
                if self._renders_all():
                    return
        raise Mismatch(
            f'The chat template of "{self._name}" drops messages. Use a different checkpoint.'
        )

    def _renders_all(self) -> bool:
        try:
            text = self.render(_PROBE)
        except Mismatch:
            return False
        return all(word in text for word in _PROBE_WORDS) and "'type'" not in text
