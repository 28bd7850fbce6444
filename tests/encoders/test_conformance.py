"""Every encoder passes the conformance tests: the starter, and tiny checkpoints of each kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ravlm.encoders.auto import DualEncoder
from ravlm.encoders.base import Encoder
from tests.encoders.conformance import Conformance
from tests.helpers import (
    chat_checkpoints,
    embedder_checkpoints,
    encoder_checkpoints,
    family_checkpoints,
    multi_vector_checkpoints,
)


def dual_encoder(folder: Path) -> Encoder:
    image, text = (
        encoder_checkpoints.dinov2(folder / "image"),
        encoder_checkpoints.roberta(folder / "text"),
    )
    return DualEncoder.from_backbones(image, text, dim=24)


def decoder(folder: Path) -> Encoder:
    """A ViT and a decoder that reads 200 tokens."""
    text = chat_checkpoints.qwen2(folder / "qwen2")
    config = json.loads((text / "tokenizer_config.json").read_text())
    (text / "tokenizer_config.json").write_text(json.dumps(config | {"model_max_length": 200}))
    return DualEncoder.from_backbones(encoder_checkpoints.vit(folder / "vit"), text, dim=24)


def load(write: Callable[[Path], Path]) -> Callable[[Path], Encoder]:
    return lambda folder: DualEncoder.load(write(folder / "checkpoint"))


KINDS: dict[str, Callable[[Path], Encoder]] = {
    "starter": lambda folder: DualEncoder.load("starter"),
    **{name: load(write) for name, write in encoder_checkpoints.DUAL.items()},
    "vision-text-dual": dual_encoder,
    "sentence-transformers": load(encoder_checkpoints.sentence),
    "colpali": load(multi_vector_checkpoints.colpali),
    "colqwen2": load(multi_vector_checkpoints.colqwen2),
    "colmodernvbert": load(multi_vector_checkpoints.colmodernvbert),
    "siglip2-fixed": load(embedder_checkpoints.siglip2_fixed),
    "qwen3-vl-embedding": load(embedder_checkpoints.qwen3_vl_embedding),
    "t5-and-clip": lambda folder: DualEncoder.from_backbones(
        encoder_checkpoints.clip(folder / "clip"), family_checkpoints.t5(folder / "t5"), dim=24
    ),
    "decoder": decoder,
}


@pytest.fixture(scope="module", params=KINDS)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return KINDS[request.param](tmp_path_factory.mktemp(request.param))


class TestEncoders(Conformance):
    """Each of `KINDS`."""
