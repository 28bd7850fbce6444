"""One contract for every fusion, with every decoder that it works with."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ravlm.fusion import FUSIONS, fusion_class
from ravlm.generation.captioner.modeling import CaptionerModel
from tests.helpers.fusion_conformance import CHECKS
from tests.helpers.fusion_models import decoders_for, small_model

CASES = [(fusion, decoder) for fusion in FUSIONS for decoder in decoders_for(fusion)]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize(("fusion", "decoder"), CASES)
def test_contract(fusion: str, decoder: str, check: Callable[[CaptionerModel], None]) -> None:
    check(small_model(decoder, fusion))


def test_capabilities_are_declared() -> None:
    """A name says nothing to the code: these attributes decide what a model is built of."""
    needs_cross_attention = {n for n in FUSIONS if fusion_class(n).needs_cross_attention}
    assert needs_cross_attention == {"cross_attention", "marginal"}
    separate = {n for n in FUSIONS if fusion_class(n).reads_entries_separately}
    assert separate == {n for n in FUSIONS if fusion_class(n).needs_evidence_scores}
    assert separate == {"marginal", "marginal_prefix"}
    sharing = {
        (fusion, decoder)
        for fusion, decoder in CASES
        if small_model(decoder, fusion).fusion.shares_inputs
    }
    assert sharing == {("cross_attention", "own")}
