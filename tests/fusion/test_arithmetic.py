"""Attention, gates and marginalization against arithmetic on paper."""

from __future__ import annotations

import math

import pytest
import torch

from ravlm.errors import InvalidInput
from ravlm.fusion import check_fusion
from ravlm.fusion.cross_attention import gate_cross_attention
from ravlm.fusion.decoder import Attention
from ravlm.fusion.marginal import marginal_log_probs, sequence_log_likelihood
from ravlm.generation.captioner.modeling import CaptionerModel
from tests.helpers.fusion_models import batch, small_model, token_ids


def test_attention_on_paper() -> None:
    """One head of width 1: scores 0 and log 3 give shares 1/4 and 3/4; and two heads against a
    plain loop."""
    one = Attention(1, 1)
    with torch.no_grad():
        for layer in (one.query, one.key, one.value, one.out):
            layer.weight.fill_(1.0)
            if layer.bias is not None:
                layer.bias.zero_()
        states = torch.tensor([[[0.0], [math.log(3)]]])
        output = one(torch.ones(1, 1, 1), *one.keys_values(states), None)
        assert float(output) == pytest.approx(0.75 * math.log(3))
        two, w, m = Attention(6, 2), torch.randn(2, 4, 6), torch.randn(2, 3, 6)
        mask = torch.tensor([[True, True, False], [True, True, True]])
        q, k, v = two.query(w), two.key(m), two.value(m)
        heads = []
        for c in (slice(0, 3), slice(3, 6)):
            scores = (q[..., c] @ k[..., c].transpose(1, 2) / math.sqrt(3)).masked_fill(
                ~mask[:, None], -torch.inf
            )
            heads.append(scores.softmax(-1) @ v[..., c])
        expected = two.out(torch.cat(heads, -1))
        torch.testing.assert_close(two(w, *two.keys_values(m), mask[:, None, None]), expected)


def test_tokens_are_mixed_by_the_prior() -> None:
    """Two entries, two tokens: 0.25 x 0.9 + 0.75 x 0.2 = 0.375."""
    logits = (
        torch.tensor([[[[0.9, 0.1]], [[0.2, 0.8]]]]).log() + 7.0
    )  # a constant does not change the softmax
    mixed = marginal_log_probs(logits, torch.tensor([[0.25, 0.75]]).log()).exp()
    torch.testing.assert_close(mixed, torch.tensor([[[0.375, 0.625]]]))


def test_a_sequence_is_mixed_as_a_whole() -> None:
    """0.25 x (0.9 x 0.5) + 0.75 x (0.2 x 0.4) = 0.1725; mixed token by token it would be 0.375 x
    0.425 = 0.159."""
    logits = torch.tensor(
        [[[[0.9, 0.1], [0.5, 0.5], [1.0, 1.0]], [[0.2, 0.8], [0.6, 0.4], [1.0, 1.0]]]]
    ).log()
    labels = torch.tensor([[0, 1, -100]])
    prior = torch.tensor([[0.25, 0.75]]).log().requires_grad_()
    likelihood = sequence_log_likelihood(logits, labels, prior)
    assert math.exp(float(likelihood.detach())) == pytest.approx(0.1725)
    likelihood.sum().backward()
    assert prior.grad is not None  # the posterior of each entry: 0.1125 / 0.1725
    torch.testing.assert_close(prior.grad, torch.tensor([[0.6521739, 0.3478261]]))


def test_the_marginal_loss_is_that_of_a_loop_over_entries() -> None:
    """Against a plain loop over entries, with the gradient that reaches the scores, and so a query
    encoder."""
    model, inputs, labels = small_model("own", "marginal"), batch(), token_ids()
    missing = torch.isinf(inputs["evidence_scores"])
    scores = inputs["evidence_scores"].masked_fill(missing, 0.1).requires_grad_()
    inputs["evidence_mask"][1, 1] = True
    loss = model(**inputs | {"evidence_scores": scores}, labels=labels).loss
    loss.backward()
    assert scores.grad is not None
    assert (scores.grad.abs() > 1e-6).all()
    expected = 0.0
    with torch.no_grad():
        log_prior = torch.log_softmax(scores * model.encoder.logit_scale.exp(), -1)
        for row in range(2):
            likelihoods = [_log_likelihood(model, inputs, row, entry) for entry in range(2)]
            expected -= float(torch.logsumexp(log_prior[row] + torch.stack(likelihoods), 0))
    assert float(loss.detach()) == pytest.approx(expected / labels.numel(), rel=1e-4)


def _log_likelihood(
    model: CaptionerModel, inputs: dict[str, torch.Tensor], row: int, entry: int
) -> torch.Tensor:
    """Return the log-likelihood of a row's text, given one of its entries alone."""
    labels = token_ids()
    single = {
        name: inputs[name][row : row + 1, entry : entry + 1]
        for name in ("evidence_states", "evidence_mask")
    }
    logits = model(
        image_states=inputs["image_states"][row : row + 1],
        evidence_scores=torch.zeros(1, 1),
        decoder_input_ids=model.shift_right(labels)[row : row + 1],
        **single,
    ).logits
    return logits.log_softmax(-1).gather(-1, labels[row][None, :, None]).sum()


@torch.no_grad()
@pytest.mark.parametrize("kind", ["own", "gpt2", "bert"])
def test_a_closed_gate_hides_the_evidence(kind: str) -> None:
    """New layers leave a language model unchanged until they are trained."""
    model = small_model(kind, "cross_attention")
    for name, parameter in model.named_parameters():
        if name.endswith("gate"):
            parameter.zero_()
    inputs = batch()
    first = model(**inputs, decoder_input_ids=token_ids()).logits
    inputs["evidence_states"] = inputs["evidence_states"] + 3
    torch.testing.assert_close(model(**inputs, decoder_input_ids=token_ids()).logits, first)


def test_captions_of_an_image_share_its_states() -> None:
    """Five captions of a photo share its states: they are not repeated, and nothing else
    changes."""
    model, inputs = small_model("own", "cross_attention"), batch()
    twice = token_ids().repeat_interleave(2, 0)
    twice[1::2, 1:] += 1
    with torch.no_grad():
        shared = model(**inputs, decoder_input_ids=twice).logits
        repeated = model(
            **{n: t.repeat_interleave(2, 0) for n, t in inputs.items()}, decoder_input_ids=twice
        ).logits
    torch.testing.assert_close(shared, repeated, atol=1e-5, rtol=1e-4)


def test_errors_name_the_problem() -> None:
    with pytest.raises(InvalidInput, match='Unknown fusion "prefiks"; allowed: prefix'):
        check_fusion("prefiks")
    with pytest.raises(InvalidInput, match="LlamaForCausalLM has no cross-attention"):
        gate_cross_attention(small_model("llama", "prefix").decoder)
    with pytest.raises(InvalidInput, match="mixing_layers"):
        small_model("own", "marginal", mixing_layers=1)
    model = small_model("own", "cross_attention")
    with pytest.raises(InvalidInput, match="no vision tower"):
        model(pixel_values=torch.zeros(1, 3, 8, 8), labels=token_ids()[:1])
    with pytest.raises(InvalidInput, match="neither an image nor evidence"):
        model(labels=token_ids()[:1])
