"""Processors of Transformers: tokenizer and image processor of a model that reads both.

They are read on Pillow, and without the parts for video and audio, which need other packages.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ravlm.checkpoint import read_json_object
from ravlm.encoders.transformers_io import read_part
from ravlm.errors import BrokenData, Mismatch

_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
"""Files that may name the processor's class."""
_UNUSED_PARTS = ("video", "audio", "feature_extractor")
"""Beginnings of the names of a processor's parts that read neither text nor images."""


def read_processor(folder: Path, name: str, config: Any, **options: Any) -> Any:
    """Read the checkpoint's processor, on Pillow and without its parts for video and audio.

    `options` override its settings. Raises Mismatch for a checkpoint without a processor that
    Transformers knows, or with one that needs torchvision.
    """
    processor_class = processor_class_of(folder, config)
    if processor_class is None:
        raise Mismatch(
            f'The checkpoint "{name}" has no processor that Transformers knows. Update '
            "Transformers, or use a different checkpoint."
        )
    if _needs_torchvision(processor_class, config):
        raise Mismatch(
            f'The processor of "{name}", a "{config.model_type}" model, needs the package '
            '"torchvision", which is not installed; install the version for your torch: '
            "https://pytorch.org/get-started/locally/"
        )
    if any(map(_is_unused, processor_class.get_attributes())):
        processor_class = _without_unused_parts(processor_class)
    return read_part(
        processor_class.from_pretrained, folder, name, "processor", **options, backend="pil"
    )


def _is_unused(attribute: str) -> bool:
    return attribute.startswith(_UNUSED_PARTS)


def _without_unused_parts(processor_class: Any) -> Any:
    """Return a subclass of a processor's class in which the unused parts are None."""
    from transformers import ProcessorMixin

    attributes = list(processor_class.get_attributes())
    used_parts = [attribute for attribute in attributes if not _is_unused(attribute)]

    class UsedParts(ProcessorMixin):
        """Base class that the processor's class passes all parts to; it drops the unused ones."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            parts = dict(zip(attributes, args, strict=False)) | kwargs
            super().__init__(**{key: part for key, part in parts.items() if not _is_unused(key)})

        @classmethod
        def _get_arguments_from_pretrained(cls, *args: Any, **kwargs: Any) -> list[Any]:
            parts = iter(super()._get_arguments_from_pretrained(*args, **kwargs))
            return [next(parts) if attribute in used_parts else None for attribute in attributes]

    namespace = {attribute: None for attribute in attributes if attribute not in used_parts}
    return type(
        processor_class.__name__,
        (processor_class, UsedParts),
        {"get_attributes": classmethod(lambda cls: used_parts), **namespace},
    )


def processor_class_of(folder: Path, config: Any) -> Any:
    """Return the class of the checkpoint's processor; None if it has none that Transformers
    knows."""
    from transformers.models.auto.processing_auto import (
        PROCESSOR_MAPPING,
        processor_class_from_name,
    )

    class_names = (_read_class_name(folder / file) for file in _PROCESSOR_FILES)
    class_name = next((class_name for class_name in class_names if class_name), None)
    if class_name:
        return processor_class_from_name(class_name)
    return PROCESSOR_MAPPING.get(type(config), None)


def _needs_torchvision(processor_class: Any, config: Any) -> bool:
    """Return whether Transformers prepares a model's images with torchvision, which is missing."""
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
    from transformers.utils import is_torchvision_available

    if getattr(processor_class, "is_dummy", False):  # as Pixtral's
        return True
    backends = IMAGE_PROCESSOR_MAPPING_NAMES.get(config.model_type, {})
    return bool(backends) and "pil" not in backends and not is_torchvision_available()


def _read_class_name(path: Path) -> str | None:
    try:
        name = read_json_object(path).get("processor_class")
    except BrokenData:
        return None
    return name if isinstance(name, str) else None
