"""A generator's own query: its loss on paper, that it finds a hidden rule, and that a generator
takes it along."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

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
from tests.generation.captioner.test_from_backbones import gpt2
from tests.helpers.encoder_checkpoints import vit
from tests.training.conftest import TrainedCaptioner

SMALL = RetrieverTrainingConfig(
    epochs=10, batch_size=4, num_candidates=3, captions=2, rank=4, learning_rate=0.1, held_out=0.25
)


def test_the_loss_and_its_gradient_on_paper() -> None:
    """Two entries, p(z|x) 1/4 and 3/4, that give the text 0.2 and 0.4: p(y|x) = 0.35; the gradient
    by the prior's logits is prior less posterior, the posterior being (0.05, 0.3) / 0.35. A third
    entry is not there."""
    logits = torch.tensor([[0.0, np.log(3.0), -torch.inf]], requires_grad=True)
    likelihood = torch.tensor([[[0.2, 0.4, 0.0]]]).log()
    loss = marginal_loss(logits.log_softmax(-1), likelihood)
    assert loss.item() == pytest.approx(-np.log(0.35))
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[0].tolist() == pytest.approx([1 / 4 - 1 / 7, 3 / 4 - 6 / 7, 0.0], abs=1e-6)


def test_it_finds_a_hidden_rule(tmp_path: Path) -> None:
    """Texts are explained by the entries that lie where the picture's vector turns to: on held-out
    pictures most of what there is to gain is gained."""
    rng = np.random.default_rng(0)

    def units(*shape: int) -> np.ndarray:
        rows = rng.standard_normal(shape, np.float32)
        return rows / np.linalg.norm(rows, axis=-1, keepdims=True)

    turn = np.linalg.qr(rng.standard_normal((8, 8)))[0].astype(np.float32)
    queries, entries = units(600, 8), units(600, 6, 8)
    likelihood = torch.from_numpy(4 * np.einsum("nd,nmd->nm", queries @ turn, entries))[:, None]
    seen = RetrieverData(torch.from_numpy(queries), torch.from_numpy(entries), likelihood)
    config = RetrieverTrainingConfig(
        epochs=100, batch_size=100, rank=8, learning_rate=1e-2, weight_decay=0.0
    )
    step = RetrieverStep(seen.select(slice(500)), config, seen.select(slice(500, 600)))
    fit(step, config.loop(500), tmp_path)
    told = last_figures(tmp_path)
    best = -seen.likelihood[500:].amax(-1).mean().item()
    gained = told["held-out loss, untrained"] - told["held-out loss"]
    assert gained > 0.7 * (told["held-out loss, untrained"] - best)


def test_the_entry_that_explains_a_text_is_the_likeliest(
    trained_captioner: TrainedCaptioner,
) -> None:
    """Of eight entries the one that tells the caption's noun; where there is no entry, there is no
    likelihood."""
    model, data, _ = trained_captioner
    order = np.stack([np.roll(np.arange(8), -i - 3) for i in range(8)])
    assert data.neighbors is not None
    near = replace(
        data.neighbors, entries=np.where(order == 7, -1, order), scores=np.zeros((8, 8), np.float32)
    )
    found = caption_likelihoods(
        model, replace(data, neighbors=near), RetrieverTrainingConfig(num_candidates=8, captions=2)
    )
    assert found.shape == (8, 1, 8)
    assert (found[:, 0].isneginf().numpy() == (order == 7)).all()
    own = order[np.arange(8), found[:, 0].argmax(-1).numpy()]
    assert own[:7].tolist() == list(range(7))


def test_a_generator_takes_its_query_along(
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
    taught = train_retriever(CaptionerGenerator.load(tmp_path / "plain"), pairs, kb, out, SMALL)
    again = CaptionerGenerator.load(out)
    vectors = image_vectors(kb, pairs)
    moved = again.adapt_query(vectors, kb.encoder.fingerprint)
    np.testing.assert_allclose(
        moved, taught.adapt_query(vectors, kb.encoder.fingerprint), atol=2e-3
    )
    assert np.abs(moved - vectors).max() > 0.01
    assert (again.adapt_query(vectors, "another encoder") == vectors).all()
    found = RetrievalAugmentedVLM(kb, generator=again).retrieve("", str(home / "0.png"), k=8)[0]
    plain = RetrievalAugmentedVLM(kb, generator="extractive").retrieve(
        "", str(home / "0.png"), k=8
    )[0]
    assert [hit.score for hit in found.hits] != [hit.score for hit in plain.hits]
    with pytest.raises(InvalidInput, match="already contains a trained generator"):
        train_retriever(taught, pairs, kb, out, SMALL)
    with pytest.raises(InvalidInput, match="Batch size 256 is larger"):
        train_retriever(taught, pairs, kb, tmp_path / "other")
    (out / FILE).write_bytes(b"no weights")
    with pytest.raises(BrokenData, match="Train the retriever again"):
        CaptionerGenerator.load(out)
    asked = [
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
                *asked,
                "--out",
                str(tmp_path / "b"),
                "--batch-size",
                "4",
                "--json",
            ]
        )
        == 1
    )
    assert "encoder" in capsys.readouterr().err  # the base was made with the tests' own


def test_vectors_of_pictures_that_the_base_holds_are_taken_from_there(
    animals: tuple[Path, KnowledgeBase],
) -> None:
    home, kb = animals
    pairs = list(read_pairs(home / "pairs.jsonl"))
    mixed = [pairs[1], replace(pairs[0], image=pairs[2].image), pairs[3]]
    own = kb.encoder.encode_images([pair.image for pair in mixed])
    np.testing.assert_allclose(image_vectors(kb, mixed), own, atol=1e-3)
