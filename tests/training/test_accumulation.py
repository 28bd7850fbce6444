"""Every step that is taken in parts has the loss and the gradient of the whole batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from recipes.starter_generator import Recipe, new_model
from torch.nn import functional as F

from ravlm import runtime
from ravlm.errors import InvalidInput
from ravlm.generation.captioner.tokenizer import train_words
from ravlm.training.caption_dataset import Texts
from ravlm.training.captioning_steps import GeneratorConfig, GeneratorStep
from ravlm.training.language_model import LanguageConfig, LanguageStep, new_decoder
from ravlm.training.retriever import Explained, RetrieverConfig, RetrieverStep
from ravlm.training.trainer import PartedStep
from tests.training.test_generator import CAPTIONS, data

TINY = LanguageConfig(width=32, layers=1, heads=2, batch=8)


def language(accumulate: int) -> PartedStep:
    """Texts of very different lengths, so that a part is no equal share of the words."""
    tokenizer = train_words(CAPTIONS, least=1)
    texts = [" ".join([caption] * (1 + i % 4)) for i, caption in enumerate(CAPTIONS)]
    model = new_decoder(TINY, len(tokenizer))
    return LanguageStep(model, Texts.of(texts, tokenizer), replace(TINY, accumulate=accumulate))


def generator(accumulate: int) -> PartedStep:
    tokenizer = train_words(CAPTIONS, least=1)
    config = GeneratorConfig(
        batch=8, captions=1, k=1, most=1, dropped=0.3, longest=7, accumulate=accumulate
    )
    made = data(tokenizer)
    return GeneratorStep(new_model(Recipe(TINY), len(tokenizer), 2), made, config)


def retriever(_: int) -> PartedStep:
    draw = torch.Generator().manual_seed(0)
    queries, entries = (
        F.normalize(torch.randn(shape, generator=draw), dim=-1) for shape in ((8, 6), (8, 3, 6))
    )
    seen = Explained(queries, entries, torch.randn((8, 2, 3), generator=draw))
    return RetrieverStep(seen, RetrieverConfig(batch=8, rank=2))


STEPS = {"language": language, "generator": generator, "retriever": retriever}


@pytest.mark.parametrize("make", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("accumulate", [3, 8])
def test_parts_add_up_to_the_batch(
    make: Callable[[int], PartedStep], accumulate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "inference_dtype", lambda on: torch.float32)
    found = []
    for times in (1, accumulate):
        step = make(times)
        step.accumulate = times
        losses = step.backward(0, torch.Generator().manual_seed(5))
        found.append(
            (losses, {n: p.grad for n, p in step.model.named_parameters() if p.grad is not None})
        )
    (whole, expected), (parted, gradients) = found
    assert parted == pytest.approx(whole, abs=1e-5)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert gradient is not None
        assert torch.allclose(gradient, expected[name], atol=1e-6, rtol=1e-4), name
    assert max(float(g.abs().max()) for g in gradients.values() if g is not None) > 1e-3


def test_more_parts_than_rows_are_refused() -> None:
    for config in (replace(TINY, accumulate=9), replace(TINY, accumulate=0)):
        with pytest.raises(
            InvalidInput, match=rf"accumulate is {config.accumulate}; 8 rows .* in 1 to 8 parts"
        ):
            config.loop(100)
    with pytest.raises(InvalidInput, match="accumulate is 65"):
        GeneratorConfig(accumulate=65).loop(100)
