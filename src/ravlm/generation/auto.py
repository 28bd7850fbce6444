"""From a name, a folder or an address to a generator. Knows which kinds there are; each is made by
its own module."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from ravlm.checkpoint import read_checkpoint_config
from ravlm.encoders.hub_files import find_folder
from ravlm.errors import InvalidInput, did_you_mean
from ravlm.generation.base import Generator, Request
from ravlm.generation.chat.openai_client import is_address
from ravlm.generation.consensus_caption import consensus
from ravlm.generation.extractive.generator import ExtractiveGenerator
from ravlm.generation.presets import PRESETS
from ravlm.knowledge.base import KnowledgeBase

GeneratorName: TypeAlias = "str | os.PathLike[str] | Generator"
Base: TypeAlias = "KnowledgeBase | None"
_HOST = re.compile(r"[\w.-]+:\d+(/|$)")


def _extractive(kb: Base) -> Generator:
    if kb is None:
        raise InvalidInput(
            'The generator "extractive" reads a knowledge base; give kb=, or a generator with weights.'
        )
    return ExtractiveGenerator(kb.encoder)


def _chat(folder: Path, name: str, kb: Base) -> Generator:
    from ravlm.generation.chat.generator import ChatGenerator

    return ChatGenerator(folder, name=name, describe=describe)


def _remote(address: str) -> Generator:
    from ravlm.generation.chat.openai_compatible import RemoteGenerator

    return RemoteGenerator(address, describe=describe)


def _fused(folder: Path, name: str, kb: Base) -> Generator:
    from ravlm.generation.captioner.generator import CaptionerGenerator

    generator = CaptionerGenerator.load(folder, others=extractive_over(kb))
    generator.name = name
    return generator


def _starter(kb: Base) -> Generator:
    from ravlm.generation.captioner.generator import STARTER_GENERATOR

    return _fused(STARTER_GENERATOR, "starter", kb)


GENERATORS: dict[str, Callable[[Base], Generator]] = {
    "extractive": _extractive,
    "starter": _starter,
}
"""Generators that come with ravlm, by name."""
KINDS: dict[str, Callable[[Path, str, Base], Generator]] = {"ravlm-fused": _fused}
"""`model_type` of a folder's config.json -> its loader, given the folder, the name to be found by
and the base. What is not here is a model of Transformers that talks."""


def load_generator(name: GeneratorName, kb: Base) -> Generator:
    """The generator of that name, address (http://host:port/v1#model), folder or hub name; a
    Generator as it is.

    Raises InvalidInput for a name that is none of these, and what the generator's own loading
    raises."""
    if isinstance(name, Generator):
        return name
    text = str(name)
    if text in GENERATORS:
        return GENERATORS[text](kb)
    if is_address(text):
        return _remote(text)
    is_folder = Path(text).expanduser().is_dir()
    if text in PRESETS and not is_folder:
        text = PRESETS[text].hub_name
    if _HOST.match(text) and not is_folder:
        raise InvalidInput(
            f'The generator is "{text}"; an address begins with http:// or https://: http://{text}.'
        )
    if not is_folder and text.count("/") != 1:
        short = [*GENERATORS, *PRESETS]
        raise InvalidInput(
            f'The generator is "{text}"; allowed: {", ".join(short)}, a folder, a hub name (owner/model), an address '
            f"(http://host:port/v1), or a Generator object.{did_you_mean(text, short)}"
        )
    folder = find_folder(text)
    kind = KINDS.get(read_checkpoint_config(folder).get("model_type", ""), _chat)
    return kind(folder, str(folder) if is_folder else text, kb)


def extractive_over(kb: Base) -> Generator | None:
    """Who does what a generator of captions does not."""
    return ExtractiveGenerator(kb.encoder) if kb is not None else None


def describe(request: Request) -> str:
    """What a request's picture shows, for a model that can't see: what the base's pictures like it
    are said to show."""
    if not request.evidence.hits or request.evidence.subject:
        return ""
    return consensus(request.evidence, request.chinese)[0]
