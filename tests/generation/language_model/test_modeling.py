"""The language model that sees: cells of images take the places of image tokens."""

from __future__ import annotations

import pytest
import torch

from ravlm.generation.language_model.modeling import (
    ImageLlama,
    ImageLlamaConfig,
    initial_projection,
)

IMAGE_TOKEN = 9


@pytest.fixture(scope="module")
def model() -> ImageLlama:
    torch.manual_seed(0)
    config = ImageLlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        image_width=12,
        image_tokens=3,
        image_token_id=IMAGE_TOKEN,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = ImageLlama(config).eval()
    model.image_projection.load_state_dict(initial_projection(config))
    return model


def test_cells_replace_the_image_tokens_in_order(model: ImageLlama) -> None:
    ids = torch.tensor([[1, 9, 9, 9, 2], [3, 9, 9, 9, 4]])
    cells = torch.randn(2, 3, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = model(input_ids=ids, image_cells=cells).logits
        embeddings = model.model.embed_tokens(ids)
        embeddings[:, 1:4] = model.image_projection(cells)
        expected = model(inputs_embeds=embeddings).logits
        swapped = model(input_ids=ids, image_cells=cells.flip(0)).logits
    torch.testing.assert_close(logits, expected)
    assert not torch.allclose(logits, swapped, atol=1e-5)


def test_a_prompt_without_an_image_is_read_as_text(model: ImageLlama) -> None:
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        plain = model(input_ids=ids).logits
        with_cells = model(input_ids=ids, image_cells=torch.ones(1, 3, 12)).logits
    torch.testing.assert_close(plain, with_cells)


def test_generated_tokens_depend_on_the_image(model: ImageLlama) -> None:
    """The cells are read with the prompt only; later steps use the cache."""
    ids = torch.tensor([[1, 9, 9, 9, 2]])
    options = {"max_new_tokens": 6, "do_sample": False, "use_cache": True}
    cells = 40 * torch.randn(4, 1, 3, 12, generator=torch.Generator().manual_seed(2))
    texts = {
        tuple(model.generate(input_ids=ids, image_cells=image, **options)[0].tolist())
        for image in cells
    }
    assert len(texts) > 1
    (cached,) = model.generate(input_ids=ids, image_cells=cells[0], **options).tolist()
    uncached = model.generate(
        input_ids=ids, image_cells=cells[0], **{**options, "use_cache": False}
    )
    assert cached == uncached[0].tolist()


def test_the_initial_projection_does_not_depend_on_the_random_state(model: ImageLlama) -> None:
    torch.manual_seed(5)
    first = initial_projection(model.config)
    state = torch.get_rng_state()
    second = initial_projection(model.config)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)
