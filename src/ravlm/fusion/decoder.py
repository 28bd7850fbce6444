"""Our own decoder: a small language model with cross-attention to an image and, gated, to evidence.

Each layer attends to the tokens so far, to the image, and to the evidence (times tanh of a gate
that starts at 0: without evidence and at the beginning of training the model is the closed book);
then comes a feed-forward net. Input and output embeddings are tied. After "Attention Is All You
Need" (Vaswani et al., 2017) and "Flamingo" (Alayrac et al., 2022: gated cross-attention)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithCrossAttentions


class DecoderConfig(PreTrainedConfig):
    """The decoder's shape."""

    model_type = "ravlm-decoder"

    vocab_size: int = 4000
    hidden_size: int = 256
    num_hidden_layers: int = 3
    num_attention_heads: int = 4
    max_position_embeddings: int = 128
    initializer_range: float = 0.02
    is_decoder: bool = True
    tie_word_embeddings: bool = True
    use_cache: bool = True
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    pad_token_id: int | None = 0


class Attention(nn.Module):
    """Multi-head attention to the tokens themselves or to other states."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def keys_values(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Project states (n, s, d) to keys and values (n, heads, s, d / heads)."""
        return self._split_heads(self.key(states)), self._split_heads(self.value(states))

    def forward(self, hidden: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Attend from `hidden` (n, t, d) to `keys` and `values` (rows, heads, s, d / heads).

        n may be a multiple of `rows`: neighboring rows of `hidden` then share one row of keys,
        which is not repeated in memory. `mask` is (rows, 1, 1 or t, s), True to attend."""
        n, t, d = hidden.shape
        rows = keys.shape[0]
        grouped = self.query(hidden).reshape(rows, n // rows * t, d)
        queries = self._split_heads(grouped)  # (rows, heads, n / rows t, d / heads)
        if mask is not None:
            # a softmax over nothing is NaN: such a row attends to all, and its result is unused
            mask = mask | ~mask.any(-1, keepdim=True)
        output = attend(queries, keys, values, mask)
        return self.out(output.transpose(1, 2).reshape(n, t, d))

    def _split_heads(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Return softmax(q k / sqrt(width)) v, masked.

    `queries` are (n, heads, t, width), `keys` and `values` (n, heads, s, width), `mask` True to
    attend. Where gradients are needed on a CPU the formula is written out: the backward pass of
    the fused kernel took six times as long there."""
    if queries.device.type != "cpu" or not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2)  # (n, heads, t, s)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(-1).to(values.dtype) @ values


def feed_forward(width: int) -> nn.Sequential:
    """Return the feed-forward net of a layer, four times as wide inside."""
    return nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


class MixingLayer(nn.Module):
    """Self-attention over states (n, s, d) and a feed-forward net; `mask` is (n, 1, 1, s)."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
        self.self_attention = Attention(width, num_heads)
        self.feed_forward = feed_forward(width)

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        normed = self.norms[0](states)
        keys, values = self.self_attention.keys_values(normed)
        states = states + self.self_attention(normed, keys, values, mask)
        return states + self.feed_forward(self.norms[1](states))


class DecoderLayer(nn.Module):
    """Self-attention, attention to the image, gated attention to the evidence, feed-forward net."""

    def __init__(self, width: int, num_heads: int, index: int) -> None:
        super().__init__()
        self.index = index
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(4)])
        self.self_attention = Attention(width, num_heads)
        self.image_attention = Attention(width, num_heads)
        self.evidence_attention = Attention(width, num_heads)
        self.gate = nn.Parameter(torch.zeros(1))
        self.feed_forward = feed_forward(width)

    def forward(self, hidden: Tensor, mask: Tensor | None, inputs: AttentionInputs) -> Tensor:
        normed = self.norms[0](hidden)
        keys, values = self.self_attention.keys_values(normed)
        if inputs.cache is not None:
            keys, values = inputs.cache.self_attention_cache.update(keys, values, self.index)
        hidden = hidden + self.self_attention(normed, keys, values, mask)
        if inputs.image_states is not None:
            hidden = hidden + self._attend_to_image(hidden, inputs)
        if inputs.evidence_states is not None:
            hidden = hidden + torch.tanh(self.gate) * self._attend_to_evidence(hidden, inputs)
        return hidden + self.feed_forward(self.norms[3](hidden))

    def _attend_to_image(self, hidden: Tensor, inputs: AttentionInputs) -> Tensor:
        attention, states = self.image_attention, inputs.image_states
        keys, values = inputs.keys_values(attention, states, slot=2 * self.index)
        return attention(self.norms[1](hidden), keys, values, inputs.image_mask)

    def _attend_to_evidence(self, hidden: Tensor, inputs: AttentionInputs) -> Tensor:
        attention, states = self.evidence_attention, inputs.evidence_states
        keys, values = inputs.keys_values(attention, states, slot=2 * self.index + 1)
        output = attention(self.norms[2](hidden), keys, values, inputs.evidence_mask)
        return inputs.zero_without_evidence(output)


class AttentionInputs:
    """The states that all layers attend to, and the cache of their keys and values.

    They have `rows` rows; the tokens have n rows, a multiple of it."""

    def __init__(
        self,
        image_states: Tensor | None,
        image_mask: Tensor | None,
        evidence_states: Tensor | None,
        evidence_mask: Tensor | None,
        cache: EncoderDecoderCache | None,
    ) -> None:
        self.image_states = image_states  # (rows, p, d)
        self.image_mask = _broadcastable(image_mask)  # (rows, 1, 1, p)
        self.evidence_states = evidence_states  # (rows, s, d)
        self.evidence_mask = _broadcastable(evidence_mask)  # (rows, 1, 1, s)
        self.cache = cache

    def zero_without_evidence(self, output: Tensor) -> Tensor:
        """Set the attention output (n, t, d) to 0 in the rows that have no evidence."""
        if self.evidence_mask is None:
            return output
        has_evidence = self.evidence_mask.any(-1)[:, :, 0, None]  # (rows, 1, 1)
        return output * has_evidence.repeat_interleave(output.shape[0] // has_evidence.shape[0], 0)

    def keys_values(
        self, attention: Attention, states: Tensor | None, slot: int
    ) -> tuple[Tensor, Tensor]:
        """Return the keys and values of `states`, computed once per `slot` of the cache.

        A decoder layer has two slots, for the image and for the evidence."""
        assert states is not None
        if self.cache is None:
            return attention.keys_values(states)
        cross_cache = self.cache.cross_attention_cache
        if self.cache.is_updated.get(slot):
            return cross_cache.layers[slot].keys, cross_cache.layers[slot].values
        cross_cache.layers.extend(DynamicLayer() for _ in range(slot + 1 - len(cross_cache.layers)))
        self.cache.is_updated[slot] = True
        return cross_cache.update(*attention.keys_values(states), slot)


def _broadcastable(mask: Tensor | None) -> Tensor | None:
    """Return a mask (rows, s) as booleans (rows, 1, 1, s)."""
    return None if mask is None else mask[:, None, None, :].bool()


class EvidenceDecoder(PreTrainedModel, GenerationMixin):
    """A causal language model that can attend to an image and to evidence."""

    config: DecoderConfig
    config_class = DecoderConfig
    base_model_prefix = "decoder"
    _tied_weights_keys: ClassVar[dict[str, str]] = {"head.weight": "embeddings.weight"}
    _supports_sdpa = True
    accepts_loss_kwargs = False
    """The loss is a mean over the batch, not over `num_items_in_batch` of accumulated batches."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.embeddings = nn.Embedding(config.vocab_size, width)
        self.positions = nn.Embedding(config.max_position_embeddings, width)
        self.layers = nn.ModuleList(
            DecoderLayer(width, config.num_attention_heads, index)
            for index in range(config.num_hidden_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.embeddings = value

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def set_output_embeddings(self, value: nn.Linear) -> None:
        self.head = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        use_cache: bool | None = None,
        **states: Any,
    ) -> CausalLMOutputWithCrossAttentions:
        """Predict the token after each of `input_ids` (n, t): logits (n, t, vocabulary).

        `states`: `encoder_hidden_states` (the image's; n is a multiple of their rows),
        `encoder_attention_mask`, `evidence_hidden_states`, `evidence_attention_mask`. `labels`
        (n, t) are the input tokens themselves, -100 to ignore one: the loss is that of the next
        token."""
        hidden = self.embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        cache = past_key_values
        if use_cache and not isinstance(cache, EncoderDecoderCache):
            cache = EncoderDecoderCache(DynamicCache() if cache is None else cache, DynamicCache())
        past = 0 if cache is None else cache.get_seq_length()
        positions, mask = _positions_and_mask(attention_mask, past, hidden)
        hidden = hidden + self.positions(positions)
        inputs = AttentionInputs(
            states.get("encoder_hidden_states"),
            states.get("encoder_attention_mask"),
            states.get("evidence_hidden_states"),
            states.get("evidence_attention_mask"),
            cache,
        )
        for layer in self.layers:
            hidden = layer(hidden, mask, inputs)
        logits = self.head(self.norm(hidden))
        loss = None if labels is None else _next_token_loss(logits, labels)
        return CausalLMOutputWithCrossAttentions(loss=loss, logits=logits, past_key_values=cache)


def _positions_and_mask(
    attention_mask: Tensor | None, past: int, hidden: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Return positions (n or 1, t) and the causal mask (n or 1, 1, t, past + t).

    The mask is None for a single token without padding: it attends to all."""
    t, device = hidden.shape[1], hidden.device
    causal = torch.ones((t, past + t), dtype=torch.bool, device=device).tril(past)[None, None]
    if attention_mask is None or bool(attention_mask.all()):
        positions = torch.arange(past, past + t, device=device)[None]
        return positions, None if t == 1 else causal
    attention_mask = attention_mask.bool()
    positions = (attention_mask.cumsum(1) - 1).clamp(min=0)[:, -t:]
    # a padding token attends to itself: a softmax over nothing is NaN
    diagonal = torch.eye(past + t, dtype=torch.bool, device=device)[past:][None, None]
    return positions, (causal & attention_mask[:, None, None, :]) | diagonal


def _next_token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of each label after the logits of the position before it."""
    predictions = logits[:, :-1].flatten(0, 1).float()
    return F.cross_entropy(predictions, labels[:, 1:].flatten(), ignore_index=-100)
