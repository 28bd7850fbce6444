"""Encoders of the hub under short names: what `DualEncoder.load("small")` fetches. See
docs/choosing.md.

None of them was run here, where there is no hub; tiny checkpoints of the same classes are, in the
tests. Sizes are counted from the published shapes. Knows no loader."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A checkpoint of the hub and what it costs."""

    hub_name: str
    languages: str
    """What it was trained on, as its authors say."""
    parameters: int
    """In millions; four bytes each in fp32, two in bf16."""
    dim: int
    edge: int
    """Pixels a side."""
    gflop: float
    """10^9 operations for one picture: divided by what a processor does in a second, the seconds it
    takes."""


PRESETS: dict[str, Preset] = {  # not run here
    "small": Preset("openai/clip-vit-base-patch32", "English", 151, 512, 224, 8.8),
    "medium": Preset(
        "google/siglip2-base-patch16-256",
        "many, English and Chinese among them",
        375,
        768,
        256,
        46.8,
    ),
    "large": Preset(
        "google/siglip2-so400m-patch14-384",
        "many, English and Chinese among them",
        1136,
        1152,
        384,
        670.3,
    ),
    "chinese": Preset("OFA-Sys/chinese-clip-vit-base-patch16", "Chinese", 188, 512, 224, 35.1),
}
