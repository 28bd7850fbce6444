"""Training a query: the loss on paper, a hidden rule, saving with the generator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ravlm.cli import main
from ravlm.data.readers import read_pairs
from ravlm.errors import BrokenData, InvalidInput
from ravlm.generation.captioner.from_backbones import captioner_from_backbones
from ravlm.generation.captioner.generator import CaptionerGenerator
from ravlm.knowledge.base import KnowledgeBase
from ravlm.model import RetrievalAugmentedVLM
from ravlm.retrieval.query_adapter import FILE
from ravlm.training.evidence import image_vectors
from ravlm.training.retriever import (
    RetrieverData,
    RetrieverStep,
    RetrieverTrainingConfig,
    caption_likelihoods,
    marginal_loss,
    train_retriever,
)
from ravlm.training.trainer import fit, last_figures
from tests.helpers.encoder_checkpoints import vit
from tests.helpers.language_checkpoints import gpt2
from tests.training.conftest import TrainedCaptioner

SMALL = RetrieverTrainingConfig(
    epochs=10, batch_size=4, num_candidates=3, captions=2, rank=4, learning_rate=0.1, held_out=0.25
)


def test_the_loss_and_its_gradient_on_paper() -> None:
    """Two entries with p(z|x) = 1/4 and 3/4 and p(y|x,z) = 0.2 and 0.4: p(y|x) = 0.35. The gradient
    with respect to the prior's logits is prior minus posterior, which is (0.05, 0.3) / 0.35. The
    third entry is missing."""
    logits = torch.tensor([[0.0, np.log(3.0), -torch.inf]], requires_grad=True)
    likelihood = torch.tensor([[[0.2, 0.4, 0.0]]]).log()
    loss = marginal_loss(logits.log_softmax(-1), likelihood)
    assert loss.item() == pytest.approx(-np.log(0.35))
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[0].tolist() == pytest.approx([1 / 4 - 1 / 7, 3 / 4 - 6 / 7, 0.0], abs=1e-6)


def test_it_learns_a_hidden_rotation(tmp_path: Path) -> None:
    """A rotation of the image's vector points to the entries that explain its captions: on held-out
    images, training gains most of the possible improvement."""
    rng = np.random.default_rng(0)

    def units(*shape: int) -> np.ndarray:
        rows = rng.standard_normal(shape, np.float32)
        return rows / np.linalg.norm(rows, axis=-1, keepdims=True)

    turn = np.linalg.qr(rng.standard_normal((8, 8)))[0].astype(np.float32)
    queries, entries = units(600, 8), units(600, 6, 8)
    likelihood = torch.from_numpy(4 * np.einsum("nd,nmd->nm", queries @ turn, entries))[:, None]
    data = RetrieverData(torch.from_numpy(queries), torch.from_numpy(entries), likelihood)
    config = RetrieverTrainingConfig(
        epochs=100, batch_size=100, rank=8, learning_rate=1e-2, weight_decay=0.0
    )
    step = RetrieverStep(data.select(slice(500)), config, data.select(slice(500, 600)))
    fit(step, config.loop(500), tmp_path)
    figures = last_figures(tmp_path)
    best = -data.likelihood[500:].amax(-1).mean().item()
    gained = figures["held-out loss, untrained"] - figures["held-out loss"]
    assert gained > 0.7 * (figures["held-out loss, untrained"] - best)


def test_the_entry_that_explains_a_caption_has_the_highest_likelihood(
    trained_captioner: TrainedCaptioner,
) -> None:
    """Among eight entries, the one with the caption's noun; a missing entry has no likelihood. The
    only caption of an image is repeated."""
    model, data, _ = trained_captioner
    order = np.stack([np.roll(np.arange(8), -i - 3) for i in range(8)])
    assert data.neighbors is not None
    near = replace(
        data.neighbors, entries=np.where(order == 7, -1, order), scores=np.zeros((8, 8), np.float32)
    )
    likelihood = caption_likelihoods(
        model, replace(data, neighbors=near), RetrieverTrainingConfig(num_candidates=8, captions=2)
    )
    assert likelihood.shape == (8, 2, 8)
    torch.testing.assert_close(likelihood[:, 1], likelihood[:, 0])
    assert (likelihood[:, 0].isneginf().numpy() == (order == 7)).all()
    expected = order[np.arange(8), likelihood[:, 0].argmax(-1).numpy()]
    assert expected[:7].tolist() == list(range(7))


def test_the_query_is_saved_with_the_generator(
    animals: tuple[Path, KnowledgeBase],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home, kb = animals
    with pytest.warns(UserWarning, match="not yet trained"):
        captioner_from_backbones(gpt2(tmp_path / "gpt2"), vit(tmp_path / "vit")).save(
            tmp_path / "plain"
        )
    pairs, out = list(read_pairs(home / "pairs.jsonl")), tmp_path / "out"
    trained = train_retriever(CaptionerGenerator.load(tmp_path / "plain"), pairs, kb, out, SMALL)
    again = CaptionerGenerator.load(out)
    vectors = image_vectors(kb, pairs)
    moved = again.adapt_query(vectors, kb.encoder.fingerprint)
    np.testing.assert_allclose(
        moved, trained.adapt_query(vectors, kb.encoder.fingerprint), atol=2e-3
    )
    assert np.abs(moved - vectors).max() > 0.01
    assert (again.adapt_query(vectors, "another encoder") == vectors).all()
    image = str(home / "0.png")
    adapted = RetrievalAugmentedVLM(kb, generator=again).retrieve(image=image, k=8)[0]
    plain = RetrievalAugmentedVLM(kb, generator="extractive").retrieve(image=image, k=8)[0]
    assert [hit.score for hit in adapted.hits] != [hit.score for hit in plain.hits]
    with pytest.raises(InvalidInput, match="already contains a trained generator"):
        train_retriever(trained, pairs, kb, out, SMALL)
    lines: list[str] = []
    config = replace(SMALL, batch_size=256, epochs=1)
    train_retriever(trained, pairs, kb, tmp_path / "other", config, lines.append)
    assert lines[0].startswith("The batch size is")
    (out / FILE).write_bytes(b"no weights")
    with pytest.raises(BrokenData, match="Train the retriever again"):
        CaptionerGenerator.load(out)
    arguments = [
        "--pairs",
        str(home / "pairs.jsonl"),
        "--kb",
        str(kb.path),
        "--generator",
        str(tmp_path / "plain"),
    ]
    capsys.readouterr()
    assert (
        main(
            [
                "train",
                "retriever",
                *arguments,
                "--out",
                str(tmp_path / "b"),
                "--batch-size",
                "4",
                "--json",
            ]
        )
        == 1
    )
    assert "encoder" in capsys.readouterr().err  # the base has the encoder of the tests


def test_vectors_of_images_in_the_base_are_reused(
    animals: tuple[Path, KnowledgeBase],
) -> None:
    home, kb = animals
    pairs = list(read_pairs(home / "pairs.jsonl"))
    mixed = [pairs[1], replace(pairs[0], image=pairs[2].image), pairs[3]]
    expected = kb.encoder.encode_images([pair.image for pair in mixed])
    np.testing.assert_allclose(image_vectors(kb, mixed), expected, atol=1e-3)


def test_it_trains_on_the_modality_that_the_generator_reads(
    animals: tuple[Path, KnowledgeBase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generator that reads texts had a query that was trained on pictures."""
    home, kb = animals
    with pytest.warns(UserWarning, match="not yet trained"):
        generator = captioner_from_backbones(gpt2(tmp_path / "gpt2"), vit(tmp_path / "vit"))
    generator.settings = replace(generator.settings, evidence_modality="text")
    seen: list[RetrieverData] = []
    make_step = RetrieverStep.__init__

    def record(self: RetrieverStep, data: RetrieverData, *args: Any, **options: Any) -> None:
        seen.append(data)
        make_step(self, data, *args, **options)

    monkeypatch.setattr(RetrieverStep, "__init__", record)
    pairs = list(read_pairs(home / "pairs.jsonl"))
    train_retriever(generator, pairs, kb, tmp_path / "out", replace(SMALL, held_out=0.0, epochs=1))
    entries = seen[0].entries.reshape(-1, kb.encoder.dim).numpy()
    texts = kb.encoder.encode_texts([text for pair in pairs for text in pair.texts])
    nearest = (entries @ texts.T).max(1)
    np.testing.assert_allclose(nearest[np.abs(entries).sum(1) > 0], 1.0, atol=1e-3)
