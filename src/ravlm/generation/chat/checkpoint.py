"""What a chat checkpoint needs next to its weights: model class, processor, chat template."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from ravlm.checkpoint import read_json_object
from ravlm.encoders.transformers_io import read_part
from ravlm.errors import BrokenData, Mismatch
from ravlm.generation.chat.special_tokens import SpecialTokens

_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
"""Files that may name the processor's class."""


def auto_class(config: Any, name: str) -> Any:
    """Return the Transformers auto class that loads the model.

    It is for models of images and text, or of text alone. Raises Mismatch for a model that does
    not generate text."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    for candidate in (AutoModelForImageTextToText, AutoModelForCausalLM):
        if type(config) in candidate._model_mapping:
            return candidate
    raise Mismatch(
        f'The checkpoint "{name}" is a "{config.model_type}" model, which cannot generate text. '
        "Expected an image-text-to-text or causal language model."
    )


def read_processor(folder: Path, name: str, config: Any) -> Any:
    """Read the checkpoint's processor on Pillow, without its video part, which needs torchvision.

    Raises Mismatch for a checkpoint without a processor that Transformers knows."""
    processor_class = _processor_class(folder, name, config)
    attributes = processor_class.get_attributes()
    if "video_processor" not in attributes:
        return read_part(processor_class.from_pretrained, folder, name, "processor", backend="pil")
    without_video = [attribute for attribute in attributes if attribute != "video_processor"]
    image_class: Any = type(
        processor_class.__name__,
        (processor_class,),
        {"get_attributes": classmethod(lambda cls: without_video)},
    )
    parameter = inspect.signature(processor_class.__init__).parameters["video_processor"]
    is_required = parameter.default is inspect.Parameter.empty
    options = {"video_processor": None} if is_required else {}
    return read_part(
        image_class.from_pretrained, folder, name, "processor", backend="pil", **options
    )


def _processor_class(folder: Path, name: str, config: Any) -> Any:
    from transformers.models.auto.processing_auto import (
        PROCESSOR_MAPPING,
        processor_class_from_name,
    )

    class_names = (_read_class_name(folder / file) for file in _PROCESSOR_FILES)
    class_name = next((class_name for class_name in class_names if class_name), None)
    if class_name:
        processor_class = processor_class_from_name(class_name)
    else:
        processor_class = PROCESSOR_MAPPING.get(type(config), None)
    if processor_class is None:
        raise Mismatch(
            f'The checkpoint "{name}" has no processor that Transformers knows (it names '
            f"{class_name or 'none'}). Update Transformers, or use a different checkpoint."
        )
    return processor_class


def read_chat_template(processor: Any, tokenizer: Any, name: str) -> str:
    """Return the chat template. Raises Mismatch for a checkpoint that was not tuned for chat."""
    template = getattr(processor, "chat_template", None) or tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if not template:
        raise Mismatch(
            f'The checkpoint "{name}" has no chat template, so it was not tuned for chat. Use an '
            "instruction-tuned checkpoint (most names end in -Instruct), or put a "
            "chat_template.jinja into its folder."
        )
    return template


def special_tokens(tokenizer: Any, processor: Any) -> SpecialTokens:
    """Return the tokens that no text may contain.

    They would end a turn, start another, or stand for an image."""
    added = tokenizer.added_tokens_decoder.values()
    tokens = {str(token) for token in added if token.special or _is_markup(str(token))}
    tokens |= set(tokenizer.all_special_tokens)
    for attribute in ("image_token", "video_token", "boi_token"):
        tokens.add(getattr(processor, attribute, None) or "")
    return SpecialTokens(tokens)


def _is_markup(token: str) -> bool:
    """Return whether an added token is written like a special one: <tool_call>, [/THINK]."""
    return len(token) > 2 and (token[0] + token[-1]) in ("<>", "[]")


def _read_class_name(path: Path) -> str | None:
    try:
        name = read_json_object(path).get("processor_class")
    except BrokenData:
        return None
    return name if isinstance(name, str) else None
