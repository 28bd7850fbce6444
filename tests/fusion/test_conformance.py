"""One contract for every way in which evidence enters a decoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from ravlm.fusion import FUSIONS
from ravlm.generation.captioner.modeling import CaptionerModel
from tests.helpers.fusion_models import batch, model, words

KINDS = {
    "prefix": ("own", "gpt2", "llama"),
    "cross_attention": ("own", "gpt2", "bert"),
    "marginal": ("own", "gpt2", "bert"),
    "marginal_prefix": ("gpt2", "llama"),
}
EVERY = [(kind, fusion) for fusion, kinds in KINDS.items() for kind in kinds]


def test_every_fusion_is_here() -> None:
    assert set(KINDS) == set(FUSIONS)


@pytest.fixture(params=EVERY, ids=[f"{fusion}-{kind}" for kind, fusion in EVERY])
def made(request: pytest.FixtureRequest) -> CaptionerModel:
    return model(*request.param)


@torch.no_grad()
def test_a_row_alone_is_as_in_a_batch(made: CaptionerModel) -> None:
    """Padding once moved the positions of the words behind it."""
    together = F.log_softmax(made(**batch(), decoder_input_ids=words()).logits, -1)
    for row in range(2):
        kept = 2 - row  # the second picture has one entry, of two tokens
        given = {name: tensor[row : row + 1] for name, tensor in batch().items()}
        given["evidence_states"] = given["evidence_states"][:, :kept, : 5 if row == 0 else 2]
        given["evidence_mask"] = given["evidence_mask"][:, :kept, : 5 if row == 0 else 2]
        given["evidence_scores"] = given["evidence_scores"][:, :kept]
        alone = F.log_softmax(made(**given, decoder_input_ids=words()[row : row + 1]).logits, -1)
        torch.testing.assert_close(alone[0], together[row], atol=2e-4, rtol=1e-3)


@torch.no_grad()
def test_word_by_word_is_as_all_at_once(made: CaptionerModel) -> None:
    sources = made.encoder(**batch())
    whole = made(encoder_outputs=sources, decoder_input_ids=words()).logits
    cache, said = None, []
    for place in range(words().shape[1]):
        word = words()[:, place : place + 1]
        step = made(
            encoder_outputs=sources, decoder_input_ids=word, past_key_values=cache, use_cache=True
        )
        cache = step.past_key_values
        said.append(step.logits)
    torch.testing.assert_close(torch.cat(said, 1), whole, atol=2e-4, rtol=1e-3)


@torch.no_grad()
def test_evidence_counts_and_what_is_no_token_does_not(made: CaptionerModel) -> None:
    given = batch()
    first = made(**given, decoder_input_ids=words()).logits
    given["evidence_states"] = torch.where(
        given["evidence_mask"][..., None], given["evidence_states"], 99.0
    )
    torch.testing.assert_close(made(**given, decoder_input_ids=words()).logits, first)
    given["evidence_states"] = -given["evidence_states"]
    assert (made(**given, decoder_input_ids=words()).logits - first).abs().max() > 0.01


@torch.no_grad()
def test_the_closed_book_is_the_same_path_without_entries(made: CaptionerModel) -> None:
    given = batch()
    none = {"image_states": given["image_states"]}
    empty = none | {
        "evidence_states": given["evidence_states"][:, :0],
        "evidence_mask": given["evidence_mask"][:, :0],
        "evidence_scores": given["evidence_scores"][:, :0],
    }
    closed = made(**none, decoder_input_ids=words()).logits.log_softmax(-1)
    torch.testing.assert_close(
        made(**empty, decoder_input_ids=words()).logits.log_softmax(-1), closed
    )
    given["evidence_mask"] = given["evidence_mask"] & torch.tensor([True, False])[:, None, None]
    mixed = made(**given, decoder_input_ids=words()).logits.log_softmax(-1)
    torch.testing.assert_close(mixed[1], closed[1], atol=1e-4, rtol=1e-3)
    assert (mixed[0] - closed[0]).abs().max() > 0.01


@torch.no_grad()
def test_beams_and_greedy_find_what_scoring_says(made: CaptionerModel) -> None:
    """Beams reorder their caches: rows of entries once moved to another picture's beam."""
    options = {"max_new_tokens": 6, "suppress_tokens": [0], "do_sample": False}
    greedy = made.generate(**batch(), **options)
    beams = made.generate(
        **batch(),
        **options,
        num_beams=3,
        length_penalty=0.0,
        return_dict_in_generate=True,
        output_scores=True,
    )
    scored = []
    for found in (greedy, beams.sequences):
        said = F.log_softmax(made(**batch(), decoder_input_ids=found[:, :-1]).logits.float(), -1)
        ended = (found[:, 1:] == 2).cumsum(1)
        counts = ((ended == 0) | ((ended == 1) & (found[:, 1:] == 2))).float()
        scored.append((said.gather(-1, found[:, 1:, None])[..., 0] * counts).sum(1))
    torch.testing.assert_close(scored[1], beams.sequences_scores, atol=1e-3, rtol=1e-3)
    assert (scored[1] >= scored[0] - 1e-4).all()


def test_the_loss_falls_and_all_that_is_trained_has_a_gradient(made: CaptionerModel) -> None:
    labels = words()
    labels[1, 4:] = -100
    made.train()
    optimiser = torch.optim.Adam(made.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        loss = made(**batch(), labels=labels).loss
        loss.backward()
        if not losses:
            silent = {
                n for n, p in made.named_parameters() if p.grad is None or not p.grad.abs().sum()
            }
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
    prior = "encoder.logit_scale"
    assert (prior in silent) == (not made.fusion.needs_evidence_scores)
    own = {
        name
        for name in silent
        if not name.endswith((".query.bias", ".key.bias", "token_type_embeddings.weight"))
    }
    unused = {"encoder.logit_scale", "decoder.positions.weight"}
    if not made.fusion.needs_cross_attention:
        beside = (".gate", ".image_attention.", ".evidence_attention.", "norms.1", "norms.2")
        own = {name for name in own if not any(part in name for part in beside)}
    assert own <= unused, own


def test_saved_and_loaded_it_says_the_same(made: CaptionerModel, tmp_path: Path) -> None:
    made.save_pretrained(tmp_path / "model")
    again = CaptionerModel.from_pretrained(tmp_path / "model").eval()
    with torch.no_grad():
        said = made(**batch(), decoder_input_ids=words()).logits
        torch.testing.assert_close(again(**batch(), decoder_input_ids=words()).logits, said)
    assert again.generation_config.decoder_start_token_id == 1
