"""Short names for checkpoints on the Hugging Face hub (docs/choosing.md).

None of them was run during development, which had no access to the hub; the tests run tiny
checkpoints of the same classes. Sizes follow from the published shapes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EncoderPreset:
    """A checkpoint on the Hugging Face hub and its cost."""

    hub_name: str
    languages: str
    """Training languages, according to the authors."""
    license: str
    """Of the weights, according to the authors."""
    parameters: int
    """In millions; four bytes each in fp32, two in bf16."""
    dim: int
    edge: int
    """Image edge in pixels; that of a typical photo if the model takes images of any size."""
    gflop: float
    """10^9 floating point operations per image of edge x edge pixels. Divide by your processor's
    rate to get seconds."""
    matryoshka_dims: tuple[int, ...] = ()
    """Shorter lengths that the model was trained for but does not list in its configuration."""


_QWEN_DIMS = (64, 128, 256, 512, 768, 1024, 1536)
"""Any length from 64 is trained (model card); these are the ones offered here."""

PRESETS: dict[str, EncoderPreset] = {
    "small": EncoderPreset(
        hub_name="openai/clip-vit-base-patch32",
        languages="English",
        license="not stated (its code: MIT)",
        parameters=151,
        dim=512,
        edge=224,
        gflop=8.8,
    ),
    "medium": EncoderPreset(
        hub_name="google/siglip2-base-patch16-256",
        languages="many, English and Chinese among them",
        license="Apache-2.0",
        parameters=375,
        dim=768,
        edge=256,
        gflop=46.8,
    ),
    "large": EncoderPreset(
        hub_name="google/siglip2-so400m-patch14-384",
        languages="many, English and Chinese among them",
        license="Apache-2.0",
        parameters=1136,
        dim=1152,
        edge=384,
        gflop=670.3,
    ),
    "chinese": EncoderPreset(
        hub_name="OFA-Sys/chinese-clip-vit-base-patch16",
        languages="Chinese",
        license="not stated (its code: MIT)",
        parameters=188,
        dim=512,
        edge=224,
        gflop=35.1,
    ),
    "vlm": EncoderPreset(
        hub_name="Qwen/Qwen3-VL-Embedding-2B",
        languages="more than 30, English and Chinese among them",
        license="Apache-2.0",
        parameters=2128,
        dim=2048,
        edge=1024,
        gflop=7456,
        matryoshka_dims=_QWEN_DIMS,
    ),
    "vlm-large": EncoderPreset(
        hub_name="Qwen/Qwen3-VL-Embedding-8B",
        languages="more than 30, English and Chinese among them",
        license="Apache-2.0",
        parameters=8145,
        dim=4096,
        edge=1024,
        gflop=20627,
        matryoshka_dims=(*_QWEN_DIMS, 2048, 3072),
    ),
}


def preset_of(hub_name: str) -> EncoderPreset | None:
    """Return the preset of a checkpoint on the hub, with or without a commit in its name."""
    name = hub_name.partition("@")[0].lower()
    return next((p for p in PRESETS.values() if p.hub_name.lower() == name), None)
