"""Late-interaction checkpoints give the numbers of Transformers and of sentence-transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ravlm.encoders.auto import DualEncoder
from ravlm.encoders.clip import ClipTowers
from ravlm.encoders.colpali import ColPaliEncoder
from ravlm.encoders.token_vectors import TokenVectors
from ravlm.errors import InvalidInput, Mismatch
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Entry
from ravlm.search.maxsim import maxsim
from tests.encoders.conformance import draw_image, sample_images
from tests.helpers import encoder_checkpoints
from tests.helpers.multi_vector_checkpoints import LATE_INTERACTION, colpali

QUERIES = ["a cat", "two children at the beach with a dog"]


def scores(queries: TokenVectors, pages: TokenVectors) -> np.ndarray:
    """Return MaxSim as the references define it: the sum over the tokens of a query."""
    rows = [maxsim(queries[row], pages.vectors, pages.starts) for row in range(len(queries))]
    return np.stack(rows)


def reference(encoder: ColPaliEncoder, images: list[Any]) -> np.ndarray:
    """Return the scores of Transformers: its processor, its model, its `score_retrieval`."""
    processor, network = encoder._processor, encoder._network
    with torch.inference_mode():
        pages = network(**processor.process_images(images)).embeddings.float()
        queries = network(**processor.process_queries(QUERIES)).embeddings.float()
    result: np.ndarray = processor.score_retrieval(list(queries), list(pages)).numpy()
    return result


@pytest.mark.parametrize("write", LATE_INTERACTION.values(), ids=LATE_INTERACTION)
def test_scores_are_those_of_transformers(write: Callable[[Path], Path], tmp_path: Path) -> None:
    encoder = DualEncoder.load(write(tmp_path / "model"))
    assert isinstance(encoder, ColPaliEncoder)
    images = [image.convert("RGB") for image in sample_images()]
    pages = encoder.encode_image_tokens(images)
    queries = encoder.encode_text_tokens(QUERIES, role="query")
    expected = reference(encoder, images)
    num_tokens = np.diff(queries.starts)[:, None]  # bf16 norms are off by up to 0.4 %
    assert (np.abs(scores(queries, pages) - expected) / num_tokens).max() < 0.004
    assert np.ptp(expected[0]) > 0.1  # the pages differ
    documents = encoder.encode_text_tokens(QUERIES)
    assert (np.diff(documents.starts) < np.diff(queries.starts)).all()  # nothing augments them


def test_token_pooling_keeps_a_third(tmp_path: Path) -> None:
    folder = colpali(tmp_path / "model")
    whole = DualEncoder.load(folder)
    pooled = DualEncoder.load(folder, token_pooling=3)
    assert whole.fingerprint != pooled.fingerprint
    images = sample_images()[:2]
    tokens = pooled.encode_image_tokens(images)
    counts = np.diff(whole.encode_image_tokens(images).starts)
    assert np.diff(tokens.starts).tolist() == (counts // 3).tolist()
    assert np.linalg.norm(tokens.vectors, axis=1) == pytest.approx(1, abs=1e-5)
    queries = [encoder.encode_text_tokens(QUERIES, role="query") for encoder in (whole, pooled)]
    assert queries[0].vectors == pytest.approx(queries[1].vectors, abs=1e-6)
    with pytest.raises(InvalidInput, match="token_pooling is 0; give a whole number"):
        DualEncoder.load(folder, token_pooling=0)
    clip = encoder_checkpoints.clip(tmp_path / "clip")
    with pytest.raises(InvalidInput, match=r"token_pooling is 3, but the encoder .* gives one vec"):
        DualEncoder.load(clip, token_pooling=3)


def test_a_base_of_pages(tmp_path: Path) -> None:
    """Build, search by text and image, reopen by name, add, remove."""
    folder = colpali(tmp_path / "model")
    images = [draw_image(90, 120, seed) for seed in range(6)]
    entries = [Entry(f"p{number}", image, ()) for number, image in enumerate(images)]
    kb = KnowledgeBase.build(tmp_path / "kb", entries, encoder=str(folder))
    encoder = kb.encoder
    queries = encoder.encode_text_tokens(QUERIES[:1], role="query")
    expected = scores(queries, encoder.encode_image_tokens(images))[0] / len(queries[0])
    kb.optimize()
    kb.close()
    with KnowledgeBase.open(tmp_path / "kb") as again:
        hits = again.search(text=QUERIES[0], k=6)
        by_id = {hit.entry.id: hit.score for hit in hits}
        assert [by_id[entry.id] for entry in entries] == pytest.approx(expected.tolist(), abs=3e-3)
        assert again.search(image=images[4], k=1)[0].entry.id == "p4"
        again.add(Entry("p6", draw_image(90, 120, 9)))
        assert again.search(image=draw_image(90, 120, 9), k=1)[0].entry.id == "p6"
        assert again.remove(["p4"]) == 1
        assert again.search(image=images[4], k=1)[0].entry.id != "p4"
        assert again.verify().sound


def test_missing_weights_and_other_models_are_named(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = colpali(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    del weights["embedding_proj_layer.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Mismatch, match=r"missing: embedding_proj_layer\.weight"):
        DualEncoder.load(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["ColQwen2_5"]}))
    with pytest.raises(Mismatch, match=r"ColQwen2_5.*not a class of this version of Transformers"):
        DualEncoder.load(folder)


def test_several_vectors_of_a_dual_encoder_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were refused because image and text had different shapes, by accident."""
    monkeypatch.setattr(ClipTowers, "project", lambda self, pooled, tower: pooled[:, None])
    with pytest.raises(Mismatch, match=r'clip" gives several vectors for an image.*ColPali'):
        DualEncoder.load(encoder_checkpoints.clip(tmp_path / "clip"))


def test_adapters_of_colpali_engine_are_named(tmp_path: Path) -> None:
    """vidore/colpali-v1.3 is an adapter for another package: it had "no config.json"."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "vidore/base"}')
    with pytest.raises(Mismatch, match=r'adapter \(PEFT\) of "vidore/base".*-hf'):
        DualEncoder.load(folder)
