"""What a checkpoint that talks needs beside its weights: which kind it is, its processor, its chat
template.

Knows no model in hand.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

from ravlm.encoders.clip import read_part
from ravlm.errors import Mismatch

_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
"""Where the name of the processor's class may stand."""


def model_kind(config: Any, name: str) -> Any:
    """The auto class of Transformers that makes the model: it reads pictures and words, or words
    alone. Raises Mismatch where it does not write."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    for kind in (AutoModelForImageTextToText, AutoModelForCausalLM):
        if type(config) in kind._model_mapping:
            return kind
    raise Mismatch(
        f'The checkpoint "{name}" is of the kind "{config.model_type}", which writes no text; a generator needs an '
        "image-text-to-text model or a language model of Transformers."
    )


def read_processor(folder: Path, name: str, config: Any) -> Any:
    """The checkpoint's processor on Pillow, without the part for videos, which would need
    torchvision."""
    from transformers.models.auto.processing_auto import (
        PROCESSOR_MAPPING,
        processor_class_from_name,
    )

    named = next(
        (found for file in _PROCESSOR_FILES if (found := _class_name(folder / file))), None
    )
    whole: Any = (
        processor_class_from_name(named) if named else PROCESSOR_MAPPING.get(type(config), None)
    )
    if whole is None:
        raise Mismatch(
            f'The checkpoint "{name}" names no processor that Transformers knows ({named or "none"}).'
        )
    if "video_processor" not in whole.get_attributes():
        return read_part(whole.from_pretrained, folder, name, "processor", backend="pil")

    parts = [part for part in whole.get_attributes() if part != "video_processor"]
    without: Any = type(
        whole.__name__, (whole,), {"get_attributes": classmethod(lambda cls: parts)}
    )
    must = (
        inspect.signature(whole.__init__).parameters["video_processor"].default
        is inspect.Parameter.empty
    )
    none = {"video_processor": None} if must else {}
    return read_part(without.from_pretrained, folder, name, "processor", backend="pil", **none)


def chat_template(processor: Any, tokenizer: Any, name: str) -> str:
    """How turns are written for the model. Raises Mismatch where it was not taught to talk."""
    found = getattr(processor, "chat_template", None) or tokenizer.chat_template
    if isinstance(found, dict):
        found = found.get("default")
    if not found:
        raise Mismatch(
            f'The checkpoint "{name}" has no chat template, so it was not tuned to answer and talk; a generator needs '
            "one that was (their names mostly end in -Instruct), or a chat_template.jinja in its folder."
        )
    return found


def control_tokens(tokenizer: Any, processor: Any) -> re.Pattern[str]:
    """What no text may hold: it would end a turn, begin another, or stand for a picture."""
    tokens = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    tokens |= set(tokenizer.all_special_tokens)
    tokens |= {
        token
        for part in ("image_token", "video_token", "boi_token")
        if (token := getattr(processor, part, ""))
    }
    longest = sorted(
        (token for token in tokens if len(token) > 1 and token.strip()), key=len, reverse=True
    )
    return re.compile("|".join(map(re.escape, longest)) or r"(?!)")


def _class_name(path: Path) -> str | None:
    try:
        return json.loads(path.read_text(encoding="utf-8")).get("processor_class")
    except (OSError, ValueError, AttributeError):
        return None
