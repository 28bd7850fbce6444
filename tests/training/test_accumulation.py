"""Every accumulating step has the loss and the gradient of the whole batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from ravlm import runtime
from ravlm.errors import InvalidInput
from ravlm.training.captioning_steps import GeneratorTrainingConfig
from ravlm.training.trainer import AccumulatingStep
from tests.helpers.training_data import ACCUMULATING_STEPS, TINY_LANGUAGE_MODEL


@pytest.mark.parametrize("make", ACCUMULATING_STEPS.values(), ids=ACCUMULATING_STEPS)
@pytest.mark.parametrize("accumulate", [3, 8])
def test_parts_add_up_to_the_batch(
    make: Callable[[int], AccumulatingStep], accumulate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "inference_dtype", lambda on: torch.float32)
    results = []
    for times in (1, accumulate):
        step = make(times)
        step.accumulate = times
        losses = step.backward(0, torch.Generator().manual_seed(5))
        results.append(
            (losses, {n: p.grad for n, p in step.model.named_parameters() if p.grad is not None})
        )
    (expected_losses, expected), (parted, gradients) = results
    assert parted == pytest.approx(expected_losses, abs=1e-5)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert gradient is not None
        assert torch.allclose(gradient, expected[name], atol=1e-6, rtol=1e-4), name
    assert max(float(g.abs().max()) for g in gradients.values() if g is not None) > 1e-3


def test_more_parts_than_rows_are_refused() -> None:
    for config in (
        replace(TINY_LANGUAGE_MODEL, accumulate=9),
        replace(TINY_LANGUAGE_MODEL, accumulate=0),
    ):
        with pytest.raises(
            InvalidInput, match=rf"accumulate is {config.accumulate}, .* 8 rows .* 1 to 8 parts"
        ):
            config.loop(100)
    with pytest.raises(InvalidInput, match="accumulate is 65"):
        GeneratorTrainingConfig(accumulate=65).loop(100)
