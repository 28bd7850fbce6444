"""Every encoder passes the conformance tests: the starter, and tiny checkpoints of each kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ravlm.encoders.auto import DualEncoder
from ravlm.encoders.base import Encoder
from tests.encoders.conformance import Conformance
from tests.helpers import encoder_checkpoints


def dual_encoder(folder: Path) -> Encoder:
    image, text = (
        encoder_checkpoints.dinov2(folder / "image"),
        encoder_checkpoints.roberta(folder / "text"),
    )
    return DualEncoder.from_backbones(image, text, dim=24)


def load(write: Callable[[Path], Path]) -> Callable[[Path], Encoder]:
    return lambda folder: DualEncoder.load(write(folder / "checkpoint"))


KINDS: dict[str, Callable[[Path], Encoder]] = {
    "starter": lambda folder: DualEncoder.load("starter"),
    **{name: load(write) for name, write in encoder_checkpoints.DUAL.items()},
    "vision-text-dual": dual_encoder,
    "sentence-transformers": load(encoder_checkpoints.sentence),
}


@pytest.fixture(scope="module", params=KINDS)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return KINDS[request.param](tmp_path_factory.mktemp(request.param))


class TestEncoders(Conformance):
    """Each of `KINDS`."""
