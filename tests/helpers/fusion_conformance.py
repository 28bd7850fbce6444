"""The contract of a fusion: `CHECKS`, each a function of a fresh small model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from torch.nn import functional as F

from ravlm.generation.captioner.modeling import CaptionerModel
from tests.helpers.fusion_models import batch, token_ids

_UNUSED_WEIGHTS = {"encoder.logit_scale", "decoder.positions.weight"}
_ATTENTION_PARTS = (".gate", ".image_attention.", ".evidence_attention.", "norms.1", "norms.2")
"""Weights of our own decoder that a prefix does not use."""
_NO_GRADIENT = (".query.bias", ".key.bias", "token_type_embeddings.weight")


def log_probs(model: CaptionerModel, inputs: dict[str, Tensor], ids: Tensor) -> Tensor:
    return model(**inputs, decoder_input_ids=ids).logits.log_softmax(-1)


@torch.no_grad()
def check_a_row_alone_is_as_in_a_batch(model: CaptionerModel) -> None:
    """Padding once moved the positions of the tokens after it."""
    together = log_probs(model, batch(), token_ids())
    for row, (num_entries, length) in enumerate([(2, 5), (1, 2)]):
        inputs = {name: tensor[row : row + 1] for name, tensor in batch().items()}
        for name in ("evidence_states", "evidence_mask"):
            inputs[name] = inputs[name][:, :num_entries, :length]
        inputs["evidence_scores"] = inputs["evidence_scores"][:, :num_entries]
        alone = log_probs(model, inputs, token_ids()[row : row + 1])
        torch.testing.assert_close(alone[0], together[row], atol=2e-4, rtol=1e-3)


@torch.no_grad()
def check_token_by_token_is_as_all_at_once(model: CaptionerModel) -> None:
    inputs = model.encoder(**batch())
    whole = model(encoder_outputs=inputs, decoder_input_ids=token_ids()).logits
    cache, steps = None, []
    for position in range(token_ids().shape[1]):
        output = model(
            encoder_outputs=inputs,
            decoder_input_ids=token_ids()[:, position : position + 1],
            past_key_values=cache,
            use_cache=True,
        )
        cache = output.past_key_values
        steps.append(output.logits)
    torch.testing.assert_close(torch.cat(steps, 1), whole, atol=2e-4, rtol=1e-3)


@torch.no_grad()
def check_evidence_counts_and_padding_does_not(model: CaptionerModel) -> None:
    inputs = batch()
    first = model(**inputs, decoder_input_ids=token_ids()).logits
    mask = inputs["evidence_mask"][..., None]
    inputs["evidence_states"] = torch.where(mask, inputs["evidence_states"], 99.0)
    padded = model(**inputs, decoder_input_ids=token_ids()).logits
    torch.testing.assert_close(padded, first)
    inputs["evidence_states"] = -inputs["evidence_states"]
    assert (model(**inputs, decoder_input_ids=token_ids()).logits - first).abs().max() > 0.01


@torch.no_grad()
def check_the_closed_book_is_the_same_path_without_entries(model: CaptionerModel) -> None:
    inputs = batch()
    no_evidence = {"image_states": inputs["image_states"]}
    empty = {
        name: tensor if name == "image_states" else tensor[:, :0] for name, tensor in inputs.items()
    }
    closed = log_probs(model, no_evidence, token_ids())
    torch.testing.assert_close(log_probs(model, empty, token_ids()), closed)
    has_evidence = torch.tensor([True, False])[:, None, None]
    inputs["evidence_mask"] = inputs["evidence_mask"] & has_evidence
    mixed = log_probs(model, inputs, token_ids())
    torch.testing.assert_close(mixed[1], closed[1], atol=1e-4, rtol=1e-3)
    assert (mixed[0] - closed[0]).abs().max() > 0.01


@torch.no_grad()
def check_beams_and_greedy_find_what_scoring_says(model: CaptionerModel) -> None:
    """Beams reorder their caches: rows of entries once moved to the beam of another image."""
    options = {"max_new_tokens": 6, "suppress_tokens": [0], "do_sample": False}
    greedy = model.generate(**batch(), **options)
    beams = model.generate(
        **batch(),
        **options,
        num_beams=3,
        length_penalty=0.0,
        return_dict_in_generate=True,
        output_scores=True,
    )
    greedy_score, beam_score = (_sequence_scores(model, ids) for ids in (greedy, beams.sequences))
    torch.testing.assert_close(beam_score, beams.sequences_scores, atol=1e-3, rtol=1e-3)
    assert (beam_score >= greedy_score - 1e-4).all()


def _sequence_scores(model: CaptionerModel, ids: Tensor) -> Tensor:
    """Return the log-likelihoods (n,) of sequences (n, t), up to their end token."""
    scores = F.log_softmax(model(**batch(), decoder_input_ids=ids[:, :-1]).logits.float(), -1)
    is_end = ids[:, 1:] == 2
    num_ends = is_end.cumsum(1)
    mask = ((num_ends == 0) | ((num_ends == 1) & is_end)).float()
    return (scores.gather(-1, ids[:, 1:, None])[..., 0] * mask).sum(1)


def check_the_loss_falls_and_every_trained_weight_has_a_gradient(model: CaptionerModel) -> None:
    labels = token_ids()
    labels[1, 4:] = -100
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = model(**batch(), labels=labels).loss
        loss.backward()
        if not losses:
            silent = {
                name
                for name, parameter in model.named_parameters()
                if parameter.grad is None or not parameter.grad.abs().sum()
            }
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
    assert ("encoder.logit_scale" in silent) == (not model.fusion.needs_evidence_scores)
    silent = {name for name in silent if not name.endswith(_NO_GRADIENT)}
    if not model.fusion.needs_cross_attention:
        silent = {name for name in silent if not any(part in name for part in _ATTENTION_PARTS)}
    assert silent <= _UNUSED_WEIGHTS, silent


def check_a_saved_model_gives_the_same_logits(model: CaptionerModel) -> None:
    with TemporaryDirectory() as folder:
        model.save_pretrained(Path(folder) / "model")
        loaded = CaptionerModel.from_pretrained(Path(folder) / "model").eval()
    with torch.no_grad():
        logits = model(**batch(), decoder_input_ids=token_ids()).logits
        loaded_logits = loaded(**batch(), decoder_input_ids=token_ids()).logits
    torch.testing.assert_close(loaded_logits, logits)
    assert loaded.generation_config.decoder_start_token_id == 1


CHECKS: tuple[Callable[[CaptionerModel], None], ...] = (
    check_a_row_alone_is_as_in_a_batch,
    check_token_by_token_is_as_all_at_once,
    check_evidence_counts_and_padding_does_not,
    check_the_closed_book_is_the_same_path_without_entries,
    check_beams_and_greedy_find_what_scoring_says,
    check_the_loss_falls_and_every_trained_weight_has_a_gradient,
    check_a_saved_model_gives_the_same_logits,
)
