"""Generators of the hub under short names: what `generator="small"` fetches. See docs/choosing.md.

None of them was run here, where there is no hub; tiny checkpoints of the same classes are, in the
tests. Sizes are counted from the published shapes. Knows no loader."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A checkpoint of the hub and what it costs."""

    hub_name: str
    languages: str
    """What it writes well, as its authors say."""
    parameters: int
    """In millions; four bytes each in fp32, two in bf16."""


PRESETS: dict[str, Preset] = {  # not run here
    "small": Preset("HuggingFaceTB/SmolVLM-500M-Instruct", "English", 507),
    "medium": Preset("Qwen/Qwen2-VL-2B-Instruct", "many, English and Chinese among them", 2209),
    "large": Preset("Qwen/Qwen2.5-VL-7B-Instruct", "many, English and Chinese among them", 8292),
}
