"""What a chat checkpoint needs next to its weights: model class, processor, chat template."""

from __future__ import annotations

from typing import Any

from ravlm.errors import Mismatch
from ravlm.generation.chat.special_tokens import SpecialTokens


def auto_class(config: Any, name: str) -> Any:
    """Return the Transformers auto class that loads the model.

    It is for models of images and text, of text alone, or from text to text. Raises Mismatch for
    a model that does not generate text."""
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
        AutoModelForSeq2SeqLM,
    )

    for candidate in (AutoModelForImageTextToText, AutoModelForCausalLM, AutoModelForSeq2SeqLM):
        if type(config) in candidate._model_mapping:
            return candidate
    raise Mismatch(
        f'The checkpoint "{name}" is a "{config.model_type}" model, which cannot generate text. '
        "Expected an image-text-to-text, causal or text-to-text language model."
    )


def reads_images(config: Any) -> bool:
    """Return whether a model that generates text reads images, too."""
    from transformers import AutoModelForImageTextToText
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING

    return type(config) in AutoModelForImageTextToText._model_mapping or (
        type(config) in IMAGE_PROCESSOR_MAPPING  # Phi-4-multimodal is listed as a causal model
    )


def read_chat_template(processor: Any, tokenizer: Any) -> str:
    """Return the chat template; empty for a checkpoint that was not tuned for chat."""
    template = getattr(processor, "chat_template", None) or tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    return template or ""


def special_tokens(tokenizer: Any, processor: Any) -> SpecialTokens:
    """Return the tokens that no text may contain.

    They would end a turn, start another, or stand for an image."""
    added = tokenizer.added_tokens_decoder.values()
    tokens = {str(token) for token in added if token.special or _is_markup(str(token))}
    tokens |= set(tokenizer.all_special_tokens)
    for attribute in ("image_token", "video_token", "boi_token"):
        tokens.add(str(getattr(processor, attribute, None) or ""))
    return SpecialTokens(tokens)


def _is_markup(token: str) -> bool:
    """Return whether an added token is written like a special one: <tool_call>, [/THINK]."""
    return len(token) > 2 and (token[0] + token[-1]) in ("<>", "[]")
